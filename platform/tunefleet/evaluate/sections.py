"""The parts of the report that do not depend on scores: headline, plan, time, checkpoints.

Decides what is said first, which caveats go with it, and how money is shared over causes.
Imports ``api``, ``plan`` and the records of a run.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunefleet.api.job import FineTuneJob
from tunefleet.api.tasks import Metric
from tunefleet.api.words import Cause
from tunefleet.evaluate.content import (
    BaselineContent,
    CauseShare,
    Curves,
    Headline,
    MetricValue,
    ReportContent,
    Scored,
    Setting,
    SplitContent,
)
from tunefleet.evaluate.data_card import data_card
from tunefleet.evaluate.howto import commands, model_name
from tunefleet.evaluate.interval import interval
from tunefleet.evaluate.result import History, RunResult, SplitResult
from tunefleet.evaluate.words import compact
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts
from tunefleet.tasks.contract import Scores

_INTERVAL_NOTE = (
    "Intervals are bootstrap intervals: what the metric does when these rows are drawn again "
    "with replacement. They say nothing about other seeds or about data of another kind."
)
_SMOOTH = 0.85
_TOLERANCE = 1e-4


def content(
    job: FineTuneJob,
    plan: Plan,
    facts: Facts,
    result: RunResult,
    history: History,
    *,
    created: str,
    split: str,
    splits: list[SplitContent],
    baseline: BaselineContent | None,
    chance_note: str,
    scored: Scored | None,
) -> ReportContent:
    """The whole report's content, from its parts."""
    return ReportContent(
        created=created,
        phase=result.phase,
        message=result.message,
        job=result.job,
        namespace=result.namespace,
        run=result.run,
        run_uri=result.run_uri,
        attempt=result.attempt,
        task=result.task,
        headline=headline(job, plan, facts, result, split, splits, baseline),
        commands=commands(job, result, scored.kind if scored else "other"),
        splits=splits,
        baseline=baseline,
        chance_note=chance_note,
        interval_note=_INTERVAL_NOTE if any(m.low is not None for m in _all(splits)) else "",
        curves=curves(plan, history),
        scored=scored,
        data=data_card(facts),
        causes=causes(result),
        workers=result.workers,
        steps=result.steps,
        total_steps=result.total_steps,
        best_step=result.best_step,
        stopped_early=result.stopped_early,
        resumed_from=result.resumed_from,
        settings=settings(job, plan),
        decisions=plan.decisions,
        warnings=plan.warnings,
        memory=plan.memory,
        memory_available=plan.memory_available,
        checkpoints=result.checkpoints,
        bundle=result.bundle,
        environment=result.environment,
        digests=digests(plan, result),
    )


def _all(splits: list[SplitContent]) -> list[MetricValue]:
    return [metric for split in splits for metric in split.metrics]


def headline(
    job: FineTuneJob,
    plan: Plan,
    facts: Facts,
    result: RunResult,
    split: str,
    splits: list[SplitContent],
    baseline: BaselineContent | None,
) -> Headline:
    """What was trained on what, and what came of it."""
    shown = next((item for item in splits if item.split == split), None)
    declared = {metric.name: metric for metric in _declared(job)}
    empty = _value(result.metric, declared, {}, {})
    metric = next((m for m in shown.metrics if m.name == result.metric), empty) if shown else empty
    return Headline(
        title=result.job,
        model=model_name(job, facts),
        sentence=_sentence(plan, facts, result),
        split=split,
        split_note=_split_note(split, plan.evaluation.metric),
        units=shown.units if shown else 0,
        metric=metric,
        gate=result.gate,
        wall_seconds=result.wall_seconds,
        planned_seconds=plan.seconds.value,
        cost_microdollars=result.cost_microdollars,
        price_microdollars_per_hour=result.price_microdollars_per_hour,
        verdict=verdict(metric, baseline),
    )


def _sentence(plan: Plan, facts: Facts, result: RunResult) -> str:
    rows = facts.data.train.rows
    epochs = result.steps / plan.steps_per_epoch
    devices = f"{result.workers} {plan.device.upper()} worker{_s(result.workers)}"
    if plan.trainable_parameters == plan.parameters:
        weights = f"all {compact(plan.parameters)} weights trained"
    else:
        share = plan.trainable_parameters / plan.parameters
        weights = (
            f"{compact(plan.trainable_parameters)} of {compact(plan.parameters)} weights trained "
            f"({share:.2%})"
        )
    return (
        f"{rows:,} training rows, {result.steps:,} steps of {plan.batch_size} "
        f"({epochs:.3g} epoch{'' if epochs == 1 else 's'}), {devices}, {weights}"
    )


def _split_note(split: str, metric: str) -> str:
    if split == "test":
        return "test rows, looked at once, after training"
    return (
        f"validation rows; they also chose the best checkpoint by {metric}, "
        "so expect a little less on new data"
    )


def verdict(metric: MetricValue, baseline: BaselineContent | None) -> str:
    """The comparison with the plain model in one sentence, whoever wins."""
    if baseline is None:
        return ""
    plain = baseline.metrics.get(metric.name)
    if metric.after is None or plain is None:
        return ""
    gap = metric.after - plain if metric.higher else plain - metric.after
    if baseline.low is not None and baseline.high is not None:
        span = f"{baseline.low:+.3f} to {baseline.high:+.3f}"
        if baseline.low > 0:
            return f"Tuning beats the bag of words by {gap:.3f} ({span})."
        if baseline.high < 0:
            return f"The bag of words wins by {-gap:.3f} ({span}): use it, or tune differently."
        return (
            f"Tuning and the bag of words cannot be told apart on these rows "
            f"(difference {gap:+.3f}, {span})."
        )
    if gap > 0:
        return f"Tuning beats the bag of words by {gap:.3f}."
    return f"The bag of words is as good or better (by {-gap:.3f}): use it, or tune differently."


def split_metrics(
    job: FineTuneJob,
    split: str,
    result: SplitResult,
    *,
    scores: Scores | None,
    seed: int,
    classes: int,
    threshold: float,
    chance: Mapping[str, float],
    baseline: Mapping[str, float],
) -> SplitContent:
    """A split's metrics, in the task's order, with intervals where they can be had."""
    declared = {metric.name: metric for metric in _declared(job)}
    names = [name for name in declared if name in result.after or name in result.before]
    names += sorted((set(result.after) | set(result.before)) - set(names))
    values = []
    for name in names:
        after = result.after.get(name)
        found = None
        if scores is not None and after is not None:
            found = interval(scores, name, seed=seed, classes=classes, threshold=threshold)
        # An interval of another definition than the reported value's is worse than none.
        if found and abs(found.value - (after or 0)) > _TOLERANCE * max(1.0, abs(found.value)):
            found = None
        bounds = {"low": found.low, "high": found.high} if found else {}
        sides = {"baseline": baseline.get(name), "chance": chance.get(name)}
        values.append(
            _value(
                name, declared, {"before": result.before.get(name), "after": after}, sides
            ).model_copy(update=bounds)
        )
    return SplitContent(split=split, units=result.units, metrics=values)


def _declared(job: FineTuneJob) -> tuple[Metric, ...]:
    return job.spec.declaration.metrics(job.spec.options)


def _value(
    name: str,
    declared: Mapping[str, Metric],
    values: Mapping[str, float | None],
    sides: Mapping[str, float | None],
) -> MetricValue:
    known = declared.get(name)
    return MetricValue(
        name=name,
        help=known.help if known else "",
        higher=known.higher if known else True,
        before=values.get("before"),
        after=values.get("after"),
        baseline=sides.get("baseline"),
        chance=sides.get("chance"),
    )


def curves(plan: Plan, history: History) -> Curves:
    """The curves, with an exponentially smoothed loss beside the raw one."""
    smoothed: list[float] = []
    weight, mean = 0.0, 0.0
    for point in history.curve:
        mean = _SMOOTH * mean + (1 - _SMOOTH) * point.loss
        weight = _SMOOTH * weight + (1 - _SMOOTH)
        smoothed.append(mean / weight)
    return Curves(
        points=history.curve,
        smoothed=smoothed,
        stride=history.stride,
        evaluations=history.evaluations,
        skipped_steps=history.skipped_steps,
        steps_per_epoch=plan.steps_per_epoch,
        samples=history.samples,
        tokens=history.tokens,
    )


def causes(result: RunResult) -> list[CauseShare]:
    """Worker-seconds and money by cause; both add up to their totals exactly."""
    seconds = {cause: result.seconds[cause] for cause in Cause if result.seconds.get(cause, 0) > 0}
    total = sum(seconds.values())
    if not seconds or total <= 0:
        return []
    priced = result.cost_microdollars is not None
    money = {cause: result.money.get(cause, 0) for cause in seconds} if priced else {}
    return [
        CauseShare(cause=cause, seconds=spent, share=spent / total, microdollars=money.get(cause))
        for cause, spent in seconds.items()
    ]


def settings(job: FineTuneJob, plan: Plan) -> list[Setting]:
    """The resolved settings, defaults included."""
    rate = plan.optimizer
    method = job.spec.model.method
    threads, warm = plan.threads_per_worker, rate.warmup_steps
    values: dict[str, str] = {
        "method": method.type,
        "epochs": f"{plan.epochs}",
        "batch": f"{plan.batch_size} = {plan.micro_batches_per_step} × {plan.micro_batch}",
        "maximum length": f"{plan.max_length} tokens",
        "optimiser": rate.name,
        "learning rate": f"{rate.learning_rate:g}",
        "schedule": f"{rate.schedule}, warm-up {warm:,} step{_s(warm)}",
        "weight decay": f"{rate.weight_decay:g}",
        "clip norm": "none" if rate.clip_norm is None else f"{rate.clip_norm:g}",
    }
    if rate.name == "adamw":
        values["betas, epsilon"] = f"{rate.beta1:g}, {rate.beta2:g}, {rate.epsilon:g}"
    else:
        values["momentum"] = f"{rate.momentum:g}"
    if method.lora is not None:
        lora = method.lora
        values["lora"] = f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}"
    values |= {
        "precision": plan.precision,
        "gradient checkpointing": "on" if plan.gradient_checkpointing else "off",
        "device": f"{plan.workers} × {plan.device.upper()}, {threads} thread{_s(threads)} each",
        "evaluation": f"every {plan.evaluation.every_steps:,} steps by {plan.evaluation.metric}",
        "early stopping": _early_stopping(plan),
        "checkpoints": _checkpoints(plan),
        "seed": f"{plan.seed}",
    }
    return [Setting(name=name, value=value) for name, value in values.items()]


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _early_stopping(plan: Plan) -> str:
    if plan.evaluation.patience is None:
        return "off"
    return f"after {plan.evaluation.patience} evaluations without a gain"


def _checkpoints(plan: Plan) -> str:
    saved = plan.checkpoints
    if saved.every_steps is not None:
        often = f"every {saved.every_steps:,} steps"
    else:
        often = f"every {saved.every_seconds or 0:.0f} s"
    return f"{often}, newest {saved.keep_last} and best {saved.keep_best} kept"


def digests(plan: Plan, result: RunResult) -> dict[str, str]:
    """What identifies the run: change any of these and the numbers may change."""
    found = {"job file": plan.spec_digest, "base model": plan.model_digest}
    found["data"] = plan.data_digest
    if result.digest_chain:
        found["samples seen"] = result.digest_chain
    if result.bundle:
        found["tuned model"] = result.bundle.digest
    return found
