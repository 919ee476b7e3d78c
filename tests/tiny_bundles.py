"""Tiny bundles in real folders, for tests: made by ``build_bundle`` from tiny models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from tests.tiny_models import SENTENCES, tiny_bert, tiny_llama
from tunefleet.api.job import ModelSpec, SourceSpec
from tunefleet.api.tasks import declaration_of
from tunefleet.api.words import Precision
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.evaluate.bundle import build_bundle
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import Task, TaskContext

LABELS = ("negative", "neutral", "positive")


def rows_of(columns: Mapping[str, Sequence[object]]) -> Rows:
    """Rows whose ids are not their positions, as after a split."""
    count = len(next(iter(columns.values())))
    return Rows(columns=columns, ids=np.arange(count, dtype=np.int64) * 3 + 7)


def tiny_bundle(
    folder: Path,
    *,
    base: Path | None = None,
    task_name: str = "text-classification",
    options: Mapping[str, object] | None = None,
    labels: Sequence[str] = LABELS,
    columns: Mapping[str, Sequence[object]] | None = None,
    sources: Mapping[str, str] | None = None,
    written: SourceSpec | None = None,
    max_length: int = 64,
    seed: int = 3,
    precision: Precision = Precision.FP32,
) -> Path:
    """A sealed bundle in ``folder/bundle``, of a random model that tells texts apart.

    ``base`` is the folder of a base model to use again (tokenizers are trained anew each time).
    """
    base = base or folder / "base"
    if not base.exists():
        maker = tiny_bert if task_name == "text-classification" else tiny_llama
        maker(base)
    task = tiny_task(task_name, options, labels, max_length)
    model = task.load_model(base, ModelSpec(uri=str(base)), seed)
    sharpen(model)
    tokenizer = task.load_tokenizer(base)
    rows = rows_of(columns or _columns(task_name, options or {}))
    store = TokenStore.write(folder / f"store-{seed}", task.encode(rows, tokenizer), {})
    build_bundle(
        folder / "bundle",
        task_name=task_name,
        task=task,
        model=model,
        tokenizer=tokenizer,
        store=store,
        rows=rows,
        precision=precision,
        base_model="tiny",
        sources=sources,
        written=written,
    )
    return folder / "bundle"


def tiny_task(
    task_name: str = "text-classification",
    options: Mapping[str, object] | None = None,
    labels: Sequence[str] = LABELS,
    max_length: int = 64,
) -> Task:
    """A task's behaviour for tiny models."""
    declared = declaration_of(task_name).options.model_validate(dict(options or {}))
    return task_of(task_name, TaskContext(declared, tuple(labels), max_length))


def sharpen(model: nn.Module) -> None:
    """Scale all matrices up, so that other texts and other weights give clearly other answers."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 20


def _columns(task_name: str, options: Mapping[str, object]) -> dict[str, Sequence[object]]:
    if task_name == "text-classification":
        return {"text": list(SENTENCES), "label": [index % 3 for index in range(len(SENTENCES))]}
    if options.get("format") == "text":
        return {"text": list(SENTENCES)}
    if options.get("format") == "chat":
        turns = zip(SENTENCES, reversed(SENTENCES), strict=True)
        return {
            "messages": [
                [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
                for asked, said in turns
            ]
        }
    return {"prompt": list(SENTENCES), "completion": list(reversed(SENTENCES))}
