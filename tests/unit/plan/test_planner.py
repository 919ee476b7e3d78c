"""What a plan holds, what it refuses, and that every open field is explained."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.plans import GIB, a_job, a_machine, minilm, some_facts
from tunefleet.api.errors import SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import DeviceType, Precision
from tunefleet.plan.document import Plan
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.planner import PAD_MULTIPLE, make_plan
from tunefleet.plan.time import measured_flops

CPU, CUDA, MPS = DeviceType.CPU, DeviceType.CUDA, DeviceType.MPS
H100 = a_machine(CUDA, name="NVIDIA H100", count=2, memory=80 * GIB, bf16=True)
T4 = a_machine(CUDA, name="Tesla T4", memory=16 * GIB)
APPLE = a_machine(MPS, name="Apple M3 GPU", memory=16 * GIB)


# -- steps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "epochs", "total"),
    [
        pytest.param({}, 3, 96, id="three epochs when nothing is said"),
        pytest.param({"training__epochs": 2}, 2, 64, id="epochs as they are asked for"),
        pytest.param({"training__maxSteps": 40}, 2, 40, id="a begun epoch counts"),
        pytest.param({"training__maxSteps": 10}, 1, 10, id="fewer steps than an epoch has"),
        pytest.param({"training__batchSize": 2000}, 3, 3, id="a batch larger than the data"),
    ],
)
def test_counts_steps(changes: dict[str, object], epochs: int, total: int) -> None:
    plan = make_plan(a_job(**changes), some_facts(), a_machine())
    assert (plan.epochs, plan.total_steps) == (epochs, total)


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [
        pytest.param(0.06, 6, id="a fraction is rounded up"),
        pytest.param(0.0, 0, id="none"),
        pytest.param(20.0, 20, id="a number of steps"),
        pytest.param(1.0, 96, id="one is the whole run, not a step"),
    ],
)
def test_counts_warm_up_steps(warmup: float, steps: int) -> None:
    plan = make_plan(a_job(training__optimizer__warmup=warmup), some_facts(), a_machine())
    assert plan.optimizer.warmup_steps == steps
    assert any("warm-up" in text for text in plan.warnings) == (steps == 96)


@pytest.mark.parametrize(
    ("every", "steps"),
    [("1ep", 32), ("2ep", 64), ("7steps", 7), (9, 9)],
    ids=["an epoch", "two epochs", "steps as text", "steps as a number"],
)
def test_counts_steps_between_evaluations(every: object, steps: int) -> None:
    plan = make_plan(a_job(evaluation__every=every), some_facts(), a_machine())
    assert plan.evaluation.every_steps == steps


def test_a_language_model_is_evaluated_with_the_training_micro_batch() -> None:
    lm = make_plan(
        a_job(task="causal-lm"), some_facts(task="causal-lm"), a_machine(memory=64 * GIB)
    )
    assert lm.evaluation.micro_batch == lm.micro_batch
    assert (lm.evaluation.metric, lm.evaluation.higher_is_better) == ("loss", False)
    classifier = make_plan(a_job(), some_facts(), a_machine())
    assert classifier.evaluation.micro_batch == 2 * classifier.micro_batch


# -- micro-batch and workers ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "workers", "micro"),
    [
        pytest.param(32, 1, 16, id="the largest divisor up to 16"),
        pytest.param(32, 4, 8, id="smaller, so that four workers have one each"),
        pytest.param(24, 1, 12, id="a batch that 16 does not divide"),
        pytest.param(10, 3, 2, id="unequal shares: five pieces for three workers"),
        pytest.param(13, 1, 13, id="a prime batch below 16"),
        pytest.param(7, 7, 1, id="one unit for each"),
    ],
)
def test_chooses_a_micro_batch_on_a_cpu(batch: int, workers: int, micro: int) -> None:
    job = a_job(training__batchSize=batch, workers__count=workers)
    assert make_plan(job, some_facts(), a_machine(cpus=8)).micro_batch == micro


def test_a_prime_batch_above_the_cap_is_warned_about() -> None:
    plan = make_plan(a_job(training__batchSize=31), some_facts(), a_machine())
    assert plan.micro_batch == 1
    assert any("no divisor between 2 and 16" in text for text in plan.warnings)


def test_a_micro_batch_on_a_gpu_is_as_large_as_memory_allows_up_to_64() -> None:
    job, facts = a_job(training__batchSize=256, workers__count=1), some_facts({512: 1000})
    assert make_plan(job, facts, H100).micro_batch == 64
    small = a_machine(CUDA, name="NVIDIA L4", memory=4 * GIB, bf16=True)
    plan = make_plan(job, facts, small)
    assert 1 <= plan.micro_batch < 64
    used = sum(part.bytes for part in plan.memory if part.place == "device")
    assert used <= plan.memory_available
    assert "that fits into memory" in reason_of(plan, "spec.training.microBatch")


@pytest.mark.parametrize(
    ("machine", "workers", "device"),
    [
        pytest.param(a_machine(), 1, CPU, id="one without a GPU"),
        pytest.param(H100, 2, CUDA, id="one per GPU"),
        pytest.param(APPLE, 1, MPS, id="one on an Apple GPU"),
    ],
)
def test_chooses_workers(machine: object, workers: int, device: DeviceType) -> None:
    assert isinstance(machine, type(H100))
    plan = make_plan(a_job(), some_facts(), machine)
    assert (plan.workers, plan.device) == (workers, device)


@pytest.mark.parametrize(
    ("cpus", "workers", "asked", "threads"),
    [(8, 2, None, 4), (2, 2, None, 1), (2, 4, None, 1), (8, 1, 3.0, 3), (8, 1, 0.5, 1)],
    ids=["shared", "one each", "never none", "as asked for", "half a core is a thread"],
)
def test_chooses_threads(cpus: int, workers: int, asked: float | None, threads: int) -> None:
    changes: dict[str, object] = {"workers__count": workers}
    if asked is not None:
        changes["workers__resources__cpu"] = asked
    plan = make_plan(a_job(**changes), some_facts(), a_machine(cpus=cpus))
    assert plan.threads_per_worker == threads
    assert any("more than the" in text for text in plan.warnings) == (workers * threads > cpus)


@pytest.mark.parametrize(
    ("machine", "asked", "chosen"),
    [
        pytest.param(a_machine(bf16=True), "auto", Precision.FP32, id="fp32 on a CPU"),
        pytest.param(H100, "auto", Precision.BF16, id="bf16 on a GPU that has it"),
        pytest.param(T4, "auto", Precision.FP32, id="fp32 on a GPU that lacks it"),
        pytest.param(APPLE, "auto", Precision.FP32, id="fp32 on an Apple GPU"),
        pytest.param(a_machine(bf16=True), "bf16", Precision.BF16, id="bf16 on a CPU when asked"),
        pytest.param(a_machine(), "fp64", Precision.FP64, id="fp64 on a CPU when asked"),
    ],
)
def test_chooses_a_precision(machine: object, asked: str, chosen: Precision) -> None:
    assert isinstance(machine, type(H100))
    plan = make_plan(a_job(training__precision=asked), some_facts(), machine)
    assert plan.precision is chosen


def test_no_gpu_asked_for_plans_on_the_cpu_beside_one() -> None:
    job = a_job(workers__resources__gpu=0, training__precision="fp64", workers__count=3)
    plan = make_plan(job, some_facts(), H100)
    assert (plan.device, plan.workers, plan.precision) == (CPU, 3, Precision.FP64)


# -- explained -----------------------------------------------------------------------------


def reason_of(plan: Plan, field: str) -> str:
    (found,) = [decision.reason for decision in plan.decisions if decision.field == field]
    return found


def left_out(model: BaseModel, prefix: str, written: bool = True) -> set[str]:
    """Fields with a value that nobody wrote, by path."""
    found: set[str] = set()
    for name, field in type(model).model_fields.items():
        path = f"{prefix}.{field.alias or name}"
        value, here = getattr(model, name), written and name in model.model_fields_set
        if isinstance(value, BaseModel):
            found |= left_out(value, path, here)
        elif value is not None and not here:
            found.add(path)
    return found


CHOSEN = {
    "spec.training.epochs",
    "spec.training.maxLength",
    "spec.training.optimizer.betas",
    "spec.training.optimizer.epsilon",
    "spec.workers.count",
    "spec.workers.resources.gpu",
    "spec.workers.resources.cpu",
    "spec.evaluation.metric",
}


def open_fields(job: FineTuneJob) -> set[str]:
    parts = ("training", "evaluation", "workers", "checkpoints", "retry")
    found = {
        path
        for part in parts
        for path in left_out(
            getattr(job.spec, part), f"spec.{part}", part in job.spec.model_fields_set
        )
    }
    return found | CHOSEN


@pytest.mark.parametrize("machine", [a_machine(), H100, APPLE], ids=["cpu", "cuda", "mps"])
def test_decisions_name_every_open_field_once_and_say_why(machine: object) -> None:
    assert isinstance(machine, type(H100))
    job = a_job()
    plan = make_plan(job, some_facts(), machine)
    decided = [decision.field for decision in plan.decisions]
    assert len(decided) == len(set(decided))
    assert open_fields(job) <= set(decided)
    assert all(decision.reason and decision.value for decision in plan.decisions)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training__epochs", 1),
        ("training__maxSteps", 5),
        ("training__maxLength", 64),
        ("training__batchSize", 32),
        ("training__microBatch", 8),
        ("training__precision", "fp32"),
        ("training__optimizer__learningRate", 1e-4),
        ("training__optimizer__betas", [0.9, 0.99]),
        ("evaluation__every", "1ep"),
        ("evaluation__metric", "accuracy"),
        ("workers__count", 1),
        ("workers__resources__cpu", 1.0),
        ("checkpoints__every", 10),
        ("checkpoints__keep__best", 2),
        ("data__validation", {"fraction": 0.2}),
    ],
)
def test_what_was_written_was_not_decided(path: str, value: object) -> None:
    plan = make_plan(a_job(**{path: value}), some_facts(), a_machine())
    field = "spec." + path.replace("__", ".").replace("maxSteps", "epochs")
    assert field not in {decision.field for decision in plan.decisions}


def test_lora_at_the_default_rate_is_warned_about() -> None:
    plan = make_plan(a_job(model__method={"type": "lora"}), some_facts(), a_machine())
    assert any("higher learning rate" in text for text in plan.warnings)


# -- a range of workers ----------------------------------------------------------------------


def ranged(placed: int | None = None, frozen: Plan | None = None, **changes: object) -> Plan:
    """A plan on a cluster, for one to six workers or for those that had a place."""
    job = a_job(workers={"min": 1, "max": 6, "resources": {"memory": "8Gi"}}, **changes)
    machine = machine_of(job, workers=placed)
    return make_plan(job, some_facts(), machine, frozen=frozen, placed=placed)


def test_a_range_is_planned_for_as_many_as_may_be_and_says_so() -> None:
    plan = ranged()
    assert plan.workers == 6
    assert reason_of(plan, "spec.workers") == "of 1 to 6: as many as may be"
    assert "spec.workers.count" not in {decision.field for decision in plan.decisions}


@pytest.mark.parametrize("placed", [1, 2, 5])
def test_fewer_workers_take_the_same_micro_batches_and_each_as_much_memory(placed: int) -> None:
    asked = ranged()
    fewer = ranged(placed, asked)
    assert fewer.workers == placed
    assert reason_of(fewer, "spec.workers") == "of 1 to 6: so many had a place"
    numbers = {"micro_batch", "micro_batches_per_step", "window_steps", "total_steps", "precision"}
    assert fewer.model_dump(include=numbers) == asked.model_dump(include=numbers)
    each = {"threads_per_worker", "memory", "memory_available"}
    assert fewer.model_dump(include=each) == asked.model_dump(include=each)
    # Where nothing was planned before, steps are cut for the most all the same.
    assert ranged(placed).micro_batch == asked.micro_batch
    assert asked.micro_batches_per_step >= 6


# -- cost, going on, purity ------------------------------------------------------------------


def test_cost_is_price_times_workers_times_seconds() -> None:
    job = a_job(workers__count=2)
    plan = make_plan(job, some_facts(), a_machine(), price_microdollars_per_hour=3_600_000)
    assert plan.cost_dollars is not None
    assert plan.cost_dollars.value == pytest.approx(plan.seconds.value * 2 / 1000)
    assert "$3.6 per worker and hour × 2 workers" in plan.cost_dollars.basis


def test_without_a_price_a_plan_is_unpriced_not_free() -> None:
    assert make_plan(a_job(), some_facts(), a_machine()).cost_dollars is None


def test_a_measured_speed_stands_above_the_table_and_narrows_the_bounds() -> None:
    job, facts, machine = a_job(), some_facts(), a_machine()
    done = make_plan(job, facts, machine)
    speed = measured_flops(job, facts, done, steps=96, train_seconds=960.0)
    assert speed is not None
    plan = make_plan(job, facts, machine, measured_flops_per_second=speed)
    assert "GFLOP/s measured" in plan.seconds.basis
    assert 960 <= plan.seconds.value <= 1200
    assert plan.seconds.low is not None
    assert plan.seconds.high is not None
    assert plan.seconds.high / plan.seconds.low < 2


def test_nothing_measured_is_no_speed() -> None:
    plan = make_plan(a_job(), some_facts(), a_machine())
    assert measured_flops(a_job(), some_facts(), plan, steps=0, train_seconds=0.0) is None


def test_a_run_that_goes_on_keeps_its_cut_on_another_machine() -> None:
    frozen = make_plan(a_job(), some_facts(), a_machine())
    plan = make_plan(a_job(workers__count=2), some_facts(), H100, frozen=frozen)
    assert (plan.micro_batch, plan.precision) == (frozen.micro_batch, frozen.precision)
    assert (plan.workers, plan.device) == (2, CUDA)


def test_a_run_cannot_go_on_with_more_workers_than_its_step_has_pieces() -> None:
    frozen = make_plan(a_job(), some_facts(), a_machine())
    with pytest.raises(SpecError, match="4 workers share 2 micro-batches"):
        make_plan(a_job(workers__count=4), some_facts(), a_machine(), frozen=frozen)


@pytest.mark.parametrize("kind", list(DeviceType))
def test_pads_as_the_step_pads(kind: DeviceType) -> None:
    import torch

    from tunefleet.train.step import padding_multiple

    assert padding_multiple(torch.device(kind.value)) == PAD_MULTIPLE[kind]


def test_a_plan_reads_back_as_it_was_written() -> None:
    plan = make_plan(a_job(), some_facts(), a_machine(), price_microdollars_per_hour=500_000)
    assert Plan.from_json(plan.to_json()) == plan


LENGTHS = st.dictionaries(st.integers(2, 512), st.integers(1, 400), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 300), st.integers(1, 6), st.integers(1, 9))
def test_a_plan_covers_its_epochs_exactly(
    lengths: dict[int, int], batch: int, workers: int, epochs: int
) -> None:
    job = a_job(
        training__batchSize=max(batch, workers),
        training__epochs=epochs,
        workers__count=workers,
    )
    facts, machine = some_facts(lengths), a_machine(cpus=8, memory=200 * GIB)
    plan = make_plan(job, facts, machine)
    units = sum(lengths.values())
    assert plan.total_steps == epochs * math.ceil(units / plan.batch_size)
    assert (plan.steps_per_epoch - 1) * plan.batch_size < units
    assert plan.steps_per_epoch * plan.batch_size >= units
    assert plan.micro_batch * plan.micro_batches_per_step == plan.batch_size
    assert plan.workers <= plan.micro_batches_per_step
    assert 0 <= plan.padding.value < 1
    assert plan.seconds.low is not None
    assert plan.seconds.high is not None
    assert plan.seconds.low <= plan.seconds.value <= plan.seconds.high
    assert plan.to_json() == make_plan(job, facts, machine).to_json()


def test_a_model_without_a_position_limit_takes_any_length() -> None:
    facts = some_facts(model=minilm(max_positions=None))
    assert make_plan(a_job(training__maxLength=600), facts, a_machine()).workers == 1
