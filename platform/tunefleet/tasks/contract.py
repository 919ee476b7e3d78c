"""The contract between a task's behaviour and the rest of the house.

A task turns rows into **units** (what is batched, weighted and counted), loads a model with
the right head, says the summed loss of a micro-batch, streams per-unit scores out of an
evaluation, makes metrics of them, and answers requests. It never sees ranks, accumulation,
steps or storage: exactness is the loop's business. Imports torch (types only), ``api``,
``plan`` and ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks import TaskOptions
from tunefleet.data.tokens import Encoded, Rows

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

Scores = dict[str, npt.NDArray[np.generic]]
"""Per-unit numbers by name, all of the same first dimension. Never logits over a vocabulary."""

Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task knows about the job it works for.

    ``labels`` are the label names in the order of the head's outputs ([] where the task has
    none). ``max_length`` is in tokens, special tokens included.
    """

    options: TaskOptions
    labels: tuple[str, ...]
    max_length: int


@dataclass(frozen=True, slots=True)
class ModelKind:
    """What a task's ``load_model`` loads, said without weights, so that it can be measured.

    ``auto_class`` is the name of transformers' class; ``outputs`` how many outputs its head has
    (``None``: the model has its own, such as a vocabulary); ``adapter_task`` is peft's word.
    """

    auto_class: str
    outputs: int | None
    adapter_task: str


class Task(Protocol):
    """The behaviour of a task. Instances are cheap, picklable and without state of a run."""

    context: TaskContext

    def __init__(self, context: TaskContext) -> None: ...

    # -- rows → units -----------------------------------------------------------------
    def load_tokenizer(self, model_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer as training and serving use it; raises ``ModelError``."""
        ...

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Rows to units. Must be a pure function of its arguments (results are cached)."""
        ...

    # -- model ------------------------------------------------------------------------
    def model_kind(self) -> ModelKind:
        """Which model :meth:`load_model` gives."""
        ...

    def load_model(self, model_path: Path, model: ModelSpec, seed: int) -> nn.Module:
        """The model in fp32 with its head (new weights drawn from ``seed``), adapters applied."""
        ...

    # -- training ---------------------------------------------------------------------
    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Loss **summed** over the batch's weights (scalar; never a mean)."""
        ...

    # -- evaluation -------------------------------------------------------------------
    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Per-unit scores of a batch, without gradients; ``loss`` [units] is among them."""
        ...

    def metrics(self, scores: Scores) -> dict[str, float]:
        """The declared metrics from the scores of every unit of a split, each once."""
        ...

    # -- parity -----------------------------------------------------------------------
    def outputs(self, model: nn.Module, batch: Batch) -> Scores:
        """Teacher-forced fp32 outputs per unit (logits, or log-probabilities of the labels).

        What a served model must reproduce; first dimension is units, padding is 0.
        """
        ...

    # -- answers ----------------------------------------------------------------------
    def predict(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Mapping[str, object]],
    ) -> list[dict[str, object]]:
        """Answers for request items (the task's columns, label columns left out).

        Raises ``ValueError`` naming the item and the field when an item cannot be read.
        """
        ...
