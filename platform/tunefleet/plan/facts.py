"""Facts: what the prepare stage found out about model, data, storage and machine.

Decides nothing: it is the record on which the plan is computed, written as ``facts.json``
so that ``tunefleet plan`` needs neither torch nor the data again. Imports ``api`` alone.
"""

from __future__ import annotations

from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.words import DeviceType, Severity


class ModelFacts(Document):
    """A base model, read from its config and its safetensors headers (no weights loaded).

    ``parameters`` counts the model as it is trained, the task's head included, tied weights
    once. ``digest`` covers every file that affects answers. ``tied_embeddings``: whether
    the output layer shares the input embedding (None: not known).
    """

    source: str
    revision: str = ""
    path: str
    digest: str
    architecture: str
    model_type: str
    parameters: int
    trainable_parameters: int
    largest_parameter: int
    hidden_size: int
    layers: int
    attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int | None = None
    head_outputs: int | None = None
    tokenizer_digest: str = ""
    chat_template: bool = False
    tied_embeddings: bool | None = None


class Finding(Document):
    """Something that was noticed about the data, with its place and what to do."""

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int | None = None
    count: int | None = None


class SplitFacts(Document):
    """One split, after tokenisation.

    ``lengths`` is the exact histogram of unit lengths in tokens as (length, units) pairs in
    ascending order. ``weight`` is the sum of unit weights: examples, or supervised tokens.
    ``tokens`` counts real tokens, padding excluded. ``store`` is the token cache's folder.
    """

    rows: int
    units: int
    tokens: int
    weight: int
    truncated: int
    lengths: list[list[int]]
    classes: dict[str, int] = {}
    store: str
    digest: str


class DataFacts(Document):
    """All splits, the label names in their order, and what was noticed."""

    digest: str
    labels: list[str] = []
    columns: dict[str, str] = {}
    files: list[str] = []
    train: SplitFacts
    validation: SplitFacts
    test: SplitFacts | None = None
    findings: list[Finding] = []

    @property
    def splits(self) -> dict[str, SplitFacts]:
        """The splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class StorageFacts(Document):
    """What the probe of the checkpoint store found (bytes per second; None: not measured)."""

    uri: str
    conditional_put: bool
    write_bytes_per_second: float | None = None


class DeviceFacts(Document):
    """One kind of device and what it has (bytes)."""

    type: DeviceType
    name: str
    count: int
    memory: int
    bf16: bool


class MachineFacts(Document):
    """The machine (or the profile's nodes) that the plan is made for."""

    device: DeviceFacts
    cpus: int
    memory: int


class Facts(Document):
    """Everything the plan needs beside the spec and the prices."""

    version: Literal[1] = 1
    task: str
    max_length: int
    max_length_reason: str
    model: ModelFacts
    data: DataFacts
    storage: StorageFacts
    seconds: float
