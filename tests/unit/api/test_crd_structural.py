"""Every way in which pydantic says something is translated for a cluster, or refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, StringConstraints, create_model

from tunefleet.api.base import Check, Name, Spec
from tunefleet.api.crd.structural import Offer, Untranslatable, structural


class Inner(Spec):
    """Inside."""

    least: Annotated[int, Field(gt=0)] = 3
    word: Literal["a", "b"] = "a"


class Guarded(Spec):
    """Has a rule."""

    checks = (
        Check(
            "self.least < self.most",
            "{least} is not below most",
            ("least",),
            "exchange them, or don't give {least}",
            values={"least": "string(self.least)"},
        ),
    )
    least: int = 1
    most: int = 2


class Loop(Spec):
    """Contains itself."""

    inner: Loop | None = None


FIELDS: dict[str, tuple[object, object, dict[str, object]]] = {
    "an exclusive bound is a flag": (
        Annotated[float, Field(gt=0, lt=1)],
        ...,
        {
            "type": "number",
            "minimum": 0,
            "exclusiveMinimum": True,
            "maximum": 1,
            "exclusiveMaximum": True,
        },
    ),
    "a constant is a list of one word": (Literal["a"], ..., {"type": "string", "enum": ["a"]}),
    "absence needs no null": (int | None, None, {"type": "integer"}),
    "null is kept where absence means something else": (
        float | None,
        1.5,
        {"type": "number", "nullable": True, "default": 1.5},
    ),
    "a number or a word": (
        Literal["auto"] | Annotated[int, Field(ge=1)],
        "auto",
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "pattern": "^(?:auto)$",
            "minLength": 4,
            "maxLength": 4,
            "default": "auto",
        },
    ),
    "a word or a pattern is one pattern": (
        Literal["a.b"] | Annotated[str, StringConstraints(pattern="^x+$", max_length=9)],
        ...,
        {"type": "string", "pattern": r"^(?:a\.b|x+)$", "minLength": 0, "maxLength": 9},
    ),
    "values nobody looks into are kept": (
        dict[str, Any],
        ...,
        {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    ),
    "a map of numbers": (
        dict[str, float],
        ...,
        {"type": "object", "additionalProperties": {"type": "number"}},
    ),
    "a bounded list": (
        Annotated[list[int], Field(max_length=2)],
        ...,
        {"type": "array", "maxItems": 2, "items": {"type": "integer"}},
    ),
    "a block's default is whole, for its rules are tested before it is filled": (
        Inner,
        Inner(word="b"),
        {
            "description": "Inside.",
            "type": "object",
            "properties": {
                "least": {
                    "type": "integer",
                    "minimum": 0,
                    "exclusiveMinimum": True,
                    "default": 3,
                },
                "word": {"type": "string", "enum": ["a", "b"], "default": "a"},
            },
            "default": {"least": 3, "word": "b"},
        },
    ),
}


def with_field(kind: object, default: object = ...) -> type[BaseModel]:
    fields: dict[str, Any] = {"field": (kind, default)}
    return create_model("Made", __base__=Spec, **fields)


@pytest.mark.parametrize(("kind", "default", "schema"), FIELDS.values(), ids=FIELDS)
def test_a_field_is_translated(kind: object, default: object, schema: dict[str, object]) -> None:
    found = structural(with_field(kind, default), Offer())
    properties = found["properties"]
    assert isinstance(properties, dict)
    assert properties["field"] == schema


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (str | list[str], "an alternative of array, string"),
        (str | int, "a free text beside other values"),
        (Annotated[int, Field(multiple_of=3)], "no translation for multipleOf"),
        (Annotated[set[int], Field()], "no translation for uniqueItems"),
        (tuple[int, str], "no translation for prefixItems"),
        (Any, "a value of type None"),
        (None, "nothing but null fits"),
        (dict[str, Name] | int, "an alternative of integer, object"),
        (Loop, "Loop contains itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_said_stops_the_build(kind: object, words: str) -> None:
    with pytest.raises(Untranslatable, match=f"^field.*: {words}"):
        structural(with_field(kind), Offer())


def test_names_of_a_free_map_are_held_by_a_rule() -> None:
    schema = structural(with_field(dict[Name, int]), Offer())
    (rule,) = schema["properties"]["field"]["x-kubernetes-validations"]  # type: ignore[index]
    assert "name.size() <= 253" in rule["rule"]
    assert "name.matches(" in rule["rule"]


def test_what_is_not_offered_is_left_out_with_the_rules_about_it() -> None:
    schema = structural(with_field(Guarded), Offer(withheld=frozenset({"field.most"})))
    block = schema["properties"]["field"]  # type: ignore[index]
    assert list(block["properties"]) == ["least"]
    assert "x-kubernetes-validations" not in block


def test_an_offer_changes_one_field_and_no_other() -> None:
    offer = Offer(
        words={"field.word": frozenset({"b"})},
        needed=frozenset({"field.least"}),
        undefaulted=frozenset({"field.least"}),
        meanings={"field.word": "A word."},
    )
    block = structural(with_field(Inner), offer)["properties"]["field"]  # type: ignore[index]
    assert block["required"] == ["least"]
    assert "default" not in block["properties"]["least"]
    assert block["properties"]["word"]["enum"] == ["a"]
    assert block["properties"]["word"]["description"] == "A word."


def test_a_rule_carries_its_text_its_place_and_its_values() -> None:
    assert structural(Guarded, Offer())["x-kubernetes-validations"] == [
        {
            "rule": "self.least < self.most",
            "message": "(least) is not below most → exchange them, or don't give (least)",
            "messageExpression": "string(self.least) + ' is not below most → exchange them, "
            "or don\\'t give ' + string(self.least)",
            "fieldPath": ".least",
        }
    ]
