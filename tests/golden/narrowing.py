"""What an object that a cluster took before would now be refused for.

Decides when one schema of a kind is narrower than another: a field or word that is gone, another
type, a closer bound, a field that must be there, a rule that was not there. Anything else is an
addition, which every stored object survives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

Schema = Mapping[str, object]

_NAMED = re.compile(r"\bself\.(\w+)")
_FROM_BELOW = ("minimum", "minLength", "minItems", "minProperties")
_FROM_ABOVE = ("maximum", "maxLength", "maxItems", "maxProperties")
_FLAGS = ("exclusiveMinimum", "exclusiveMaximum")
_SAME = ("type", "format", "pattern", "x-kubernetes-int-or-string", "x-kubernetes-list-type")
_OPEN = "x-kubernetes-preserve-unknown-fields"


def narrowed(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """Every way in which ``new`` refuses what ``old`` took, with its place."""
    yield from (f"{path}: {what}" for what in _narrowed_here(old, new))
    before, after = _fields(old), _fields(new)
    for name, schema in before.items():
        where = f"{path}.{name}" if path else name
        if name in after:
            yield from narrowed(schema, after[name], where)
        elif not new.get(_OPEN):
            yield f"{where}: is gone"
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping):
            yield from narrowed(
                cast("Schema", old[key]),
                cast("Schema", new[key]),
                f"{path}.{key}".removeprefix("."),
            )


def _narrowed_here(old: Schema, new: Schema) -> Iterator[str]:
    for key in _SAME:
        freed = key == "pattern" and key not in new
        if old.get(key) != new.get(key) and not freed:
            yield f"{key} was {old.get(key)}, is {new.get(key)}"
    yield from _closer(old, new)
    for key in (_OPEN, "nullable"):
        if old.get(key) and not new.get(key):
            yield f"{key} is gone"
    words, left = _names(old, "enum"), _names(new, "enum")
    if left and not words:
        yield f"takes {', '.join(sorted(left))} only"
    elif left and words - left:
        yield f"no longer takes {', '.join(sorted(words - left))}"
    for name in sorted(_names(new, "required") - _names(old, "required")):
        yield f"needs {name}"
    for rule in sorted(_rules(new) - _rules(old)):
        named = set(_NAMED.findall(rule))
        # A rule about new fields alone refuses no object that was taken before.
        if not named or "properties" not in old or named & _fields(old).keys():
            yield f"has a new rule: {rule}"


def _closer(old: Schema, new: Schema) -> Iterator[str]:
    for keys, direction in ((_FROM_BELOW, 1), (_FROM_ABOVE, -1)):
        for key in keys:
            was, now = cast("float | None", old.get(key)), cast("float | None", new.get(key))
            if now is not None and (was is None or (now - was) * direction > 0):
                yield f"{key} was {was}, is {now}"
    for key in _FLAGS:
        if new.get(key) and not old.get(key):
            yield f"{key} was not there"


def _names(schema: Schema, key: str) -> set[str]:
    return set(cast("list[str]", schema.get(key, [])))


def _fields(schema: Schema) -> Mapping[str, Schema]:
    return cast("Mapping[str, Schema]", schema.get("properties", {}))


def _rules(schema: Schema) -> set[str]:
    rules = cast("list[Mapping[str, str]]", schema.get("x-kubernetes-validations", []))
    return {rule["rule"] for rule in rules}
