"""Cuts an object's JSON down to the fields that a projection has, before it is read.

Decides that the rest of an object is passed over, not parsed: of many kilobytes a few hundred bytes
are looked at, and most of the rest is who wrote which field. Says nothing of whether the fields are
right; that is for the model. Imports pydantic and msgspec.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GenericAlias, NoneType
from typing import get_args, get_origin

import msgspec
from pydantic import BaseModel


def outline(model: type[BaseModel], parts: type[BaseModel]) -> Callable[[bytes], bytes]:
    """A function that leaves of an object what ``model`` reads.

    Fields that are themselves models are cut too where they are of the family ``parts``; all
    others are left whole. What cannot be cut is given back as it is, so that the model says what
    is wrong with it.
    """
    decoder = msgspec.json.Decoder(_struct(model, parts))
    encoder = msgspec.json.Encoder()

    def cut(body: bytes) -> bytes:
        try:
            return encoder.encode(decoder.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return body

    return cut


def _struct(model: type[BaseModel], parts: type[BaseModel]) -> type[msgspec.Struct]:
    fields = [
        (
            name,
            _cut(field.annotation, parts),
            msgspec.field(default=msgspec.UNSET, name=field.alias),
        )
        for name, field in model.model_fields.items()
    ]
    return msgspec.defstruct(model.__name__, fields)


def _cut(annotation: object, parts: type[BaseModel]) -> object:
    """What is read for a field: the outline of a part, of a list of parts, or the JSON itself."""
    one = [each for each in get_args(annotation) or (annotation,) if each not in (NoneType, ...)]
    (kind,) = one if len(one) == 1 else (object,)
    if not (isinstance(kind, type) and issubclass(kind, parts)):
        return msgspec.Raw
    inner = _struct(kind, parts)
    return (GenericAlias(list, inner) if get_origin(annotation) in (list, tuple) else inner) | None
