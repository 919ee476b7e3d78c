"""Sample runs of every kind of task, from synthetic scores and texts of our own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.unit.evaluate.synthetic import metrics_of, rows_of, scores_of
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import Cause, DeviceType, Phase, Precision, Severity
from tunefleet.channel.schema import EvaluationRecord
from tunefleet.cost.money import shared
from tunefleet.data.tokens import Rows
from tunefleet.evaluate.report import ReportData
from tunefleet.evaluate.result import (
    BundleResult,
    CheckpointResult,
    CurvePoint,
    GateResult,
    History,
    RunResult,
    SplitResult,
)
from tunefleet.plan.document import (
    CheckpointPlan,
    Decision,
    Estimate,
    EvaluationPlan,
    MemoryPart,
    OptimizerPlan,
    Plan,
)
from tunefleet.plan.facts import DataFacts, Facts, Finding, ModelFacts, SplitFacts, StorageFacts


def job_of(kind: str, **spec: Any) -> FineTuneJob:
    """A job of this kind."""
    task = "causal-lm" if kind == "language-model" else "text-classification"
    body: dict[str, Any] = {
        "task": task,
        "model": {"name": "example/small-encoder", "revision": "0" * 40},
        "data": {"train": {"uri": "reviews.csv"}, "columns": {"text": "review", "label": "stars"}},
        "serving": {"gate": {"metric": _PRIMARY[kind], "min": 0.8}},
    }
    if kind in ("multi-label", "regression"):
        body["textClassification"] = {"problem": kind}
    if kind == "language-model":
        body["model"] |= {"method": {"type": "lora", "lora": {"rank": 8}}}
        body["data"]["columns"] = {"prompt": "question", "completion": "answer"}
        body["serving"] = {"gate": {"metric": "loss", "max": 2.5}}
    if kind == "regression":
        body["serving"] = {"gate": {"metric": "rmse", "max": 0.4}}
    return FineTuneJob.model_validate(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "review-sentiment"},
            "spec": body | spec,
        }
    )


_PRIMARY = {
    "single-label": "f1_macro",
    "multi-label": "f1_micro",
    "regression": "rmse",
    "language-model": "loss",
}


_BEFORE: dict[str, dict[str, float]] = {
    "single-label": {"f1_macro": 0.338, "accuracy": 0.507, "mcc": 0.01, "ece": 0.06, "loss": 0.702},
    "multi-label": {
        "f1_micro": 0.29,
        "f1_macro": 0.21,
        "map": 0.33,
        "exact_match": 0.02,
        "loss": 0.7,
    },
    "regression": {"rmse": 3.31, "mae": 3.1, "spearman": 0.02, "pearson": 0.03, "loss": 10.96},
    "language-model": {"loss": 3.42, "perplexity": 30.57, "token_accuracy": 0.41},
}


def split_facts(rows: Rows, labels: list[str], kind: str) -> SplitFacts:
    """Facts of a split, made up around its rows."""
    lengths = np.array(
        [min(64, 3 + len(str(text)) // 4) for text in next(iter(rows.columns.values()))]
    )
    values, counts = np.unique(lengths, return_counts=True)
    classes: dict[str, int] = {}
    if kind == "single-label":
        classes = {
            n: int((np.array(rows.columns["label"]) == i).sum()) for i, n in enumerate(labels)
        }
    if kind == "multi-label":
        classes = {n: sum(i in c for c in rows.columns["label"]) for i, n in enumerate(labels)}
    return SplitFacts(
        rows=len(rows),
        units=len(rows),
        tokens=int(lengths.sum()),
        weight=len(rows),
        truncated=int((lengths == 64).sum()),
        lengths=[[int(v), int(c)] for v, c in zip(values, counts, strict=True)],
        classes=classes,
        store="tokens",
        digest="sha256:" + "5" * 64,
    )


def facts_of(kind: str, rows: dict[str, Rows], labels: list[str]) -> Facts:
    """Facts of the whole run."""
    splits = {name: split_facts(part, labels, kind) for name, part in rows.items()}
    return Facts(
        task="causal-lm" if kind == "language-model" else "text-classification",
        max_length=64,
        max_length_reason="the longest row, rounded up to 8",
        model=ModelFacts(
            source="example/small-encoder",
            path="models/small-encoder",
            digest="sha256:" + "a" * 64,
            architecture="BertModel",
            model_type="bert",
            parameters=22_700_000,
            trainable_parameters=22_700_000,
            largest_parameter=11_700_000,
            hidden_size=384,
            layers=6,
            attention_heads=12,
            intermediate_size=1536,
            vocab_size=30_522,
        ),
        data=DataFacts(
            digest="sha256:" + "d" * 64,
            labels=labels,
            columns={"text": "review", "label": "stars"},
            files=["data/reviews.csv"],
            train=splits["train"],
            validation=splits["validation"],
            test=splits.get("test"),
            findings=[
                Finding(
                    severity=Severity.WARNING,
                    code="duplicates",
                    message="14 rows stand twice in the training rows",
                    remedy="spec.data.duplicates: drop",
                    file="data/reviews.csv",
                    line=83,
                    count=14,
                ),
                Finding(severity=Severity.INFO, code="balance", message="the classes are balanced"),
            ],
        ),
        storage=StorageFacts(uri="runs", conditional_put=True),
        seconds=3.1,
    )


def plan_of(kind: str, facts: Facts, total: int) -> Plan:
    """A plan of ``total`` steps."""
    lora = kind == "language-model"
    metric = _PRIMARY[kind]
    return Plan(
        job="review-sentiment",
        namespace="default",
        task=facts.task,
        spec_digest="sha256:" + "1" * 64,
        model_digest=facts.model.digest,
        data_digest=facts.data.digest,
        parameters=22_700_000,
        trainable_parameters=147_456 if lora else 22_700_000,
        seed=17,
        epochs=3,
        batch_size=32,
        micro_batch=16,
        micro_batches_per_step=2,
        window_steps=50,
        steps_per_epoch=max(1, total // 3),
        total_steps=total,
        max_length=64,
        device=DeviceType.CPU,
        precision=Precision.FP32,
        gradient_checkpointing=False,
        workers=2,
        threads_per_worker=1,
        optimizer=OptimizerPlan(
            name="adamw",
            learning_rate=5e-5,
            weight_decay=0.01,
            schedule="linear",
            warmup_steps=max(1, total // 16),
            clip_norm=1.0,
        ),
        evaluation=EvaluationPlan(
            every_steps=max(1, total // 6),
            micro_batch=32,
            metric=metric,
            higher_is_better=metric.startswith("f1"),
            patience=3,
        ),
        checkpoints=CheckpointPlan(
            every_steps=40, bytes=272_000_000, keep_last=1, keep_best=1, basis="Young/Daly"
        ),
        max_failures=3,
        train_units=facts.data.train.units,
        train_tokens=facts.data.train.tokens,
        padding=Estimate(value=0.08, basis="the exact lengths"),
        memory=[
            MemoryPart(name="weights", bytes=90_800_000, basis="22.7 M × 4 bytes"),
            MemoryPart(name="optimiser", bytes=181_600_000, basis="two moments in fp32"),
            MemoryPart(name="activations", bytes=310_000_000, basis="16 × 64 tokens, 6 layers"),
        ],
        memory_available=7_800_000_000,
        seconds=Estimate(value=260.0, low=180.0, high=400.0, basis="measured throughput"),
        decisions=[
            Decision(
                field="spec.training.microBatch",
                value="16",
                reason="the largest divisor of 32 up to 16 that gives both workers work",
            ),
            Decision(
                field="spec.training.epochs",
                value="3",
                reason="neither epochs nor maxSteps was given",
            ),
            Decision(
                field="spec.checkpoints.every",
                value="40 steps",
                reason="Young/Daly: √(2 · 1.1 s · 2 h), at least once per evaluation",
            ),
        ],
    )


def history_of(kind: str, plan: Plan, after: dict[str, float]) -> History:
    """A loss that falls, and six evaluations of which the fifth is best."""
    random = np.random.default_rng(5)
    first = _BEFORE[kind]["loss"]
    steps = np.arange(1, plan.total_steps + 1)
    fall = np.exp(-steps / plan.total_steps * 3.2)
    losses = after["loss"] * 0.8 + (first - after["loss"] * 0.8) * fall
    losses = losses * (1 + random.normal(0, 0.09, len(steps)))
    warm = np.minimum(steps / plan.optimizer.warmup_steps, 1)
    rates = (
        5e-5 * warm * (1 - np.maximum(steps - plan.optimizer.warmup_steps, 0) / plan.total_steps)
    )
    evaluations = []
    name = plan.evaluation.metric
    for i in range(1, 7):
        share = 1 - np.exp(-i * 1.1) - (0.02 if i == 6 else 0)
        metrics = {
            key: _BEFORE[kind][key] + (value - _BEFORE[kind][key]) * share
            for key, value in after.items()
        }
        metrics[name] = after[name] if i == 5 else metrics[name]
        step = plan.total_steps * i // 6
        evaluations.append(EvaluationRecord(step=step, metrics=metrics, best=i <= 5, seconds=4.2))
    return History(
        curve=[
            CurvePoint(
                step=int(step),
                loss=float(losses[step - 1]),
                grad_norm=float(abs(random.normal(1.4, 0.5))),
                learning_rate=float(max(0.0, rates[step - 1])),
            )
            for step in steps
        ],
        evaluations=evaluations,
        skipped_steps=[plan.total_steps // 4],
        samples=int(plan.total_steps * 32),
        tokens=int(plan.total_steps * 32 * 27),
    )


def result_of(
    job: FineTuneJob, plan: Plan, splits: dict[str, SplitResult], *, price: int | None = 320_000
) -> RunResult:
    """The result of a run that went well."""
    seconds = {
        Cause.STARTUP: 11.4,
        Cause.INIT: 9.1,
        Cause.TRAIN: 412.7,
        Cause.DATA_WAIT: 1.9,
        Cause.CHECKPOINT: 6.3,
        Cause.RESTORE: 2.2,
        Cause.EVALUATION: 49.8,
        Cause.IDLE: 3.4,
    }
    gate = job.spec.serving.gate if job.spec.serving else None
    shown = splits.get("test") or splits.get("validation")
    value = shown.after[gate.metric] if gate and shown else 0.0
    return RunResult(
        phase=Phase.SUCCEEDED,
        job="review-sentiment",
        namespace="default",
        run="run-0003",
        attempt=1,
        run_uri="file:///srv/reviews/runs/default/review-sentiment/run-0003",
        task=job.spec.task,
        metric=job.spec.primary_metric,
        steps=plan.total_steps,
        total_steps=plan.total_steps,
        best_step=plan.total_steps * 5 // 6,
        resumed_from=0,
        workers=2,
        splits=splits,
        gate=GateResult(metric=gate.metric, value=value, bound="≥ 0.8", passed=value >= 0.8)
        if gate and gate.min
        else None,
        bundle=BundleResult(
            uri="file:///srv/reviews/runs/default/review-sentiment/run-0003/bundle/9f2c11d07a3e",
            path="runs/default/review-sentiment/run-0003/bundle/9f2c11d07a3e",
            digest="sha256:9f2c11d07a3e" + "0" * 52,
            bytes=91_400_000,
        ),
        seconds=seconds,
        wall_seconds=271.4,
        cost_microdollars=None if price is None else 44_160,
        money={} if price is None else shared(44_160, seconds),
        price_microdollars_per_hour=price,
        checkpoints=[
            CheckpointResult(
                step=plan.total_steps * 5 // 6,
                name="00000145-1.1-ab12cd",
                bytes=272_400_000,
                metric=value,
            ),
            CheckpointResult(
                step=plan.total_steps,
                name="00000174-1.1-77e0f1",
                bytes=272_400_000,
                metric=value * 0.99,
            ),
        ],
        digest_chain="c0ffee" * 10,
        environment={
            "python": "3.11.9",
            "torch": "2.13.0+cpu",
            "transformers": "5.23.0",
            "ray": "2.60.0",
            "tunefleet": "0.1.0",
            "system": "Linux x86_64, 2 cores",
        },
    )


def sample(
    kind: str = "single-label",
    *,
    labels: list[str] | None = None,
    test_split: bool = True,
    total: int = 174,
    price: int | None = 320_000,
    held_out: int = 400,
) -> ReportData:
    """A run of a kind, with a test split or without."""
    names = labels or {
        "single-label": ["negative", "positive"],
        "multi-label": ["plot", "cast", "sound", "humour", "length"],
    }.get(kind, [])
    rows = {
        "train": rows_of(kind, 1850, 0, names, 1),
        "validation": rows_of(kind, held_out, 1850, names, 2),
    }
    if test_split:
        rows["test"] = rows_of(kind, held_out, 1850 + held_out, names, 3)
    job = job_of(kind)
    facts = facts_of(kind, rows, names)
    plan = plan_of(kind, facts, total)
    scores = {
        name: scores_of(kind, part, names, 7) for name, part in rows.items() if name != "train"
    }
    after = {name: metrics_of(kind, part) for name, part in scores.items()}
    splits = {
        name: SplitResult(before=_BEFORE[kind], after=values, units=len(rows[name]))
        for name, values in after.items()
    }
    return ReportData(
        job=job,
        plan=plan,
        facts=facts,
        result=result_of(job, plan, splits, price=price),
        history=history_of(kind, plan, after["validation"]),
        scores=scores,
        rows=lambda name: rows[name],
        created="2026-05-09 10:42 UTC",
    )
