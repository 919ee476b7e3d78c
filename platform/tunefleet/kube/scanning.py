"""Cuts a list's body and a watch's line into the JSON of single objects, and reads their heads.

Decides where an object begins and ends, and what it is called, whatever else it holds. Parsed, a
page of objects costs many times more than what is kept of it, so that each is handed on as bytes,
to be parsed by whoever projects it.
msgspec finds their ends without making anything of what is between: the standard library's
scanner takes nine times as long. Imports msgspec.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class NotJson(ValueError):
    """The bytes are not the JSON that was expected: an answer cut short, or another server's."""


class Cut(NamedTuple):
    """A list's items, its resource version, and the token that its next page is asked for with."""

    resource_version: str
    more: str
    items: list[bytes]


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    # (``continue``, which no attribute can be called.)
    more: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct):
    # Go writes an empty list as null.
    items: list[msgspec.Raw] | None
    metadata: _Metadata


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Head(msgspec.Struct, rename="camel"):
    """What every object says of itself."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: Head


_lists = msgspec.json.Decoder(_List)
_events = msgspec.json.Decoder(_Event)
_objects = msgspec.json.Decoder(_Object)
# (A RecursionError: deeper than this process allows.)
_WRONG = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def split_list(body: bytes) -> Cut:
    """A list's items, each as JSON, and what its metadata says; :class:`NotJson`."""
    try:
        found = _lists.decode(body)
    except _WRONG as error:
        raise NotJson(f"a list that is not whole JSON ({error}): {body[:80]!r}") from None
    metadata = found.metadata
    # Copies: what is cut out would keep the whole page in memory.
    items = [bytes(item) for item in found.items or ()]
    return Cut(metadata.resource_version or "", metadata.more or "", items)


def split_event(line: bytes) -> tuple[str, bytes]:
    """A watch event's type and the JSON of its object; :class:`NotJson`."""
    try:
        event = _events.decode(line)
    except _WRONG as error:
        raise NotJson(f"a watch event that cannot be read ({error}): {line[:80]!r}") from None
    return event.type, bytes(event.object)


def head_of(body: bytes) -> Head:
    """Name, namespace and version of an object, whatever else it holds; :class:`NotJson`."""
    try:
        return _objects.decode(body).metadata
    except _WRONG as error:
        raise NotJson(f"an object without readable metadata ({error}): {body[:80]!r}") from None
