"""Size and sha256 of a file on this machine.

Decides how a large file is read for that: the disk is told to read on while what is there is
hashed. Imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def digest_of_file(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 (hex) of a file; raises ``OSError``."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        sha = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha
