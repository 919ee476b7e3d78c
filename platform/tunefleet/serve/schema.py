"""The language of the endpoint: requests in, errors out, and how both are described.

Decides which bodies are read (``{"items": [...]}`` or one item by itself), what every error
looks like and which status it has, and the OpenAPI words for a task's own columns. Imports
``api``, ``evaluate.inputs`` and this package; no web framework.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tunefleet.evaluate.inputs import InputColumn, InputProblem, check_item
from tunefleet.serve.settings import Limits

Item = dict[str, object]

# Status by problem: 400 for what is no JSON, 413 for what is too big to be looked at, 422 for
# JSON that does not fit.
_UNPROCESSABLE = 422


class Refusal(Exception):
    """A request that is not answered, with its status and what the client is told."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The one shape of every error."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field or None}}


def too_large(limit: int) -> Refusal:
    """The body is larger than what is read."""
    said = f"the body is larger than {limit:,} bytes; send fewer or shorter items"
    return Refusal(413, "body_too_large", said, headers={"Connection": "close"})


def overloaded() -> Refusal:
    """Too much is waiting already."""
    said = "too many items are waiting; try again in a second"
    return Refusal(503, "overloaded", said, headers={"Retry-After": "1"})


def timed_out(limits: Limits) -> Refusal:
    """The answer was not there in time."""
    said = f"no answer within {limits.timeout_seconds:g} s; send fewer or shorter items"
    return Refusal(504, "timeout", said)


def unreadable(problem: InputProblem, place: str) -> Refusal:
    """An item cannot be read; ``place`` is ``items[3]`` or "" for the short form."""
    parts = [part for part in (place, problem.field) if part]
    return Refusal(_UNPROCESSABLE, problem.code, problem.message, ".".join(parts))


def require_json(content_type: str) -> None:
    """Refuse a body that does not call itself JSON.

    A web page of another site can make a browser post a form or plain text to this machine
    without asking; it cannot do so with JSON.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    said = f"the content type is {kind or 'missing'}; send Content-Type: application/json"
    raise Refusal(415, "unsupported_media_type", said)


def parse_items(
    body: bytes, columns: Sequence[InputColumn], limits: Limits
) -> tuple[list[Item], bool]:
    """The items of a request, and whether it was the long form. Raises :class:`Refusal`."""
    value = _parse_json(body)
    if not isinstance(value, dict):
        said = 'the body must be an object: {"items": [...]} or one item'
        raise Refusal(_UNPROCESSABLE, "wrong_type", said)
    if "items" not in value or any(column.name == "items" for column in columns):
        return [_checked(value, "", columns, limits)], False
    extra = [name for name in value if name != "items"]
    if extra:
        said = "unknown field beside items"
        raise Refusal(_UNPROCESSABLE, "unknown_field", said, extra[0])
    items = value["items"]
    if not isinstance(items, list):
        raise Refusal(_UNPROCESSABLE, "wrong_type", "must be a list of objects", "items")
    if not items:
        raise Refusal(_UNPROCESSABLE, "empty_list", "must hold at least one item", "items")
    if len(items) > limits.items:
        said = f"holds {len(items)} items; at most {limits.items} are answered at once"
        raise Refusal(_UNPROCESSABLE, "too_many_items", said, "items")
    return [
        _checked(item, f"items[{index}]", columns, limits) for index, item in enumerate(items)
    ], True


def _checked(item: object, place: str, columns: Sequence[InputColumn], limits: Limits) -> Item:
    problem = check_item(item, columns, max_characters=limits.text_characters)
    if problem is not None:
        raise unreadable(problem, place)
    assert isinstance(item, dict)
    return {name: value for name, value in item.items() if value is not None}


def _parse_json(body: bytes) -> object:
    if not body.strip():
        raise Refusal(400, "bad_json", "the body is empty; send a JSON object")
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant
        )
    except RecursionError:
        raise Refusal(400, "bad_json", "the body is nested too deeply") from None
    except UnicodeDecodeError as error:
        said = f"the body is not UTF-8 (byte {error.start})"
        raise Refusal(400, "bad_json", said) from None
    except ValueError as error:
        raise Refusal(400, "bad_json", f"the body is no JSON: {error}") from None


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twin!r} stands twice in one object")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


# -- how it is described ---------------------------------------------------------------------


def item_schema(columns: Sequence[InputColumn], limits: Limits) -> dict[str, object]:
    """The JSON schema of one item."""
    return {
        "type": "object",
        "title": "Item",
        "additionalProperties": False,
        "required": [column.name for column in columns if column.required],
        "properties": {column.name: _column_schema(column, limits) for column in columns},
        "example": example(columns),
    }


def request_schema(columns: Sequence[InputColumn], limits: Limits) -> dict[str, object]:
    """The JSON schema of a request body, both forms."""
    reference = {"$ref": "#/components/schemas/Item"}
    listed = {"type": "array", "items": reference, "minItems": 1, "maxItems": limits.items}
    many: dict[str, object] = {
        "type": "object",
        "title": "Items",
        "additionalProperties": False,
        "required": ["items"],
        "properties": {"items": listed},
        "example": {"items": [example(columns)]},
    }
    return {"oneOf": [many, reference]}


def response_schema(labels: Sequence[str]) -> dict[str, object]:
    """The JSON schema of an answer."""
    prediction: dict[str, object] = {"type": "object", "title": "Prediction"}
    if labels:
        shown = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
        prediction["description"] = f"labels: {shown}"
    model = {
        "type": "object",
        "required": ["digest", "task"],
        "properties": {"digest": {"type": "string"}, "task": {"type": "string"}},
    }
    return {
        "type": "object",
        "title": "Predictions",
        "required": ["predictions", "model"],
        "properties": {"predictions": {"type": "array", "items": prediction}, "model": model},
    }


def error_schema() -> dict[str, object]:
    """The JSON schema of every error."""
    error = {
        "type": "object",
        "required": ["code", "message", "field"],
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string"},
            "field": {"type": ["string", "null"]},
        },
    }
    return {
        "type": "object",
        "title": "Error",
        "required": ["error"],
        "properties": {"error": error},
    }


def example(columns: Sequence[InputColumn]) -> Item:
    """An item to start from."""
    messages = [{"role": "user", "content": "Hello!"}]
    texts = {"textPair": "It was a fine evening.", "prompt": "Name the capital of France."}
    return {
        column.name: messages
        if column.kind == "messages"
        else texts.get(column.name, "What a wonderful film.")
        for column in columns
        if column.required
    }


def _column_schema(column: InputColumn, limits: Limits) -> dict[str, object]:
    schema: dict[str, object]
    if column.kind == "text":
        schema = {"type": "string", "minLength": 1, "maxLength": limits.text_characters}
    else:
        text = {"type": "string", "minLength": 1}
        turn = {
            "type": "object",
            "additionalProperties": False,
            "required": ["role", "content"],
            "properties": {"role": text, "content": text},
        }
        schema = {"type": "array", "minItems": 1, "items": turn}
    return schema | ({"description": column.help} if column.help else {})
