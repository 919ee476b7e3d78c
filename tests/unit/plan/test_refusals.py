"""What a plan refuses: every contradiction at once, each with its field and its remedy."""

from __future__ import annotations

import pytest

from tests.plans import GIB, a_job, a_machine, some_facts
from tunefleet.api.errors import SpecError
from tunefleet.api.words import DeviceType
from tunefleet.plan.planner import make_plan

H100 = a_machine(DeviceType.CUDA, name="NVIDIA H100", count=2, memory=80 * GIB, bf16=True)
T4 = a_machine(DeviceType.CUDA, name="Tesla T4", memory=16 * GIB)
APPLE = a_machine(DeviceType.MPS, name="Apple M3 GPU", memory=16 * GIB)


def refused(**changes: object) -> str:
    with pytest.raises(SpecError) as caught:
        make_plan(a_job(**changes), some_facts(), a_machine())
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"training__microBatch": 5},
            ["spec.training.microBatch", "does not divide batchSize 32", "4 or 8"],
            id="a micro-batch that does not divide the batch",
        ),
        pytest.param(
            {"training__microBatch": 16, "workers__count": 3},
            ["spec.workers.count", "3 workers share 2 micro-batches", "microBatch: 8"],
            id="more workers than micro-batches",
        ),
        pytest.param(
            {"training__batchSize": 2, "workers__count": 4},
            ["4 workers share 2 micro-batches", "batchSize of at least 4"],
            id="more workers than units in a batch",
        ),
        pytest.param(
            {"training__microBatch": 16, "workers": {"min": 1, "max": 3}},
            ["spec.workers.max", "3 workers share 2 micro-batches", "workers.max: 2"],
            id="a range that ends above the micro-batches",
        ),
        pytest.param(
            {"workers__resources__gpu": 1},
            ["spec.workers.resources.gpu", "this machine has none", "remove gpu"],
            id="a GPU where there is none",
        ),
        pytest.param(
            {"training__precision": "bf16"},
            ["spec.training.precision", "no native bf16", "auto or fp32"],
            id="bf16 where the device lacks it",
        ),
        pytest.param(
            {"training__maxLength": 600},
            ["spec.training.maxLength", "600", "512 positions of MiniLM", "512 or less"],
            id="texts longer than the model's positions",
        ),
    ],
)
def test_refuses(changes: dict[str, object], words: list[str]) -> None:
    message = refused(**changes)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("machine", "changes", "words"),
    [
        pytest.param(H100, {"workers__count": 3}, ["3 workers need 3 GPUs", "has 2"], id="GPUs"),
        pytest.param(APPLE, {"workers__count": 2}, ["2 workers need 2 GPUs"], id="an Apple GPU"),
        pytest.param(
            H100, {"training__precision": "fp64"}, ["on the CPU only", "gpu: 0"], id="fp64 on a GPU"
        ),
        pytest.param(
            T4, {"training__precision": "bf16"}, ["Tesla T4 has no native bf16"], id="bf16 on a T4"
        ),
    ],
)
def test_refuses_on_a_gpu(machine: object, changes: dict[str, object], words: list[str]) -> None:
    assert isinstance(machine, type(H100))
    with pytest.raises(SpecError) as caught:
        make_plan(a_job(**changes), some_facts(), machine)
    for word in words:
        assert word in str(caught.value)


def test_tells_everything_that_is_wrong_at_once() -> None:
    message = refused(training__microBatch=5, training__precision="bf16", workers__resources__gpu=1)
    assert message.count("→") == 3


@pytest.mark.parametrize(
    ("changes", "remedies", "others"),
    [
        pytest.param(
            {"training__microBatch": 32},
            ["training.microBatch: 4", "gradientCheckpointing: true", "type: lora"],
            ["fewer workers"],
            id="one worker with a large micro-batch",
        ),
        pytest.param(
            {
                "training__microBatch": 8,
                "training__gradientCheckpointing": True,
                "model__method": {"type": "lora"},
                "workers__count": 4,
            },
            ["fewer workers", "smaller training.maxLength", "a smaller model"],
            ["gradientCheckpointing: true", "type: lora"],
            id="what is done already is not proposed",
        ),
    ],
)
def test_refuses_what_does_not_fit_into_memory(
    changes: dict[str, object], remedies: list[str], others: list[str]
) -> None:
    with pytest.raises(SpecError) as caught:
        make_plan(a_job(**changes), some_facts({512: 1000}), a_machine(memory=4 * GIB))
    message = str(caught.value)
    assert "GiB" in message
    for remedy in remedies:
        assert remedy in message
    for other in others:
        assert other not in message


def test_host_memory_counts_beside_a_gpu() -> None:
    machine = a_machine(DeviceType.CUDA, name="NVIDIA H100", memory=80 * GIB, host=GIB, bf16=True)
    with pytest.raises(SpecError, match="this machine's memory"):
        make_plan(a_job(), some_facts(), machine)
