"""Work is counted, rates are stated, and the two make seconds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from tests.plans import a_machine, minilm
from tunefleet.api.words import DeviceType, Precision
from tunefleet.plan import time
from tunefleet.plan.time import Engine, Rate, Work

WORK = Work(
    steps=100,
    step_tokens=1000.0,
    forward_tokens=5000.0,
    save_steps=50,
    save_seconds=None,
    stall_seconds=0.1,
)


def engine(workers: int = 1) -> Engine:
    return Engine(
        model=minilm(),
        device=a_machine().device,
        rate=Rate(40e9, 20e9, 80e9, "stated"),
        workers=workers,
        vocabulary_logits=False,
        checkpointing=False,
        length=32.0,
    )


def test_counts_the_operations_that_torch_counts() -> None:
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    # Torch counts eager attention in full, and fused kernels on a CPU not at all.
    config._attn_implementation = "eager"
    model = BertForSequenceClassification(config)
    tokens = 2 * 128
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=torch.ones((2, 128), dtype=torch.long)).logits.sum()
        forward = counter.get_total_flops()
        loss.backward()
    counted = time.forward_flops(minilm(), 128, vocabulary_logits=False) * tokens
    both = time.training_flops(minilm(), 128, vocabulary_logits=False, checkpointing=False)
    assert counted == pytest.approx(forward, rel=0.02)
    assert both * tokens == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "logits", "expected"),
    [
        pytest.param({}, False, 22_713_986 - (30_522 + 512) * 384, id="without embeddings"),
        pytest.param({}, True, 22_713_986 - 512 * 384, id="a tied output layer is multiplied"),
        pytest.param(
            {"tied_embeddings": False}, True, 22_713_986 - (30_522 + 512) * 384, id="not tied"
        ),
        pytest.param(
            {"model_type": "llama"}, False, 22_713_986 - 30_522 * 384, id="rotary positions"
        ),
    ],
)
def test_parameters_that_are_multiplied(
    changes: dict[str, object], logits: bool, expected: int
) -> None:
    assert time.matrix_parameters(minilm(**changes), vocabulary_logits=logits) == expected


def test_recomputing_costs_a_forward_pass_and_frozen_weights_save_one() -> None:
    def flops(checkpointing: bool = False, **changes: object) -> float:
        return time.training_flops(
            minilm(**changes), 32, vocabulary_logits=False, checkpointing=checkpointing
        )

    forward = time.forward_flops(minilm(), 32, vocabulary_logits=False)
    assert flops() == pytest.approx(3 * forward)
    assert flops(checkpointing=True) == pytest.approx(4 * forward)
    assert flops(trainable_parameters=1000) == pytest.approx(2 * forward, rel=0.01)


def test_seconds_lie_between_their_bounds_and_fall_with_workers() -> None:
    one, two = engine().run_seconds(WORK), engine(workers=2).run_seconds(WORK)
    for estimate in (one, two):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    assert two.value < one.value
    assert "stated" in one.basis


@pytest.mark.parametrize(
    "more",
    [
        {"steps": 200},
        {"step_tokens": 2000.0},
        {"forward_tokens": 500_000.0},
        {"save_steps": 1},
        {"save_seconds": 0.5},
    ],
    ids=lambda more: next(iter(more)),
)
def test_more_work_takes_longer(more: dict[str, float]) -> None:
    dearer = dataclasses.replace(WORK, **more)  # type: ignore[arg-type]
    assert engine().run_seconds(dearer).value > engine().run_seconds(WORK).value


@pytest.mark.parametrize(
    ("kind", "name", "precision", "words"),
    [
        (DeviceType.CPU, "CPU", Precision.FP32, ["40 GFLOP/s per core", "2 threads"]),
        (DeviceType.CUDA, "NVIDIA H100 80GB HBM3", Precision.BF16, ["989 TFLOP/s", "25%"]),
        (DeviceType.CUDA, "NVIDIA A100-SXM4-80GB", Precision.FP32, ["312 TFLOP/s", "1/8"]),
        (DeviceType.CUDA, "NVIDIA L40S", Precision.BF16, ["362 TFLOP/s"]),
        (DeviceType.CUDA, "NVIDIA A10G", Precision.BF16, ["70 TFLOP/s"]),
        (DeviceType.CUDA, "Novelty 1", Precision.BF16, ["unknown device"]),
        (DeviceType.MPS, "Apple M3 GPU", Precision.FP32, ["Apple GPU (assumed)"]),
    ],
)
def test_rates_say_where_they_come_from(
    kind: DeviceType, name: str, precision: Precision, words: list[str]
) -> None:
    rate = time.device_rate(a_machine(kind, name=name).device, precision, 2, None)
    assert rate.low < rate.value < rate.high
    for word in words:
        assert word in rate.basis


def test_a_measured_rate_stands_above_the_table() -> None:
    rate = time.device_rate(a_machine().device, Precision.FP32, 2, 12.5e9)
    assert rate.value == 12.5e9
    assert "12.5 GFLOP/s measured" in rate.basis


def test_a_token_sees_longer_units_more_often() -> None:
    assert time.mean_length([[10, 10], [30, 10]]) == pytest.approx(25)
    assert time.mean_length([]) == 0
