"""What a task declares about itself, without importing torch.

Decides nothing: it gives the words in which a task says which columns it reads, which
options it has, which metrics it reports and what a sensible default is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunefleet.api.base import Spec


class TaskOptions(Spec):
    """Base of a task's own options (the field of the task's name in a spec)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column a task can read. ``kind`` says what a cell must hold."""

    name: str
    kind: Literal["text", "label", "labels", "number", "messages"]
    required: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number a task reports; ``higher`` tells which direction is better."""

    name: str
    higher: bool
    help: str = ""


def _one_label(options: TaskOptions) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class TaskDeclaration:
    """A task, as the language and the plan see it.

    ``columns(options)`` and ``metrics(options)`` depend on the options, because a sentence
    pair reads two texts and a regression has no F1. ``labelled(options)`` says whether the
    head has one output per label name; ``minimum_labels(options)`` how many it takes to have
    something to tell apart. ``weight_unit`` names what the loss is divided by.
    """

    name: str
    summary: str
    options: type[TaskOptions]
    columns: Callable[[TaskOptions], tuple[Column, ...]]
    metrics: Callable[[TaskOptions], tuple[Metric, ...]]
    primary_metric: Callable[[TaskOptions], str]
    labelled: Callable[[TaskOptions], bool]
    weight_unit: Literal["examples", "tokens"]
    lora_targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    example_model: str = ""
    minimum_labels: Callable[[TaskOptions], int] = _one_label

    @property
    def field_name(self) -> str:
        """The task's field in a spec: ``text-classification`` → ``textClassification``."""
        head, *rest = self.name.split("-")
        return head + "".join(part.capitalize() for part in rest)
