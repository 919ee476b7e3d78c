"""The fields of a FineTuneJob as a tree: which exist, where, and what each one takes.

Decides the words in which a field's type is told to a person. Reads the model's own JSON
schema, so that it cannot drift from what is validated. Imports ``api`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

from tunefleet.api.base import (
    DNS_LABEL_PATTERN,
    DURATION_PATTERN,
    MONEY_PATTERN,
    VISIBLE_PATTERN,
)
from tunefleet.api.job import MEMORY_PATTERN, FineTuneJob
from tunefleet.api.training import EVERY_PATTERN

Path = tuple[str | int, ...]
Node = Mapping[str, object]

PATTERN_WORDS = {
    DNS_LABEL_PATTERN: "a name of lower-case letters, digits and hyphens, at most 63 long",
    DURATION_PATTERN: "a duration such as 90s, 30m, 6h or 1d12h",
    MONEY_PATTERN: 'an amount in dollars in quotes, such as "25.00"',
    VISIBLE_PATTERN: "text",
    EVERY_PATTERN: "epochs such as 1ep or steps such as 200steps",
    MEMORY_PATTERN: "an amount of memory such as 512Mi or 16Gi",
}

UNBOUNDED = 2**53
"""The largest whole number that JSON carries exactly; no limit worth telling."""

_LIST_WORDS = 8


@dataclass(frozen=True, slots=True)
class Field:
    """One field (or list item, or value of a free mapping): what it may hold.

    ``options`` are its possible shapes with references resolved and ``null`` left out.
    """

    options: tuple[Node, ...]
    nullable: bool
    required: bool = False

    @property
    def block(self) -> Node | None:
        """The shape with fields of its own, when there is one."""
        for option in self.options:
            if "properties" in option:
                return option
        return None

    @property
    def kinds(self) -> frozenset[str]:
        """The JSON types it takes: string, integer, number, boolean, array, object."""
        return frozenset(str(option.get("type")) for option in self.options)

    @property
    def words(self) -> tuple[str, ...]:
        """The words it takes, where these are a closed list."""
        found: list[str] = []
        for option in self.options:
            found += [str(word) for word in _choices(option)]
        return tuple(found)

    @property
    def is_choice(self) -> bool:
        """Whether it takes nothing but its words."""
        return all(_choices(option) for option in self.options)

    def children(self) -> dict[str, Field]:
        """The fields of its block, by name."""
        block = self.block
        if block is None:
            return {}
        required = cast("Sequence[str]", block.get("required", ()))
        return {
            name: _field(node, required=name in required)
            for name, node in cast("Mapping[str, Node]", block["properties"]).items()
        }

    def child(self, step: str | int) -> Field | None:
        """The field below, by name, key or list index."""
        for option in self.options:
            below: object = None
            if isinstance(step, int):
                below = option.get("items")
            elif "properties" in option:
                found = self.children().get(step)
                if found is not None:
                    return found
            else:
                # A free mapping; its schema names the pattern of the keys, where they have one.
                by_pattern = cast("Node", option.get("patternProperties", {}))
                below = next(iter(by_pattern.values()), option.get("additionalProperties"))
            if isinstance(below, Mapping):
                return _field(cast("Node", below))
        return None

    def expects(self) -> str:
        """What the field takes, in words."""
        return " or ".join(dict.fromkeys(_words(option) for option in self.options))


@cache
def root() -> Field:
    """The whole document."""
    return _field(_schema())


def field_at(path: Sequence[str | int]) -> Field | None:
    """The field at a path such as ``("spec", "training", "epochs")``; None: there is none."""
    found: Field | None = root()
    for step in path:
        if found is None:
            return None
        found = found.child(step)
    return found


@cache
def all_fields() -> dict[Path, Field]:
    """Every named field of the document by its path, blocks included, in their order."""
    return dict(_walk((), root()))


def dotted(path: Sequence[str | int]) -> str:
    """``spec.data.labels[2]`` of a path."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or "/" in step or not step:
            text += f'."{step}"' if text else f'"{step}"'
        else:
            text += f".{step}" if text else step
    return text


def _walk(path: Path, field: Field) -> Iterator[tuple[Path, Field]]:
    for name, child in field.children().items():
        yield (*path, name), child
        yield from _walk((*path, name), child)


@cache
def _schema() -> Node:
    return FineTuneJob.model_json_schema(by_alias=True, mode="validation")


def _field(node: Node, *, required: bool = False) -> Field:
    options: list[Node] = []
    nullable = False
    waiting = [node]
    while waiting:
        current = waiting.pop(0)
        reference = current.get("$ref")
        if isinstance(reference, str):
            definitions = cast("Mapping[str, Node]", _schema()["$defs"])
            waiting.insert(0, definitions[reference.rpartition("/")[2]])
        elif "anyOf" in current:
            waiting = [*cast("Sequence[Node]", current["anyOf"]), *waiting]
        elif current.get("type") == "null":
            nullable = True
        else:
            options.append(current)
    return Field(tuple(options), nullable, required)


def _choices(option: Node) -> Sequence[object]:
    if "const" in option:
        return (option["const"],)
    return cast("Sequence[object]", option.get("enum", ()))


def _words(option: Node) -> str:
    choices = _choices(option)
    if choices:
        names = [str(choice) for choice in choices]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    kind = option.get("type")
    if kind == "boolean":
        return "true or false"
    if kind in {"integer", "number"}:
        noun = "a whole number" if kind == "integer" else "a number"
        return f"{noun}{_bounds(option)}"
    if kind == "array":
        items = _field(cast("Node", option.get("items", {})))
        return f"a list (each item: {items.expects()})"
    if kind == "object" and "properties" in option:
        names = list(cast("Mapping[str, object]", option["properties"]))
        shown = ", ".join(names[:_LIST_WORDS]) + (", …" if len(names) > _LIST_WORDS else "")
        return f"a block with {shown}"
    if kind == "object":
        return "a block of `name: text` lines"
    pattern = option.get("pattern")
    return PATTERN_WORDS.get(pattern, "text") if isinstance(pattern, str) else "text"


def _bounds(option: Node) -> str:
    parts = []
    for key, word in (("exclusiveMinimum", "above"), ("minimum", "from")):
        if key in option:
            parts.append(f"{word} {_number(option[key])}")
    for key, word in (("exclusiveMaximum", "below"), ("maximum", "up to")):
        if key in option and option[key] != UNBOUNDED:
            parts.append(f"{word} {_number(option[key])}")
    return f" {' and '.join(parts)}" if parts else ""


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
