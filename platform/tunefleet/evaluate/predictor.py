"""Answers from a bundle, on one device: what ``predict`` and the endpoint both stand on.

Decides when a bundle may answer (digest intact, golden tokens and outputs reproduced), how
items are batched (sorted by length, order restored) and how a bad item is told apart from its
neighbours. Imports torch (inside functions), ``api``, ``storage``, ``tasks``, this package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.errors import MachineError
from tunefleet.api.job import ModelSpec
from tunefleet.evaluate.bundle import BundleTask, read_task
from tunefleet.evaluate.golden import check_golden, check_tokens, compute
from tunefleet.evaluate.inputs import InputColumn, InputError, InputProblem, check_item

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunefleet.tasks.contract import Task

_PLACE = re.compile(r"^item \d+: ")

Item = Mapping[str, object]
Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class Predictor:
    """An opened bundle; ``deviation`` from its golden outputs is None where it was not checked."""

    folder: Path
    digest: str
    facts: BundleTask
    task: Task
    tokenizer: PreTrainedTokenizerBase
    model: nn.Module
    deviation: float | None

    @staticmethod
    def open(location: str | Path, *, device: str = "auto", check: bool = True) -> Predictor:
        """Open a bundle; raises ``ModelError`` when it is not what was evaluated.

        ``device`` is ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``. ``check=False`` skips
        the golden batch (the digest is always checked).
        """
        from tunefleet.storage.bundle import bundle_digest, open_bundle
        from tunefleet.tasks import task_of
        from tunefleet.tasks.contract import TaskContext

        folder = open_bundle(location)
        facts = read_task(folder)
        context = TaskContext(facts.task_options(), tuple(facts.labels), facts.max_length)
        task = task_of(facts.task, context)
        tokenizer = task.load_tokenizer(folder)
        model = task.load_model(folder, ModelSpec(uri=str(folder)), 0)
        model.to(choose_device(device)).eval().requires_grad_(False)
        deviation = None
        if check:
            check_tokens(folder, task, tokenizer)
            deviation = check_golden(folder, task, model)
        return Predictor(folder, bundle_digest(folder), facts, task, tokenizer, model, deviation)

    @property
    def task_name(self) -> str:
        """The task, as a job names it."""
        return self.facts.task

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in the order of the model's outputs."""
        return tuple(self.facts.labels)

    @property
    def input_columns(self) -> tuple[InputColumn, ...]:
        """What an item holds."""
        return tuple(self.facts.columns)

    def predict(
        self,
        items: Sequence[Item],
        batch_size: int = 16,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Answers in the order of ``items``; raises ``InputError`` for the first bad item."""
        for index, item in enumerate(items):
            problem = check_item(item, self.input_columns)
            if problem is not None:
                raise InputError(index, problem)
        answers = self.answer(items, batch_size, progress=progress)
        good: list[Answer] = []
        for answer in answers:
            if isinstance(answer, InputError):
                raise answer
            good.append(answer)
        return good

    def answer(
        self,
        items: Sequence[Item],
        batch_size: int = 16,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer | InputError]:
        """Like :meth:`predict` for checked items, with the error in the place of a bad one."""
        order = sorted(range(len(items)), key=lambda index: _length(items[index]), reverse=True)
        answers: dict[int, Answer | InputError] = {}
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            answers |= self._chunk(items, chunk)
            if progress is not None:
                progress(len(answers), len(items))
        return [answers[index] for index in range(len(items))]

    def _chunk(self, items: Sequence[Item], chunk: list[int]) -> dict[int, Answer | InputError]:
        try:
            found = self._run([items[index] for index in chunk])
        except ValueError as error:
            if len(chunk) > 1:
                # One unreadable item must not take its neighbours with it.
                return {
                    index: answer
                    for one in chunk
                    for index, answer in self._chunk(items, [one]).items()
                }
            # The task counts within what it was given; the caller knows the item's place.
            said = _PLACE.sub("", str(error))
            problem = InputProblem("unreadable", "", said)
            return {chunk[0]: InputError(chunk[0], problem)}
        return dict(zip(chunk, found, strict=True))

    def _run(self, items: list[Item]) -> list[Answer]:
        import torch

        device = next(self.model.parameters()).device
        with torch.inference_mode(), compute(device, self.facts.precision):
            return self.task.predict(self.model, self.tokenizer, items)


def choose_device(name: str) -> torch.device:
    """The device by its name; ``auto`` is CUDA, else Apple's MPS, else the CPU."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MachineError(f"unknown device {name!r}", remedy="auto, cpu, cuda or mps") from error
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise MachineError(f"this machine has no {device.type} device", remedy="use device auto")
    return device


def _length(item: Item) -> int:
    """A measure of how long an item is; exact lengths would cost a second tokenisation."""
    total = 0
    for value in item.values():
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, Sequence):
            total += sum(
                len(str(part.get("content", ""))) for part in value if isinstance(part, Mapping)
            )
    return total
