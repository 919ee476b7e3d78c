"""The closed vocabularies: phases, causes of time and money, classes of failure.

Every enumeration that reaches a user, a status or a metric is defined here, once.
Imports nothing but the standard library.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a run stands; a summary for people."""

    PREPARING = "Preparing"
    RUNNING = "Running"
    EVALUATING = "Evaluating"
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"


class Cause(StrEnum):
    """What a paid second was spent on. Every second has exactly one cause."""

    STARTUP = "startup"
    INIT = "init"
    TRAIN = "train"
    DATA_WAIT = "dataWait"
    CHECKPOINT = "checkpoint"
    RESTORE = "restore"
    EVALUATION = "evaluation"
    RECOVERY = "recovery"
    IDLE = "idle"
    OTHER = "other"


class FailureClass(StrEnum):
    """Why a training process ended early; only some classes can be mended by a retry."""

    USER = "user"
    DATA = "data"
    OUT_OF_MEMORY = "outOfMemory"
    INFRASTRUCTURE = "infrastructure"
    PREEMPTED = "preempted"
    HUNG = "hung"
    BUDGET = "budget"
    FENCED = "fenced"
    UNPLACED = "unplaced"
    UNKNOWN = "unknown"

    @property
    def retryable(self) -> bool:
        """Whether starting again from the last checkpoint can help."""
        return self in {
            FailureClass.INFRASTRUCTURE,
            FailureClass.PREEMPTED,
            FailureClass.HUNG,
            FailureClass.UNKNOWN,
        }

    @property
    def free(self) -> bool:
        """Whether a cluster took or had no place: no failure of the job, however often."""
        return self in {FailureClass.PREEMPTED, FailureClass.UNPLACED}


class Command(StrEnum):
    """What the one who watches a run may ask of it."""

    NONE = "None"
    CHECKPOINT_NOW = "CheckpointNow"
    CHECKPOINT_AND_STOP = "CheckpointAndStop"


class Severity(StrEnum):
    """How bad a finding about the data is."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class DeviceType(StrEnum):
    """What a worker computes on."""

    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Precision(StrEnum):
    """Compute precision; master weights and moments are fp32 in every case but fp64."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP64 = "fp64"
