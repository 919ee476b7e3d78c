"""The building blocks of every resource model: strictness, names and shared value types.

Decides how the language behaves as a whole: unknown keys are errors, numbers are never
guessed from strings, NaN and infinity are refused, Python names are snake_case and the
file's names camelCase. Imports pydantic alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Rule:
    """A broken rule between fields: what is wrong, which field to point at, what to do.

    ``at`` and ``reads`` are paths below the block that has the rule, in the file's names.
    ``reads`` lists what the rule depends on (empty: the whole block), so that it stays
    silent while one of these fields is itself wrong.
    """

    message: str
    at: tuple[str | int, ...] = ()
    remedy: str = ""
    reads: tuple[tuple[str | int, ...], ...] = ()


def in_one_line(message: str, remedy: str) -> str:
    """What is wrong and what to do, as an API server says it."""
    return f"{message} → {remedy}" if remedy else message


@dataclass(frozen=True, slots=True)
class Check:
    """A rule that a laptop tests in Python and an API server in CEL, with one text for both.

    ``holds`` is the CEL expression that is true while the rule is kept; ``self`` is the block.
    ``message`` and ``remedy`` may have ``{places}``; ``values`` gives the CEL expression, a
    string, that fills each of them on the server, and :meth:`broken` fills them on a laptop.
    """

    holds: str
    message: str
    at: tuple[str, ...] = ()
    remedy: str = ""
    reads: tuple[tuple[str, ...], ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def broken(self, **values: str) -> Rule:
        """The rule as a laptop tells it."""
        return Rule(
            self.message.format(**values), self.at, self.remedy.format(**values), self.reads
        )

    def as_cel(self) -> dict[str, object]:
        """An entry of ``x-kubernetes-validations``."""
        text = in_one_line(self.message, self.remedy)
        named = {name: f"({name})" for name in self.values}
        found: dict[str, object] = {"rule": self.holds, "message": text.format(**named)}
        if self.values:
            parts = re.split(r"\{(\w+)\}", text)
            terms = [
                self.values[part] if index % 2 else _quoted(part)
                for index, part in enumerate(parts)
                if part
            ]
            found["messageExpression"] = " + ".join(terms)
        if self.at:
            found["fieldPath"] = "".join(f".{step}" for step in self.at)
        return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class BrokenRules(ValueError):
    """All rules that a block breaks, at once."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        super().__init__("; ".join(rule.message for rule in self.rules))


class Spec(BaseModel):
    """A part of a user's file: immutable, strict, unknown keys refused.

    Rules between fields are yielded by ``_broken_rules``, all of them, so that a user
    sees everything that is wrong at once.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        validate_default=False,
    )

    checks: ClassVar[tuple[Check, ...]] = ()
    """The rules between this block's fields that an API server tests too."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.checks:
            rules = [check.as_cel() for check in cls.checks]
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = rules
        return schema

    def _broken_rules(self) -> Iterator[Rule]:
        """The rules between this block's fields that its values break."""
        return iter(())

    @model_validator(mode="after")
    def _keep_the_rules(self) -> Self:
        broken = tuple(self._broken_rules())
        if broken:
            raise BrokenRules(broken)
        return self


class Document(BaseModel):
    """A record tunefleet writes and reads back (facts, plan, manifest, claim, progress).

    Immutable and strict like a spec. Unknown keys are refused too: a record of a newer
    version is recognised by its ``version`` field and refused with that reason.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    def to_json(self, *, indent: int | None = None) -> str:
        """The record as JSON with the file's (camelCase) names."""
        return self.model_dump_json(by_alias=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record back; raises ``pydantic.ValidationError``."""
        return cls.model_validate_json(text)


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_LONGEST = 10 * 366 * 86_400

DURATION_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
MONEY_PATTERN = r"^\d{1,12}(\.\d{1,6})?$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
VISIBLE_PATTERN = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"


def duration_seconds(text: str) -> int:
    """Seconds of a :data:`Duration`; raises ``ValueError`` for anything else."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 30m, 6h or 1d12h")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


NO_TIME = "a duration of zero; write it like 90s, 30m, 6h or 1d12h"


def _sane_duration(text: str) -> str:
    seconds = duration_seconds(text)
    if seconds == 0:
        raise ValueError(NO_TIME)
    if seconds > _LONGEST:
        raise ValueError("a duration of more than ten years; write it like 90s, 30m or 6h")
    return text


Duration = Annotated[
    str,
    StringConstraints(pattern=DURATION_PATTERN, min_length=2, max_length=32),
    AfterValidator(_sane_duration),
]
"""A duration such as ``90s``, ``30m``, ``6h`` or ``1d12h``."""

Money = Annotated[str, StringConstraints(pattern=MONEY_PATTERN)]
"""An amount in US dollars as a string, so that no binary fraction is involved."""

DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL_PATTERN, min_length=1, max_length=63)]
"""A Kubernetes name (RFC 1123 label)."""

Text = Annotated[str, StringConstraints(pattern=VISIBLE_PATTERN, min_length=1, max_length=4096)]
"""One line of text: a location, a title. Not blank, no control characters."""

Name = Annotated[str, StringConstraints(pattern=VISIBLE_PATTERN, min_length=1, max_length=253)]
"""A name somebody else gave: a column, a label, a hub model."""

PositiveInt = Annotated[int, Field(gt=0, le=2**53)]
