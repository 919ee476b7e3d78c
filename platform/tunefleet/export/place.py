"""Where an export goes: written beside its place and put there when it is whole.

Decides that nothing half-made is ever seen under the wanted name, and that a folder which holds
something is replaced only by ``force``. Imports ``api``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tunefleet.api.errors import SpecError


@contextmanager
def draft_of(out: Path, *, force: bool, source: Path) -> Iterator[Path]:
    """A folder to write into; it becomes ``out`` when the block ends well, else it is gone.

    Raises ``SpecError`` when ``out`` holds something and ``force`` is off, is a file, or is or
    lies around ``source``, the bundle that is exported.
    """
    out = Path(os.path.abspath(out))
    refuse(out, force=force, source=source)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    draft.chmod(0o755)
    try:
        yield draft
        if out.exists():
            shutil.rmtree(out)
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse(out: Path, *, force: bool, source: Path) -> None:
    """Raise ``SpecError`` for a place that must not be written."""
    real, bundle = out.resolve(), source.resolve()
    if bundle == real or bundle.is_relative_to(real) or real.is_relative_to(bundle):
        raise SpecError(f"{out} is the bundle's own folder", remedy="give another folder to --out")
    if out.exists() and not out.is_dir():
        raise SpecError(f"{out} is a file", remedy="give a folder to --out")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise SpecError(
            f"{out} is not empty; it was left as it is",
            remedy="give another folder to --out, or --force to replace this one",
        )


def measure(folder: Path) -> tuple[int, int]:
    """(files, bytes) below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
