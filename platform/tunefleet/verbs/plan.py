"""``tunefleet plan``: what would be run, how big, how long, how dear, and why.

Decides what a person is shown of a plan. Facts come from prepare (cached), the machine from
``train.machine``, and the speed from the job's newest run where it was measured there.
Imports ``api``, ``plan``, ``cost`` and ``storage``; neither torch nor ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.words import Cause, DeviceType
from tunefleet.plan.document import BudgetPlan, Estimate, Plan
from tunefleet.plan.facts import Facts
from tunefleet.plan.notes import some
from tunefleet.verbs import sections
from tunefleet.verbs.jobfile import JobFile, load
from tunefleet.verbs.preparing import prepare_job
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan with the facts it was made on."""

    plan: Plan
    facts: Facts

    def to_json(self, *, indent: int | None = None) -> str:
        """The plan as JSON."""
        return self.plan.to_json(indent=indent)

    def render(self, console: Console) -> None:
        """Print the plan."""
        sections.render(self._sections(), console)
        for warning in self.plan.warnings:
            console.print(f"warning  {warning}", style="yellow", highlight=False)

    def _repr_html_(self) -> str:
        warnings = Section("warnings", [(text,) for text in self.plan.warnings])
        shown = [*self._sections(), warnings] if self.plan.warnings else self._sections()
        return sections.to_html(f"plan of {self.plan.job}", shown)

    def _sections(self) -> list[Section]:
        return [
            Section(f"{self.plan.job}: what will be run", _what(self.plan, self.facts)),
            _memory(self.plan),
            _spent(self.plan),
            Section(
                "decided for you",
                [(d.field.removeprefix("spec."), d.value, d.reason) for d in self.plan.decisions],
            ),
        ]


def plan(
    job_file: str | Path | JobFile,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    price: str | None = None,
    price_sheet: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PlanResult:
    """Plan a job without starting anything; raises a ``TunefleetError`` for what is wrong.

    ``price`` is US dollars per worker-hour, ``price_sheet`` a file of prices (or what
    ``TUNEFLEET_PRICES`` names); without any the plan is unpriced.
    """
    from tunefleet.plan.planner import make_plan
    from tunefleet.train.machine import machine_facts
    from tunefleet.verbs.pricing import pricing

    prices = pricing(price, price_sheet)
    extra = [f"workers.count={workers}"] if workers is not None else []
    file = job_file if isinstance(job_file, JobFile) else load(job_file, [*overrides, *extra])
    facts = prepare_job(file, progress).facts
    machine = machine_facts(device)
    rate = next(iter(prices.rates(machine.device.name)), None)
    made = make_plan(file.job, facts, machine, rate=rate)
    speed = _measured(file, facts, made)
    if speed is not None:
        made = make_plan(file.job, facts, machine, rate=rate, measured_flops_per_second=speed)
    return PlanResult(made, facts)


def _measured(file: JobFile, facts: Facts, made: Plan) -> float | None:
    """The speed of one worker in this job's newest finished run, when that was the same work."""
    from pydantic import ValidationError

    from tunefleet.evaluate.result import RunResult
    from tunefleet.plan.time import measured_flops
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import open_store

    store = open_store(file.job.spec.checkpoints.uri, file.base)
    run = RunStore.newest(store, made.namespace, made.job)
    planned = run.get_json("plan.json") if run else None
    ended = run.get_json("report/result.json") if run else None
    if planned is None or ended is None:
        return None
    try:
        done = Plan.from_json(json.dumps(planned))
        result = RunResult.from_json(json.dumps(ended))
    except ValidationError:
        # Of another version: its numbers are not used.
        return None
    if not _same_work(done, made):
        return None
    trained = result.seconds.get(Cause.TRAIN, 0.0)
    return measured_flops(file.job, facts, done, steps=result.steps, train_seconds=trained)


def _same_work(done: Plan, made: Plan) -> bool:
    return all(
        getattr(done, name) == getattr(made, name)
        for name in (
            "model_digest",
            "device",
            "device_name",
            "precision",
            "threads_per_worker",
            "gradient_checkpointing",
            "trainable_parameters",
        )
    )


def _what(plan: Plan, facts: Facts) -> list[tuple[str, ...]]:
    model, data, optimizer = facts.model, facts.data, plan.optimizer
    trained = plan.trainable_parameters / plan.parameters
    shares = -(-plan.micro_batches_per_step // plan.workers)
    held_out = f"{data.validation.units:,} validation"
    if data.test:
        held_out += f", {data.test.units:,} test"
    rows: list[tuple[str, ...]] = [
        ("task", plan.task),
        (
            "model",
            f"{model.source}: {model.architecture}, {plan.parameters:,} parameters, "
            f"{plan.trainable_parameters:,} trained ({trained:.1%})",
        ),
        (
            "data",
            f"{plan.train_units:,} training units, {plan.train_tokens:,} tokens (+ "
            f"{plan.padding.value:.1%} padding), at most {plan.max_length}; {held_out}",
        ),
        (
            "steps",
            f"{plan.total_steps:,}: {some(plan.epochs, 'epoch')} of {plan.steps_per_epoch:,}",
        ),
        (
            "step",
            f"{plan.batch_size} units = {some(plan.micro_batches_per_step, 'micro-batch')} of "
            f"{plan.micro_batch}; {some(plan.workers, 'worker')}, up to {shares} each, accumulated",
        ),
        (
            "device",
            f"{plan.device_name or plan.device} ({plan.device}), {plan.precision}, "
            f"{some(plan.threads_per_worker, 'thread')} per worker",
        ),
        (
            "optimiser",
            f"{optimizer.name}, rate {optimizer.learning_rate:g}, {optimizer.schedule}, "
            f"{optimizer.warmup_steps} warm-up steps",
        ),
        ("evaluation", _evaluated(plan)),
        ("checkpoint", _saved(plan)),
        ("", plan.checkpoints.basis),
    ]
    return rows


def _evaluated(plan: Plan) -> str:
    chosen = plan.evaluation
    better = "higher" if chosen.higher_is_better else "lower"
    text = f"every {chosen.every_steps:,} steps; best by {chosen.metric} ({better} is better)"
    if chosen.patience is not None:
        text += f"; stops after {chosen.patience} without improvement"
    return text


def _saved(plan: Plan) -> str:
    saved = plan.checkpoints
    often = [f"{saved.every_steps:,} steps"] if saved.every_steps else []
    often += [f"{saved.every_seconds:,.0f} s"] if saved.every_seconds else []
    return (
        f"{_size(saved.bytes)} every {' or '.join(often)}; the last {saved.keep_last} and the "
        f"best {saved.keep_best} are kept"
    )


def _memory(plan: Plan) -> Section:
    rows = [
        (part.name, _size(part.bytes), part.place if _on_gpu(plan) else "", part.basis)
        for part in plan.memory
    ]
    total = sum(part.bytes for part in plan.memory if part.place == "device")
    share = total / plan.memory_available if plan.memory_available else 0.0
    there = f"{share:.0%} of the {_size(plan.memory_available)} there for it"
    return Section(
        "memory of a worker",
        [*rows, ("together", _size(total), "", there)],
        heads=("part", "size", "", "basis"),
        numbers=frozenset({1}),
    )


def _on_gpu(plan: Plan) -> bool:
    return plan.device is DeviceType.CUDA


def _spent(plan: Plan) -> Section:
    rows = [("time", *_range(plan.seconds, _duration))]
    if plan.cost_dollars is None:
        missing = "no price is known; give --price-per-hour 0.75 or --price-sheet prices.yaml"
        rows.append(("cost", "unpriced", "", missing))
    else:
        rows.append(("cost", *_range(plan.cost_dollars, _dollars)))
    if plan.budget is not None:
        rows += _budget(plan.budget)
    return Section("time and cost", rows, heads=("", "expected", "range", "basis"))


def _budget(budget: BudgetPlan) -> list[tuple[str, str, str, str]]:
    """The limits, and what is kept back of them."""
    limits = []
    if budget.max_microdollars is not None:
        limits.append(_dollars(budget.max_microdollars / 1e6))
    if budget.max_seconds is not None:
        limits.append(_duration(budget.max_seconds))
    warns = budget.on_exceeded == "Warn"
    what = "warns at the limit" if warns else "stops with a checkpoint at limit \u2212 reserve"
    return [
        ("budget", " and ".join(limits), "", f"over all attempts of the run; {what}"),
        ("reserve", _duration(budget.reserve.value), "", budget.reserve.basis),
    ]


def _range(estimate: Estimate, show: Callable[[float], str]) -> tuple[str, str, str]:
    low, high = estimate.low, estimate.high
    between = f"{show(low)} to {show(high)}" if low is not None and high is not None else ""
    return show(estimate.value), between, estimate.basis


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _dollars(amount: float) -> str:
    from tunefleet.cost.money import MICRO, format_money

    return format_money(round(amount * MICRO))


def _size(size: int) -> str:
    if size < 2**20:
        return f"{size / 2**10:.1f} KiB"
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.2f} GiB"
