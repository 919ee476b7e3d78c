"""The plan: what will be run, how big, how dear, and why.

Decides, from a job, the facts about its model and data, and a machine, everything that a run
is told; all contradictions are refused at once. Pure and deterministic: the same input gives
the same plan to the byte, on a laptop and in a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunefleet.api.job import FineTuneJob
from tunefleet.api.rates import Rate
from tunefleet.api.words import DeviceType
from tunefleet.plan import choices, memory, schedule, time
from tunefleet.plan.budget import Bill, Needs, budget_plan
from tunefleet.plan.defaults import explain_defaults
from tunefleet.plan.digest import spec_digest
from tunefleet.plan.document import (
    CheckpointPlan,
    Estimate,
    EvaluationPlan,
    MemoryPart,
    OptimizerPlan,
    Place,
    Plan,
)
from tunefleet.plan.facts import Facts, MachineFacts, SplitFacts
from tunefleet.plan.interval import SaveCost, checkpoint_plan, save_cost
from tunefleet.plan.notes import Notes, some
from tunefleet.plan.padding import Padding, padded_tokens

# Units are padded to the longest of their micro-batch, rounded up to this (``train.step``).
PAD_MULTIPLE = {DeviceType.CUDA: 8, DeviceType.CPU: 1, DeviceType.MPS: 1}
PLACES: tuple[Place, ...] = ("device", "host")


@dataclass(frozen=True, slots=True)
class _Space:
    """Where a job runs, and how much memory it takes there."""

    job: FineTuneJob
    facts: Facts
    machine: MachineFacts
    placement: choices.Placement

    @property
    def vocabulary_logits(self) -> bool:
        return self.job.spec.declaration.weight_unit == "tokens"

    def shape(self, micro_batch: int) -> memory.Shape:
        optimizer = self.job.spec.training.optimizer
        return memory.Shape(
            model=self.facts.model,
            device=self.placement.device.type,
            precision=self.placement.precision,
            optimizer=optimizer.name,
            momentum=bool(optimizer.momentum),
            checkpointing=self.job.spec.training.gradient_checkpointing,
            vocabulary_logits=self.vocabulary_logits,
            micro_batch=micro_batch,
            longest=_longest(self.facts),
        )

    def available(self, place: Place) -> int:
        """Bytes that one worker may use of its device, or of the machine around it."""
        if place == "device" and self.placement.device.type is not DeviceType.CPU:
            return int(self.placement.device.memory * memory.USABLE_SHARE)
        return int(self.machine.memory * memory.USABLE_SHARE) // self.placement.workers

    def fits(self, micro_batch: int) -> bool:
        parts = memory.worker_memory(self.shape(micro_batch))
        return all(memory.total(parts, p) <= self.available(p) for p in PLACES)


@dataclass(frozen=True, slots=True)
class _Making:
    """Every choice of a plan."""

    space: _Space
    micro_batch: int
    window_steps: int
    lasting: schedule.Length
    optimizer: OptimizerPlan
    evaluation: EvaluationPlan
    memory: list[MemoryPart]

    @property
    def job(self) -> FineTuneJob:
        return self.space.job

    @property
    def facts(self) -> Facts:
        return self.space.facts

    @property
    def placement(self) -> choices.Placement:
        return self.space.placement


def make_plan(
    job: FineTuneJob,
    facts: Facts,
    machine: MachineFacts,
    *,
    price_microdollars_per_hour: int | None = None,
    measured_flops_per_second: float | None = None,
    frozen: Plan | None = None,
    spent: Bill | None = None,
    rate: Rate | None = None,
    placed: int | None = None,
) -> Plan:
    """Make the plan; raises ``SpecError`` with every contradiction at once.

    ``price_microdollars_per_hour`` is per worker. ``measured_flops_per_second``, of one worker,
    stands above the stated rates. ``frozen`` is the plan of a run that goes on: its micro-batch
    and precision are kept, everything that does not touch the numbers is planned anew. ``spent``
    is what that run has spent already of the job's budget; ``rate`` a price in another form.
    ``placed``: of a range of workers, how many had a place; without it as many as may be.
    """
    notes = Notes()
    making = _settle(job, facts, machine, frozen, placed, notes)
    workers, price = making.placement.workers, price_microdollars_per_hour
    together = rate.together(workers) if rate else None if price is None else price * workers
    price = None if together is None else round(together / workers)
    timing = _Timing(making, price, measured_flops_per_second)
    checkpoints = checkpoint_plan(
        job.spec.checkpoints,
        timing.save,
        workers=workers,
        evaluation_steps=min(making.evaluation.every_steps, making.lasting.total_steps),
    )
    if job.spec.checkpoints.every == "auto":
        often = f"{checkpoints.every_seconds:,.0f} s or {checkpoints.every_steps:,} steps"
        reason = (
            "the interval that loses the least between saving and failing (Young/Daly; the "
            "checkpoint's basis shows it), and every evaluation"
        )
        notes.decide("spec.checkpoints.every", often, reason)
    budget = budget_plan(job.spec.budget, timing.needs, spent or Bill(), together, workers, notes)
    notes.raise_problems()
    return _written(making, timing, checkpoints, notes).model_copy(update={"budget": budget})


def _settle(
    job: FineTuneJob,
    facts: Facts,
    machine: MachineFacts,
    frozen: Plan | None,
    placed: int | None,
    notes: Notes,
) -> _Making:
    """Make every choice; raises ``SpecError`` with all that was refused."""
    _check_length(job, facts, notes)
    placement = choices.place(job, machine, frozen.precision if frozen else None, placed, notes)
    space = _Space(job, facts, machine, placement)
    cut = frozen.micro_batch if frozen else None
    micro = choices.micro_batch(job, placement, cut, space.fits, notes)
    lasting = schedule.length(job, facts, notes)
    making = _Making(
        space=space,
        micro_batch=micro,
        window_steps=frozen.window_steps if frozen else schedule.WINDOW_STEPS,
        lasting=lasting,
        optimizer=schedule.optimizer(job, lasting.total_steps, notes),
        evaluation=schedule.evaluation(job, lasting, micro, notes),
        memory=memory.worker_memory(space.shape(micro)),
    )
    explain_defaults(job, notes)
    _check_memory(space, micro, making.memory, notes)
    notes.raise_problems()
    return making


def _written(making: _Making, timing: _Timing, checkpoints: CheckpointPlan, notes: Notes) -> Plan:
    """The record of all that was chosen."""
    job, facts, placement = making.job, making.facts, making.placement
    training, lasting, seconds = job.spec.training, making.lasting, timing.run(checkpoints)
    return Plan(
        job=job.metadata.name,
        namespace=job.metadata.namespace,
        task=job.spec.task,
        spec_digest=spec_digest(job),
        model_digest=facts.model.digest,
        data_digest=facts.data.digest,
        parameters=facts.model.parameters,
        trainable_parameters=facts.model.trainable_parameters,
        seed=training.seed,
        epochs=lasting.epochs,
        batch_size=training.batch_size,
        micro_batch=making.micro_batch,
        micro_batches_per_step=training.batch_size // making.micro_batch,
        window_steps=making.window_steps,
        steps_per_epoch=lasting.steps_per_epoch,
        total_steps=lasting.total_steps,
        max_length=facts.max_length,
        device=placement.device.type,
        device_name=placement.device.name,
        precision=placement.precision,
        gradient_checkpointing=training.gradient_checkpointing,
        workers=placement.workers,
        threads_per_worker=placement.threads,
        optimizer=making.optimizer,
        evaluation=making.evaluation,
        checkpoints=checkpoints,
        max_failures=job.spec.retry.max_failures,
        train_units=facts.data.train.units,
        train_tokens=facts.data.train.tokens,
        padding=timing.padding_estimate(),
        padded_tokens=round(timing.padding.padded_tokens),
        memory=making.memory,
        memory_available=making.space.available("device"),
        seconds=seconds,
        cost_dollars=timing.cost(seconds),
        price_microdollars_per_hour=timing.price,
        decisions=notes.decisions,
        warnings=notes.warnings,
    )


def _longest(facts: Facts) -> int:
    splits = [facts.data.train, facts.data.validation, facts.data.test]
    return max((s.lengths[-1][0] for s in splits if s and s.lengths), default=facts.max_length)


def _check_length(job: FineTuneJob, facts: Facts, notes: Notes) -> None:
    where, asked = "spec.training.maxLength", job.spec.training.max_length
    positions = facts.model.max_positions
    chosen = asked or facts.max_length
    if positions is not None and chosen > positions:
        notes.refuse(
            where,
            f"{chosen} tokens are more than the {positions} positions of {facts.model.source}",
            f"set maxLength: {positions} or less, or use a model for longer texts",
        )
    if asked is None:
        notes.decide(where, facts.max_length, facts.max_length_reason)


def _check_memory(space: _Space, micro: int, parts: list[MemoryPart], notes: Notes) -> None:
    for place in PLACES:
        needed, there = memory.total(parts, place), space.available(place)
        if needed <= there:
            continue
        largest = max((p for p in parts if p.place == place), key=lambda part: part.bytes)
        what = "this machine's memory" if place == "host" else space.placement.device.name
        notes.refuse(
            "spec.training" if place == "device" else choices.counted_by(space.job),
            f"a worker needs about {_gib(needed)} of {what}, and {_gib(there)} are there for it "
            f"({some(space.placement.workers, 'worker')}); most of it is {largest.name}, "
            f"{_gib(largest.bytes)}",
            "; ".join(_memory_remedies(space, micro, place)),
        )


def _memory_remedies(space: _Space, micro: int, place: Place) -> list[str]:
    training, remedies = space.job.spec.training, []
    if place == "device" and micro > 1:
        smaller = [d for d in choices.divisors(training.batch_size) if d < micro]
        fitting = [d for d in smaller if space.fits(d)]
        remedies.append(f"set training.microBatch: {(fitting or smaller)[-1]}")
    if place == "device" and not training.gradient_checkpointing:
        remedies.append("set training.gradientCheckpointing: true")
    if space.job.spec.model.method.type == "full":
        remedies.append("train adapters only (model.method.type: lora)")
    if space.placement.workers > 1 and (place == "host" or not _on_gpu(space)):
        remedies.append("use fewer workers")
    if place == "device":
        remedies.append("set a smaller training.maxLength")
    return [*remedies, "or take a smaller model"]


def _on_gpu(space: _Space) -> bool:
    return space.placement.device.type is DeviceType.CUDA


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


@dataclass(frozen=True, slots=True)
class _Timing:
    """What the choices cost: padding, seconds, money."""

    making: _Making
    price: int | None
    measured: float | None

    @property
    def multiple(self) -> int:
        return PAD_MULTIPLE[self.making.placement.device.type]

    @property
    def padding(self) -> Padding:
        making = self.making
        return padded_tokens(
            making.facts.data.train.lengths,
            making.job.spec.training.batch_size,
            making.micro_batch,
            making.window_steps,
            self.multiple,
        )

    @property
    def save(self) -> SaveCost:
        size = memory.checkpoint_bytes(self.making.space.shape(self.making.micro_batch))
        return save_cost(size, self.making.placement.device.type, self.making.facts.storage)

    @property
    def engine(self) -> time.Engine:
        """What computes."""
        making = self.making
        placement = making.placement
        return time.Engine(
            model=making.facts.model,
            device=placement.device,
            rate=time.device_rate(
                placement.device, placement.precision, placement.threads, self.measured
            ),
            workers=placement.workers,
            vocabulary_logits=making.space.vocabulary_logits,
            checkpointing=making.job.spec.training.gradient_checkpointing,
            length=time.mean_length(making.facts.data.train.lengths),
        )

    @property
    def step_tokens(self) -> float:
        """Padded tokens of a step."""
        return self.padding.padded_tokens / self.making.lasting.steps_per_epoch

    @property
    def needs(self) -> Needs:
        """What a start and an end take, in seconds."""
        engine, save, data = self.engine, self.save, self.making.facts.data
        validation, test = _sorted_tokens(data.validation), _sorted_tokens(data.test)
        return Needs(
            start=engine.start_seconds,
            step=engine.step_seconds(self.step_tokens, engine.rate.value),
            evaluation=engine.scoring_seconds(validation),
            checkpoint=save.stall_seconds + save.write_seconds,
            scoring=engine.scoring_seconds(validation + test),
            end=engine.end_seconds,
        )

    def run(self, checkpoints: CheckpointPlan) -> Estimate:
        """Expected seconds of the run."""
        making, steps = self.making, self.making.lasting.total_steps
        every = making.evaluation.every_steps
        evaluations = steps // every + (steps % every > 0) + 1
        data = making.facts.data
        return self.engine.run_seconds(
            time.Work(
                steps=steps,
                step_tokens=self.step_tokens,
                # Test rows are looked at before training and at the end.
                forward_tokens=evaluations * _sorted_tokens(data.validation)
                + 2 * _sorted_tokens(data.test),
                save_steps=checkpoints.every_steps,
                save_seconds=checkpoints.every_seconds,
                stall_seconds=checkpoints.stall_seconds,
            )
        )

    def padding_estimate(self) -> Estimate:
        """The share of computed tokens that is padding."""
        making, padding = self.making, self.padding
        rounded = f" and up to a multiple of {self.multiple}" if self.multiple > 1 else ""
        return Estimate(
            value=padding.share,
            basis=(
                f"expected from the histogram of lengths: windows of {making.window_steps} steps "
                f"sorted by length, cut into micro-batches of {making.micro_batch}, each padded "
                f"to its longest unit{rounded}; "
                f"{padding.tokens:,} tokens become {padding.padded_tokens:,.0f} per epoch"
            ),
        )

    def cost(self, seconds: Estimate) -> Estimate | None:
        """Expected dollars; None where no price is known: unpriced, not free."""
        if self.price is None:
            return None
        hourly, workers = self.price / 1e6, self.making.placement.workers
        factor, group = hourly * workers / 3600, some(workers, "worker")
        return Estimate(
            value=seconds.value * factor,
            low=seconds.low * factor if seconds.low is not None else None,
            high=seconds.high * factor if seconds.high is not None else None,
            basis=f"${hourly:g} per worker and hour × {group} × {seconds.value:,.0f} s",
        )


def _sorted_tokens(split: SplitFacts | None) -> float:
    """Padded tokens of a split that is scored in order of length (a few percent of padding)."""
    return split.tokens * 1.05 if split else 0.0
