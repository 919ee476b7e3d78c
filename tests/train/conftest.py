"""A small real run without Ray: a tiny BERT, encoded texts, a plan, and a run's folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import SENTENCES, tiny_bert
from tunefleet.api.words import DeviceType, Precision
from tunefleet.data.rows import save_rows
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.plan.document import (
    CheckpointPlan,
    Estimate,
    EvaluationPlan,
    OptimizerPlan,
    Plan,
)
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.tasks import task_of
from tunefleet.tasks.batch import padding_of
from tunefleet.tasks.contract import TaskContext

LABELS = ("bad", "good")


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """Everything a worker needs, on disk."""

    folder: Path
    model: Path
    stores: dict[str, Path]
    plan: Plan

    def job(self) -> dict[str, object]:
        """A job that fits."""
        return {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tiny"},
            "spec": {
                "task": "text-classification",
                "model": {"uri": str(self.model)},
                "data": {"train": {"uri": "rows.csv"}},
            },
        }

    def config(self, runs: str, **plan: object) -> WorkerConfig:
        """A claimed attempt of a new run below ``runs`` (or the next attempt of the newest)."""
        store = open_store(str(self.folder / runs), self.folder)
        run = RunStore.newest(store, "default", "tiny") or RunStore.create(store, "default", "tiny")
        attempt = run.claim_attempt(Writer.here()).attempt
        return WorkerConfig(
            address=RunAddress(
                uri=store.uri, namespace="default", job="tiny", run=run.run, attempt=attempt
            ),
            job=self.job(),
            plan=self.plan.model_copy(update=plan),
            model_path=str(self.model),
            labels=list(LABELS),
            stores={name: str(folder) for name, folder in self.stores.items()},
            scratch=str(self.folder / runs / f"scratch-{attempt}"),
        )

    def run_store(self, runs: str) -> RunStore:
        """The newest run below ``runs``."""
        newest = RunStore.newest(
            open_store(str(self.folder / runs), self.folder), "default", "tiny"
        )
        assert newest is not None
        return newest


def make_plan(**changes: object) -> Plan:
    """A plan for 8 micro-batches a step over 150 units."""
    plan = Plan(
        job="tiny",
        namespace="default",
        task="text-classification",
        spec_digest="spec",
        model_digest="model",
        data_digest="data",
        parameters=1,
        trainable_parameters=1,
        seed=5,
        epochs=2,
        batch_size=32,
        micro_batch=4,
        micro_batches_per_step=8,
        window_steps=50,
        steps_per_epoch=5,
        total_steps=10,
        max_length=64,
        device=DeviceType.CPU,
        precision=Precision.FP32,
        gradient_checkpointing=False,
        workers=1,
        threads_per_worker=1,
        optimizer=OptimizerPlan(
            name="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            schedule="linear",
            warmup_steps=2,
            clip_norm=1.0,
        ),
        evaluation=EvaluationPlan(
            every_steps=5, micro_batch=8, metric="accuracy", higher_is_better=True
        ),
        checkpoints=CheckpointPlan(every_steps=2, bytes=1, keep_last=2, keep_best=1, basis="test"),
        max_failures=3,
        train_units=150,
        train_tokens=1,
        padding=Estimate(value=1.0, basis="test"),
        memory=[],
        memory_available=1,
        seconds=Estimate(value=1.0, basis="test"),
    )
    return plan.model_copy(update=changes)


def empty_config(run: RunStore, attempt: int, scratch: Path) -> WorkerConfig:
    """A worker that has nothing to train: for what happens around it."""
    return WorkerConfig(
        address=run.address(attempt),
        job={},
        plan=make_plan(),
        model_path="",
        labels=[],
        stores={},
        scratch=str(scratch),
    )


def rows_of(count: int, first_id: int = 0) -> Rows:
    """Rows of one to six sentences; the label is a function of the text."""
    draw = np.random.default_rng(first_id + 1)
    texts, labels = [], []
    for _ in range(count):
        words = " ".join(draw.choice(SENTENCES, size=draw.integers(1, 4))).split()
        words = words[: int(draw.integers(3, 40))]
        texts.append(" ".join(words))
        labels.append(len(words) % 2)
    return Rows(
        columns={"text": texts, "label": labels},
        ids=np.arange(first_id, first_id + count, dtype=np.int64),
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A tiny BERT with dropout and three encoded splits."""
    folder = tmp_path_factory.mktemp("site")
    model = tiny_bert(folder / "model")
    plan = make_plan()
    from tunefleet.api.tasks.text_classification import TextClassificationOptions

    task = task_of(plan.task, TaskContext(TextClassificationOptions(), LABELS, plan.max_length))
    tokenizer = task.load_tokenizer(model)
    stores = {}
    for split, (count, first) in {
        "train": (150, 0),
        "validation": (37, 1000),
        "test": (21, 2000),
    }.items():
        rows = rows_of(count, first)
        stores[split] = folder / "tokens" / split
        TokenStore.write(stores[split], task.encode(rows, tokenizer), padding_of(tokenizer))
        save_rows(stores[split], rows)
    return Site(folder, model, stores, plan)
