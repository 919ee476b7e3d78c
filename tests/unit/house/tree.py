"""The project's own files, as the house tests read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def project_files(*suffixes: str) -> list[Path]:
    """Files that are tracked, or would be if they were added now; all without suffixes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    paths = [ROOT / name for name in listed if name]
    return sorted(p for p in paths if p.is_file() and (not suffixes or p.suffix in suffixes))


def modules() -> list[Path]:
    """Every module of the product, the benchmarks and the jobs."""
    return [p for p in project_files(".py") if p.relative_to(ROOT).parts[0] != "tests"]


def name_of(path: Path) -> str:
    """A file's path in the project, for test ids."""
    return path.relative_to(ROOT).as_posix()
