"""Why a training process ended early, in words a person can act on.

Decides the class of an exception (only some can be mended by starting again) and its
message. Imports torch for its error types.
"""

from __future__ import annotations

import traceback

import torch

from tunefleet.api.errors import DataError, ModelError, SpecError, StorageError, TunefleetError
from tunefleet.api.words import FailureClass


class DivergedError(TunefleetError):
    """Loss or gradient was not finite in too many steps in a row."""


def classify(error: BaseException) -> FailureClass:
    """The class of a failure. A peer's lost connection is infrastructure, not a user error."""
    from tunefleet.train.step import LedgerMismatch

    text = str(error).lower()
    if type(error).__name__ == "FencedError":
        return FailureClass.FENCED
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return FailureClass.OUT_OF_MEMORY
    if isinstance(error, DataError):
        return FailureClass.DATA
    if isinstance(error, SpecError | ModelError | DivergedError | LedgerMismatch):
        return FailureClass.USER
    if isinstance(error, StorageError | OSError | ConnectionError | torch.distributed.DistError):
        return FailureClass.INFRASTRUCTURE
    if isinstance(error, RuntimeError) and _is_of_a_peer(text):
        return FailureClass.INFRASTRUCTURE
    if isinstance(error, TypeError | ValueError | KeyError | IndexError | AttributeError):
        return FailureClass.USER
    return FailureClass.UNKNOWN


def _is_of_a_peer(text: str) -> bool:
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset", "timed out")
    return any(sign in text for sign in signs)


def describe(error: BaseException) -> str:
    """One paragraph: what happened, and the remedy where there is one."""
    if isinstance(error, TunefleetError):
        return str(error)
    if classify(error) is FailureClass.OUT_OF_MEMORY:
        return (
            f"out of memory: {error}\n  → set a smaller training.microBatch, or "
            "gradientCheckpointing: true, or model.method.type: lora"
        )
    return f"{type(error).__name__}: {error}"


def trace(error: BaseException, limit: int = 20_000) -> str:
    """The traceback's end, bounded."""
    return "".join(traceback.format_exception(error))[-limit:]
