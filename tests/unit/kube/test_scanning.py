"""Lists and events are cut where their objects end, whatever the objects hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.kube.scanning import NotJson, split_event, split_list

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


@given(
    items=st.lists(OBJECTS, max_size=6),
    version=st.text("0123456789"),
    more=st.text(st.characters(exclude_categories=["Cs"])),
    metadata=OBJECTS,
    items_first=st.booleans(),
    indent=st.sampled_from([None, 2]),
    ascii=st.booleans(),
)
def test_a_list_is_cut_into_its_items(
    items: list[object],
    version: str,
    more: str,
    metadata: dict[str, object],
    items_first: bool,
    indent: int | None,
    ascii: bool,
) -> None:
    said = metadata | {"resourceVersion": version, "continue": more}
    members = [("items", items), ("metadata", said)]
    whole = {"kind": "List", **dict(members if items_first else members[::-1]), "more": [1, {}]}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii)
    cut = split_list(text.encode())
    assert (cut.resource_version, cut.more) == (version, more)
    assert [json.loads(item) for item in cut.items] == items


@given(item=OBJECTS, compact=st.booleans(), kind=st.sampled_from(["ADDED", "ERROR"]))
def test_an_event_is_cut_into_type_and_object(item: object, compact: bool, kind: str) -> None:
    event = {"type": kind, "object": item}
    line = json.dumps(event, separators=(",", ":") if compact else None)
    said, body = split_event(line.encode())
    assert (said, json.loads(body)) == (kind, item)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b'{"items":[{"a":1},',
        b'{"items":[{"a":"1}]}',
        b'{"metadata":{"resourceVersion":"1"}',
        b'{"items":[\xff]}',
    ],
    ids=[
        "nothing",
        "a web page",
        "a list cut between items",
        "a list cut inside a string",
        "a list cut before its end",
        "bytes that are no text",
    ],
)
def test_what_is_not_a_whole_list_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson, match="not whole JSON"):
        split_list(body)


@pytest.mark.parametrize(
    "line",
    [b"ok", b"[]", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{"a":'],
    ids=["not JSON", "not an object", "no object in it", "cut short"],
)
def test_what_is_not_a_whole_event_is_refused(line: bytes) -> None:
    with pytest.raises(NotJson, match="cannot be read"):
        split_event(line)


def test_an_empty_list_may_be_written_as_null() -> None:
    assert split_list(b'{"metadata":{"continue":null},"items":null}') == ("", "", [])
