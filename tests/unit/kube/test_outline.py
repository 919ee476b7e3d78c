"""What an outline leaves of an object, and that it decides nothing of what is right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunefleet.kube.outline import outline


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")
    size: int = 0
    note: str | None = None


class Whole(BaseModel):
    """Of another family: it is left as it is."""

    size: int = 0


class Thing(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    long_name: str = Field("", alias="longName")
    part: Part = Part()
    perhaps: Part | None = None
    parts: list[Part] = []
    pair: tuple[Part, ...] = ()
    labels: dict[str, str] = {}
    whole: Whole = Whole()


cut = outline(Thing, Part)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"name": "a", "more": {"x": [1]}}, {"name": "a"}),
        ({"name": "a", "longName": "b"}, {"name": "a", "longName": "b"}),
        ({"part": {"size": 1, "more": 2}}, {"part": {"size": 1}}),
        ({"perhaps": None}, {"perhaps": None}),
        ({"perhaps": {"more": 2}}, {"perhaps": {}}),
        ({"parts": [{"size": 1, "more": 2}, {}]}, {"parts": [{"size": 1}, {}]}),
        ({"pair": [{"note": None, "more": 2}]}, {"pair": [{"note": None}]}),
        ({"labels": {"any": "thing"}}, {"labels": {"any": "thing"}}),
        ({"whole": {"size": 1, "more": 2}}, {"whole": {"size": 1, "more": 2}}),
        ({}, {}),
    ],
    ids=[
        "a field that is not looked at",
        "the name that the file has for it",
        "a part's field that is not looked at",
        "nothing, said so",
        "a part with nothing of it",
        "a list of parts",
        "a tuple of parts",
        "names that nobody knows before",
        "a model of another family",
        "nothing at all",
    ],
)
def test_what_is_left(body: dict[str, object], left: dict[str, object]) -> None:
    assert json.loads(cut(json.dumps(body).encode())) == left


@pytest.mark.parametrize(
    "body",
    [b'{"name": ', b"[]", b'{"name": "a", "part": 3}', b'{"name": "a", "parts": {}}', b'"\xff"'],
    ids=["cut short", "a list", "a number for a part", "an object for a list", "no UTF-8"],
)
def test_what_cannot_be_cut_is_left_for_the_model_to_refuse(body: bytes) -> None:
    assert cut(body) == body
    with pytest.raises(ValidationError):
        Thing.model_validate_json(body)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["size", "note", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Thing.model_fields, "longName", "x"]), _values))
def test_cut_or_whole_a_body_is_read_or_refused_alike(body: dict[str, object]) -> None:
    said = json.dumps(body).encode()
    found = []
    for each in (said, cut(said)):
        try:
            found.append(Thing.model_validate_json(each).model_dump())
        except ValidationError as error:
            found.append({"refused": [(e["type"], e["loc"]) for e in error.errors()]})
    assert found[0] == found[1]
