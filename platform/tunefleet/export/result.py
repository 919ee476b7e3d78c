"""What came out of an export. Imports ``api`` alone."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from tunefleet.api.base import Document

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""


class Form(StrEnum):
    """What a bundle can be exported to."""

    HF = "hf"
    ONNX = "onnx"
    GGUF = "gguf"
    OCI = "oci"
    HUB = "hub"


class Exported(Document):
    """``out`` is a folder or an address; ``digest`` is the bundle's, ``checked`` says how the
    export was proved; ``files`` and ``bytes`` count what was written or sent.
    """

    version: int = 1
    to: Form
    bundle: str
    digest: str
    out: str
    files: int
    bytes: int
    checked: str
