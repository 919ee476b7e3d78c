"""An object that a cluster has stored stays readable: definitions grow, and never narrow.

``definitions/`` holds the schemas that are promised. Who breaks the promise on purpose replaces
them in the same change, where everybody sees it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.golden.narrowing import narrowed
from tunefleet.api.crd.resources import KINDS, Kind

PROMISED = Path(__file__).with_name("definitions")


def promised(kind: Kind) -> dict[str, Any]:
    text = (PROMISED / f"{kind.plural}.yaml").read_text(encoding="utf-8")
    return schema_of(YAML(typ="safe").load(text))


def schema_of(manifest: Any) -> dict[str, Any]:
    (version,) = manifest["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_nothing_that_was_taken_is_refused(kind: Kind) -> None:
    assert list(narrowed(promised(kind), schema_of(kind.manifest({})))) == []


def test_every_promise_is_of_a_kind_that_is_still_shipped() -> None:
    assert {path.stem for path in PROMISED.iterdir()} <= {kind.plural for kind in KINDS}


BASE: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "x-kubernetes-validations": [{"rule": "has(self.a)"}],
    "properties": {
        "a": {"type": "integer", "minimum": 0, "maximum": 9},
        "b": {"type": "string", "enum": ["x", "y"], "maxLength": 5},
        "c": {"type": "array", "items": {"type": "string"}},
        "d": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "e": {"type": "number", "nullable": True},
    },
}
RULES = "x-kubernetes-validations"
Change = Callable[[dict[str, Any]], object]

NARROWER: dict[str, tuple[Change, str]] = {
    "a field is gone": (lambda s: s["properties"].pop("a"), "a: is gone"),
    "a field must be there": (lambda s: s["required"].append("b"), ": needs b"),
    "another type": (lambda s: s["properties"]["a"].update(type="string"), "a: type was integer"),
    "a higher minimum": (lambda s: s["properties"]["a"].update(minimum=1), "a: minimum was 0"),
    "an exclusive one": (
        lambda s: s["properties"]["a"].update(exclusiveMinimum=True),
        "a: exclusiveMinimum was not there",
    ),
    "a lower maximum": (lambda s: s["properties"]["a"].update(maximum=8), "a: maximum was 9"),
    "a bound that was not there": (
        lambda s: s["properties"]["c"].update(maxItems=5),
        "c: maxItems was None",
    ),
    "a word less": (lambda s: s["properties"]["b"]["enum"].remove("x"), "b: no longer takes x"),
    "words instead of text": (
        lambda s: s["properties"]["c"]["items"].update(enum=["x"]),
        "c.items: takes x only",
    ),
    "a rule more": (
        lambda s: s["x-kubernetes-validations"].append({"rule": "self.a > 1"}),
        ": has a new rule: self.a > 1",
    ),
    "a rule about a text": (
        lambda s: s["properties"]["b"].update({RULES: [{"rule": "self.matches('x')"}]}),
        "b: has a new rule: self.matches",
    ),
    "what was kept is pruned": (
        lambda s: s["properties"]["d"].pop("x-kubernetes-preserve-unknown-fields"),
        "d: x-kubernetes-preserve-unknown-fields is gone",
    ),
    "null means nothing any more": (
        lambda s: s["properties"]["e"].pop("nullable"),
        "e: nullable is gone",
    ),
    "a pattern": (lambda s: s["properties"]["b"].update(pattern="^x"), "b: pattern was None"),
}


@pytest.mark.parametrize(("change", "words"), NARROWER.values(), ids=NARROWER)
def test_a_narrower_schema_is_noticed(change: Change, words: str) -> None:
    new = copy.deepcopy(BASE)
    change(new)
    (found,) = narrowed(BASE, new)
    assert found.startswith(words)


WIDER: dict[str, Change] = {
    "a field more": lambda s: s["properties"].update(f={"type": "string", "maxLength": 1}),
    "a field more with a rule of its own": lambda s: (
        s["properties"].update(f={"type": "integer"}),
        s["x-kubernetes-validations"].append({"rule": "!has(self.f) || self.f > 1"}),
    ),
    "a word more": lambda s: s["properties"]["b"]["enum"].append("z"),
    "any word": lambda s: s["properties"]["b"].pop("enum"),
    "a wider bound": lambda s: s["properties"]["a"].update(minimum=-1, maximum=10),
    "no bound": lambda s: s["properties"]["b"].pop("maxLength"),
    "a rule less": lambda s: s["x-kubernetes-validations"].clear(),
    "a field that may stay away": lambda s: s["required"].clear(),
    "a default": lambda s: s["properties"]["a"].update(default=3),
}


@pytest.mark.parametrize("change", WIDER.values(), ids=WIDER)
def test_an_addition_is_no_narrowing(change: Change) -> None:
    new = copy.deepcopy(BASE)
    change(new)
    assert new != BASE
    assert list(narrowed(BASE, new)) == []
