"""Jobs, facts and machines to plan with, made of a few words; no file is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import DeviceType
from tunefleet.plan.facts import (
    DataFacts,
    DeviceFacts,
    Facts,
    MachineFacts,
    ModelFacts,
    SplitFacts,
    StorageFacts,
)

GIB = 1 << 30
MINILM_PARAMETERS = 22_713_986


def job_values(**changes: object) -> dict[str, object]:
    """A small job as JSON values; ``training__epochs=2`` sets ``spec.training.epochs``."""
    spec: dict[str, object] = {
        "task": "text-classification",
        "model": {"uri": "model"},
        "data": {"train": {"uri": "reviews.csv"}},
    }
    for path, value in changes.items():
        block = spec
        *blocks, last = path.split("__")
        for name in blocks:
            inner = block.setdefault(name, {})
            assert isinstance(inner, dict)
            block = inner
        block[last] = value
    return {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "reviews"},
        "spec": spec,
    }


def a_job(**changes: object) -> FineTuneJob:
    """The job of :func:`job_values`."""
    return FineTuneJob.model_validate_json(json.dumps(job_values(**changes)))


def minilm(**changes: object) -> ModelFacts:
    """A MiniLM with a head of two labels."""
    values: dict[str, object] = {
        "source": "MiniLM",
        "path": "model",
        "digest": "sha256:model",
        "architecture": "BertForSequenceClassification",
        "model_type": "bert",
        "parameters": MINILM_PARAMETERS,
        "trainable_parameters": MINILM_PARAMETERS,
        "largest_parameter": 30_522 * 384,
        "hidden_size": 384,
        "layers": 6,
        "attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30_522,
        "max_positions": 512,
        "head_outputs": 2,
    }
    return ModelFacts.model_validate(values | changes)


def a_split(lengths: Mapping[int, int]) -> SplitFacts:
    """A split with these lengths: tokens → units."""
    units = sum(lengths.values())
    return SplitFacts(
        rows=units,
        units=units,
        tokens=sum(length * count for length, count in lengths.items()),
        weight=units,
        truncated=0,
        lengths=[[length, lengths[length]] for length in sorted(lengths)],
        store="store",
        digest="sha256:split",
    )


def some_facts(
    lengths: Mapping[int, int] | None = None,
    *,
    model: ModelFacts | None = None,
    task: str = "text-classification",
    max_length: int = 64,
    write: float | None = None,
) -> Facts:
    """Facts of a small data set: 1,000 units of 16 to 40 tokens unless given."""
    train = a_split(lengths or {16: 400, 24: 300, 40: 300})
    return Facts(
        task=task,
        max_length=max_length,
        max_length_reason="the longest unit has 40 tokens",
        model=model or minilm(),
        data=DataFacts(digest="sha256:data", train=train, validation=a_split({24: 100})),
        storage=StorageFacts(
            uri="file:///runs", conditional_put=True, write_bytes_per_second=write
        ),
        seconds=1.0,
    )


def a_machine(
    kind: DeviceType = DeviceType.CPU,
    *,
    name: str = "CPU",
    count: int = 1,
    memory: int = 16 * GIB,
    host: int = 64 * GIB,
    cpus: int = 4,
    bf16: bool = False,
) -> MachineFacts:
    """A machine; ``memory`` is the device's."""
    device = DeviceFacts(type=kind, name=name, count=count, memory=memory, bf16=bf16)
    return MachineFacts(device=device, cpus=cpus, memory=memory if kind is DeviceType.CPU else host)


def histogram(lengths: Sequence[int]) -> list[list[int]]:
    """Lengths as (length, units) pairs in ascending order."""
    return [[length, list(lengths).count(length)] for length in sorted(set(lengths))]
