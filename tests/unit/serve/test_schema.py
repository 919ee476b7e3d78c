from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.evaluate.inputs import InputColumn
from tunefleet.serve.schema import Refusal, example, item_schema, parse_items, require_json
from tunefleet.serve.settings import Limits

TEXT = (InputColumn(name="text", kind="text", help="what is read"),)
CHAT = (InputColumn(name="messages", kind="messages"),)
LIMITS = Limits(items=4, text_characters=50)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["items", "text", "messages", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def read(body: bytes) -> list[dict[str, object]] | Refusal:
    try:
        return parse_items(body, TEXT, LIMITS)[0]
    except Refusal as refusal:
        return refusal


@given(VALUES)
def test_any_json_is_either_read_or_refused_with_a_status(value: object) -> None:
    found = read(json.dumps(value).encode())
    if isinstance(found, Refusal):
        assert found.status in {400, 422}
        assert found.body()["error"]
    else:
        assert 1 <= len(found) <= 4
        assert all(isinstance(item["text"], str) and item["text"].strip() for item in found)


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused(body: bytes) -> None:
    found = read(body)
    assert not isinstance(found, Refusal) or found.status in {400, 422}


def test_a_column_called_items_is_asked_in_the_short_form() -> None:
    columns = (InputColumn(name="items", kind="text"),)
    items, long = parse_items(b'{"items": "a list of things"}', columns, LIMITS)
    assert (items, long) == ([{"items": "a list of things"}], False)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x+json",
    ],
)
def test_json_by_any_of_its_names_is_read(content_type: str) -> None:
    require_json(content_type)


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/json", "multipart/form-data"])
def test_what_a_foreign_page_may_send_is_refused(content_type: str) -> None:
    with pytest.raises(Refusal) as told:
        require_json(content_type)
    assert told.value.status == 415


@pytest.mark.parametrize("columns", [TEXT, CHAT], ids=["text", "chat"])
def test_the_example_can_be_read(columns: tuple[InputColumn, ...]) -> None:
    body = json.dumps({"items": [example(columns)]}).encode()
    assert parse_items(body, columns, Limits())[0] == [example(columns)]
    assert item_schema(columns, LIMITS)["required"] == [columns[0].name]
