"""Turns a model's JSON schema into the structural schema that an API server accepts.

Decides how each thing that pydantic says is said to Kubernetes. Whatever has no translation here
raises :class:`Untranslatable`: a constraint is carried over or the build fails. Imports ``api``
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import BaseModel

from tunefleet.api.base import Check

Schema = dict[str, object]
Node = Mapping[str, object]

_PLAIN = frozenset(
    {
        "type",
        "enum",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-validations",
    }
)
_OPEN = "x-kubernetes-preserve-unknown-fields"
_ELSEWHERE = frozenset(
    {
        "$defs",
        "additionalProperties",
        "const",
        "default",
        "description",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "patternProperties",
        "properties",
        "propertyNames",
        "required",
        "title",
    }
)
_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
_NAMES = "cannot be a name here → give a name of 1 to 253 visible characters"


class Untranslatable(ValueError):
    """A model says something that the schema of a cluster cannot say."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path or 'the document'}: {what}")


@dataclass(frozen=True, slots=True)
class Offer:
    """What of a model a cluster is offered, by dotted path below the model.

    ``withheld`` fields are left out, and ``words`` of a closed list; ``texts`` are fields of which
    only the text is taken, not the list of texts. ``needed`` fields must be given, and
    ``undefaulted`` ones keep silent about the laptop's default. ``checks`` are rules that only a
    cluster has. ``meanings`` describe fields; ``defaults`` says whether the server fills fields in.
    """

    withheld: frozenset[str] = frozenset()
    words: Mapping[str, frozenset[str]] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    undefaulted: frozenset[str] = frozenset()
    checks: Mapping[str, Sequence[Check]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    defaults: bool = True

    def below(self, path: str, paths: frozenset[str]) -> list[str]:
        """The names among ``paths`` that lie directly in the block at ``path``."""
        head = f"{path}." if path else ""
        return sorted(
            each.removeprefix(head)
            for each in paths
            if each.startswith(head) and "." not in each.removeprefix(head)
        )


def structural(model: type[BaseModel], offer: Offer) -> Schema:
    """The structural schema of a model."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _Translation(document, offer).block(document, "")


class _Translation:
    """One document on its way; references are looked up in it."""

    def __init__(self, document: Node, offer: Offer) -> None:
        self._definitions = cast("Mapping[str, Node]", document.get("$defs", {}))
        self._offer = offer
        self._open: list[str] = []

    def block(self, given: Node, path: str) -> Schema:
        """Any node, with its rules, default and description."""
        self._known(given, path, also={"anyOf", "$ref"})
        options = list(self._options(given, path))
        shapes = [option for option in options if option.get("type") != "null"]
        if path in self._offer.texts:
            shapes = [option for option in shapes if option.get("type") != "array"]
        if not shapes:
            raise Untranslatable(path, "nothing but null fits")
        found = self._shape(shapes, path)
        if "anyOf" in given:
            found |= {key: given[key] for key in given if key in _PLAIN}
        default = given.get("default")
        if default is not None and len(shapes) < len(options):
            # Null stands for something other than absence only where absence has a default.
            found["nullable"] = True
        if default is not None and self._offer.defaults and path not in self._offer.undefaulted:
            found["default"] = self._filled(default, found, path)
        self._rules(found, path)
        meaning = self._offer.meanings.get(path) or _prose(given, shapes)
        return {"description": meaning, **found} if meaning else found

    def _options(self, given: Node, path: str) -> Iterator[Node]:
        """The alternatives of a node, references resolved."""
        if "$ref" in given:
            name = str(given["$ref"]).rpartition("/")[2]
            if name in self._open:
                raise Untranslatable(path, f"{name} contains itself")
            yield from self._options(self._definitions[name], path)
        elif "anyOf" in given:
            for option in cast("Sequence[Node]", given["anyOf"]):
                yield from self._options(option, path)
        else:
            yield given

    def _known(self, given: Node, path: str, *, also: set[str]) -> None:
        strange = set(given) - _PLAIN - _ELSEWHERE - also
        if strange:
            raise Untranslatable(path, f"no translation for {', '.join(sorted(strange))}")

    def _shape(self, shapes: Sequence[Node], path: str) -> Schema:
        for shape in shapes:
            self._known(shape, path, also=set())
        kinds = {str(shape.get("type")) for shape in shapes}
        if len(shapes) == 1:
            return self._single(shapes[0], path)
        texts = [shape for shape in shapes if shape.get("type") == "string"]
        if kinds == {"string"}:
            return {"type": "string", **_any_text(texts, path)}
        if kinds == {"string", "integer"} and len(shapes) == len(texts) + 1:
            number = next(shape for shape in shapes if shape.get("type") == "integer")
            bounds = self._single(number, path)
            del bounds["type"]
            return {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                **bounds,
                **_any_text(texts, path),
            }
        raise Untranslatable(path, f"an alternative of {', '.join(sorted(kinds))}")

    def _single(self, given: Node, path: str) -> Schema:
        kind = given.get("type")
        if kind == "array":
            found = _scalars(given)
            found["items"] = self.block(cast("Node", given["items"]), f"{path}[]")
            return found
        if kind == "object":
            return self._object(given, path)
        if kind not in {"string", "integer", "number", "boolean"}:
            raise Untranslatable(path, f"a value of type {kind}")
        found = _scalars(given)
        refused = self._offer.words.get(path)
        if refused:
            words = cast("Sequence[str]", found["enum"])
            found["enum"] = [word for word in words if word not in refused]
        return found

    def _object(self, given: Node, path: str) -> Schema:
        if "properties" in given:
            return self._fields(given, path)
        found = _scalars(given)
        values = given.get("additionalProperties")
        by_pattern = cast("Mapping[str, Node]", given.get("patternProperties", {}))
        if values is True:
            # Written whole: who wrote which part of it would weigh as much as what is in it.
            return {**found, "x-kubernetes-map-type": "atomic", _OPEN: True}
        names = cast("Node", given.get("propertyNames", {}))
        if by_pattern and len(by_pattern) == 1 and values is None:
            pattern, values = next(iter(by_pattern.items()))
            names = {**names, "pattern": pattern}
        if not isinstance(values, Mapping):
            raise Untranslatable(path, "a map whose values have no one type")
        found["additionalProperties"] = self.block(values, f"{path}.*")
        if names:
            found["x-kubernetes-validations"] = [{"rule": _named(names, path), "message": _NAMES}]
        return found

    def _fields(self, given: Node, path: str) -> Schema:
        if given.get("additionalProperties", False) is not False:
            raise Untranslatable(path, "fields of its own beside unknown ones")
        title = str(given.get("title"))
        self._open.append(title)
        below = f"{path}." if path else ""
        withheld = self._offer.below(path, self._offer.withheld)
        properties = cast("Mapping[str, Node]", given["properties"])
        found = _scalars(given)
        found["properties"] = {
            name: self.block(node, f"{below}{name}")
            for name, node in properties.items()
            if name not in withheld
        }
        required = [
            name
            for name in cast("Sequence[str]", given.get("required", ()))
            if name not in withheld
        ]
        required += self._offer.below(path, self._offer.needed)
        if required:
            found["required"] = required
        rules = cast("list[Schema]", found.pop("x-kubernetes-validations", []))
        kept = [rule for rule in rules if not _mentions(rule, withheld)]
        if kept:
            found["x-kubernetes-validations"] = kept
        self._open.pop()
        return found

    def _filled(self, default: object, schema: Node, path: str) -> object:
        """A default in full, but for nulls: its rules are tested before the server fills it."""
        if not isinstance(default, dict):
            return default
        offered = cast("Mapping[str, Node]", schema.get("properties", {}))
        return {
            name: self._filled(value, offered[name], f"{path}.{name}")
            for name, value in default.items()
            if value is not None
            and name in offered
            and f"{path}.{name}" not in self._offer.undefaulted
        }

    def _rules(self, found: Schema, path: str) -> None:
        checks = self._offer.checks.get(path, ())
        if checks:
            own = cast("list[Schema]", found.get("x-kubernetes-validations", []))
            found["x-kubernetes-validations"] = [*own, *(check.as_cel() for check in checks)]


def _scalars(given: Node) -> Schema:
    """What is said alike in both; exclusive bounds become flags, a constant a list of one."""
    found: Schema = {"type": given["type"]} if "type" in given else {}
    found |= {key: given[key] for key in given if key in _PLAIN}
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if flag in given:
            found[bound], found[flag] = given[flag], True
    if "const" in given:
        found["enum"] = [given["const"]]
    return found


def _any_text(texts: Sequence[Node], path: str) -> Schema:
    """One pattern and one pair of bounds for several kinds of text."""
    parts: list[str] = []
    lengths: list[tuple[int, int]] = []
    for text in texts:
        words = [str(word) for word in cast("Sequence[object]", _scalars(text).get("enum", ()))]
        pattern = text.get("pattern")
        if words:
            parts += [re.escape(word) for word in words]
            lengths += [(len(word), len(word)) for word in words]
        elif isinstance(pattern, str) and "maxLength" in text:
            parts.append(pattern.removeprefix("^").removesuffix("$"))
            least, most = text.get("minLength", 0), text["maxLength"]
            lengths.append((cast("int", least), cast("int", most)))
        elif isinstance(pattern, str):
            parts.append(pattern.removeprefix("^").removesuffix("$"))
        else:
            raise Untranslatable(path, "a free text beside other values")
    found: Schema = {"pattern": f"^(?:{'|'.join(parts)})$"}
    if len(lengths) >= len(texts):
        found["minLength"] = min(least for least, _ in lengths)
        found["maxLength"] = max(most for _, most in lengths)
    return found


def _named(names: Node, path: str) -> str:
    strange = set(names) - {"minLength", "maxLength", "pattern"}
    if strange:
        raise Untranslatable(path, f"keys with {', '.join(sorted(strange))}")
    tests = []
    if "minLength" in names:
        tests.append(f"name.size() >= {names['minLength']}")
    if "maxLength" in names:
        tests.append(f"name.size() <= {names['maxLength']}")
    if "pattern" in names:
        tests.append(f"name.matches(r'{names['pattern']}')")
    return f"self.all(name, {' && '.join(tests)})"


def _mentions(rule: Node, names: Sequence[str]) -> bool:
    return any(re.search(rf"\bself\.{name}\b", str(rule["rule"])) for name in names)


def _prose(given: Node, shapes: Sequence[Node]) -> str:
    """The docstring as plain text."""
    text = str(given.get("description") or (shapes[0].get("description", "")))
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
