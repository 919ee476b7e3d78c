"""Cuts a list's body and a watch's line into the JSON of single objects.

Decides where an object begins and ends. A page of objects is some megabytes; kept parsed it
costs many times more than what is kept of it, so the objects are found one after the other and
each is handed on as bytes, to be parsed by whoever projects it. Imports the standard library.
"""

from __future__ import annotations

import json
import re
from json import JSONDecoder

_GAP = re.compile(r"[\s,:]*+")
_EVENT = re.compile(rb'\{"type":"([A-Z]+)","object":(?=\{)')
# What is parsed on the way is thrown away at once: the C scanner is the fastest way to an
# object's end that the standard library has (a third less than a pattern that only counts
# braces), and it is exact.
_scan = JSONDecoder().raw_decode


class NotJson(ValueError):
    """The bytes are not the JSON that was expected: an answer cut short, or another server's."""


def split_list(body: bytes) -> tuple[dict[str, object], list[bytes]]:
    """A list's metadata and the JSON of each of its items."""
    metadata: dict[str, object] = {}
    items: list[bytes] = []
    try:
        text = body.decode()
        at = _skip(text, text.index("{") + 1)
        while text[at] != "}":
            key, at = _scan(text, at)
            at = _skip(text, at)
            if key == "items" and text[at] == "[":
                items, at = _items(text, at)
            else:  # ``items`` too: Go writes an empty list as null
                value, at = _scan(text, at)
                if key == "metadata":
                    metadata = value
            at = _skip(text, at)
    except (ValueError, IndexError) as error:
        raise NotJson(f"a list that is not whole JSON ({error}): {body[:80]!r}") from None
    return metadata, items


def split_event(line: bytes) -> tuple[str, bytes]:
    """A watch event's type and the JSON of its object."""
    if (head := _EVENT.match(line)) and line.endswith(b"}"):
        # As the server writes it: two members in this order, and nothing after them.
        return head[1].decode(), line[head.end() : -1]
    try:
        event = json.loads(line)
        return str(event["type"]), json.dumps(event["object"]).encode()
    except (ValueError, TypeError, KeyError) as error:
        raise NotJson(f"a watch event that cannot be read ({error}): {line[:80]!r}") from None


def _items(text: str, at: int) -> tuple[list[bytes], int]:
    items = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        start = at
        _, at = _scan(text, at)
        items.append(text[start:at].encode())
        at = _skip(text, at)
    return items, at + 1


def _skip(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at
