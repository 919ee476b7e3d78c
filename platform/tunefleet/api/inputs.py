"""What goes into a job: the base model, and the rows with their columns and splits.

Decides the shape of ``spec.model`` and ``spec.data`` and the rules inside them. Imports
``api`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunefleet.api import rules
from tunefleet.api.base import Check, DnsLabel, Name, Rule, Spec, Text

Uris = Text | Annotated[list[Text], Field(min_length=1, max_length=1024)]
Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "text"]
Fraction = Annotated[float, Field(gt=0, lt=1)]

_TUNED_BEFORE = rules.ExactlyOne(("job", "bundle"))
_MODEL = rules.ExactlyOne(("name", "uri", "from"))
_ROWS = rules.ExactlyOne(("uri", "hub"))
_HELD_OUT_ROWS = rules.ExactlyOne(("uri", "hub", "fraction"))
_ADAPTERS = Check(
    "!has(self.lora) || self.type != 'full'",
    "has no effect with type: full",
    ("lora",),
    "set type: lora, or remove lora",
)
_REVISION = Check(
    "!has(self.revision) || has(self.name)",
    "belongs to a hub model; it has no effect beside uri or from",
    ("revision",),
    "name the model with `name`, or remove revision",
    (("revision",), ("name",)),
)
_GROUPS = Check(
    "!has(self.groupBy) || has(self.fraction)",
    "has no effect without fraction",
    ("groupBy",),
    "give a fraction such as 0.1, or remove groupBy",
    (("groupBy",), ("fraction",)),
)


class LoraSpec(Spec):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Annotated[int, Field(gt=0, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None


class MethodSpec(Spec):
    """Which weights are trained."""

    checks = (_ADAPTERS,)
    type: Literal["full", "lora", "qlora"] = "full"
    lora: LoraSpec | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        if self.lora is not None and self.type == "full":
            yield _ADAPTERS.broken()


class FromSpec(Spec):
    """A model that tunefleet tuned before: a job of the same storage, or a bundle's folder."""

    checks = _TUNED_BEFORE.checks
    job: DnsLabel | None = None
    bundle: Text | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        yield from _TUNED_BEFORE.broken(self.job, self.bundle)


class ModelSpec(Spec):
    """The base model: a hub name (with revision), a folder, or a tuned one to go on from."""

    checks = (*_MODEL.checks, _REVISION)
    name: Name | None = None
    revision: Name | None = None
    uri: Text | None = None
    from_: FromSpec | None = Field(default=None, alias="from")
    method: MethodSpec = MethodSpec()
    trust_remote_code: bool = False

    def _broken_rules(self) -> Iterator[Rule]:
        yield from _MODEL.broken(self.name, self.uri, self.from_)
        if self.revision is not None and self.name is None:
            yield _REVISION.broken()


class HubSource(Spec):
    """A data set of the Hugging Face hub."""

    name: Name
    config: Name | None = None
    split: Name = "train"
    revision: Name | None = None


class SourceSpec(Spec):
    """Where rows come from: files (globs allowed) or a hub data set."""

    checks = (*_ROWS.checks, *rules.FILE_CHECKS)
    uri: Uris | None = None
    hub: HubSource | None = None
    format: Format | None = None
    encoding: Name = "utf-8"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        yield from _ROWS.broken(self.uri, self.hub)
        yield from rules.file_options(
            self.uri, self.format, self.encoding, self.delimiter, files=self.uri is not None
        )


class HeldOutSpec(Spec):
    """Validation or test rows: their own source, or a fraction taken from the training rows.

    A fraction is stratified by label where the task has one; with ``groupBy`` all rows that
    share that column's value stay on one side.
    """

    checks = (*_HELD_OUT_ROWS.checks, *rules.FILE_CHECKS, _GROUPS)
    uri: Uris | None = None
    hub: HubSource | None = None
    format: Format | None = None
    encoding: Name = "utf-8"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = None
    fraction: Fraction | None = None
    group_by: Name | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        yield from _HELD_OUT_ROWS.broken(self.uri, self.hub, self.fraction)
        yield from rules.file_options(
            self.uri, self.format, self.encoding, self.delimiter, files=self.uri is not None
        )
        if self.group_by is not None and self.fraction is None:
            yield _GROUPS.broken()


class DataSpec(Spec):
    """The rows, how they are split, and which column is what."""

    checks = (rules.HELD_OUT_SHARE,)
    train: SourceSpec
    validation: HeldOutSpec = HeldOutSpec(fraction=0.1)
    test: HeldOutSpec | None = None
    columns: Annotated[dict[Name, Name], Field(max_length=64)] = {}
    labels: Annotated[list[Name], Field(min_length=1, max_length=100_000)] | None = None
    duplicates: Literal["keep", "drop", "refuse"] = "keep"

    def _broken_rules(self) -> Iterator[Rule]:
        yield from rules.distinct("labels", self.labels or ())
        yield from rules.held_out_share(
            self.validation.fraction, self.test.fraction if self.test else None
        )
