"""The plain Hugging Face folder of a bundle, with or without tunefleet's side-car.

Decides which files of a bundle belong to it: all that ``from_pretrained`` and the model card's
readers look at. Imports ``api`` and ``evaluate.golden``'s name of the side-car.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tunefleet.export.result import Progress
from tunefleet.storage.bundle import SEAL

SIDECAR = SEAL.partition("/")[0]


def files_of(bundle: Path, *, sidecar: bool) -> list[str]:
    """Names of the files to take, sorted; hidden ones are nobody's."""
    names = (path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if not any(part.startswith(".") for part in name.parts)
        and (sidecar or name.parts[0] != SIDECAR)
    )


def copy_files(bundle: Path, draft: Path, names: Sequence[str], progress: Progress) -> None:
    """Copy files by name."""
    for done, name in enumerate(names, 1):
        target = draft / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target)
        progress("copying", done, len(names))
