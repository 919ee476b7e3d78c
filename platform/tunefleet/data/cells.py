"""One cell at a time: what a text, a label, a number or a list of messages may look like.

Decides the spelling of labels (``3``, ``3.0`` and ``"3.0"`` are one label ``3``; true and
``"True"`` are ``true``) and what counts as empty. A function here returns the value or
raises ``BadCell`` with the reason and the remedy. Imports the standard library alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

ROLES = ("system", "user", "assistant", "tool")
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")
_TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


class BadCell(Exception):
    """A cell that cannot be used: kind of problem, message, remedy."""

    def __init__(self, kind: str, message: str, remedy: str) -> None:
        self.kind = kind
        self.message = message
        self.remedy = remedy
        super().__init__(message)


def empty(cell: object) -> bool:
    """Whether a cell holds nothing: null, blank text, or NaN."""
    return (
        cell is None
        or (isinstance(cell, str) and (not cell or cell.isspace()))
        or (isinstance(cell, float) and math.isnan(cell))
    )


def spell(cell: object) -> str:
    """A label's one spelling."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = str(cell).strip()
    whole = _WHOLE.match(text)
    return whole[1] if whole else _TRUTHS.get(text, text)


def as_text(cell: object) -> str:
    """A text cell. Numbers are written out; lists and objects are refused."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (bool, int, float)):
        return spell(cell)
    raise BadCell(
        "text kind", f"holds {_kind(cell)} where a text is read", "map another column to it"
    )


def as_label(cell: object) -> str:
    """The spelling of a single label."""
    if isinstance(cell, (str, bool, int, float)):
        return spell(cell)
    raise BadCell(
        "label kind",
        f"holds {_kind(cell)} where one label is read",
        "write one label per row, or set textClassification.problem: multi-label",
    )


def as_labels(cell: object, separator: str) -> list[str]:
    """The labels of a row: a list, or names joined by the separator. Blank: no label."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    parts: Iterable[object] = cell.split(separator) if isinstance(cell, str) else [cell]
    if isinstance(cell, (list, tuple)):
        parts = cell
    return list(dict.fromkeys(as_label(part) for part in parts if not empty(part)))


def as_number(cell: object) -> float:
    """A finite number."""
    if isinstance(cell, str):
        try:
            value = float(cell)
        except ValueError:
            comma = re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell) is not None
            remedy = "write a decimal point, not a comma" if comma else "regression needs numbers"
            raise BadCell("number", f"{clip(cell)!r} is no number", remedy) from None
    elif isinstance(cell, (int, float)):
        value = float(cell)
    else:
        raise BadCell("number", f"holds {_kind(cell)}, not a number", "regression needs numbers")
    if not math.isfinite(value):
        raise BadCell("number", f"{cell} is not finite", "remove the row or give it a number")
    return value


def as_messages(cell: object) -> list[dict[str, str]]:
    """A chat: a list of ``{role, content}``, or such a list as JSON text."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise BadCell(
                "messages", f"messages are not JSON: {error.msg}", _MESSAGES_REMEDY
            ) from None
    if not isinstance(cell, (list, tuple)) or not cell:
        raise BadCell("messages", f"holds {_kind(cell)} where messages are read", _MESSAGES_REMEDY)
    return [_message(turn, number) for number, turn in enumerate(cell, 1)]


_MESSAGES_REMEDY = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'


def _message(turn: object, number: int) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise BadCell("messages", f"message {number} is {_kind(turn)}", _MESSAGES_REMEDY)
    role, content = turn.get("role"), turn.get("content")
    extra = sorted(key for key in turn if key not in {"role", "content"} and turn[key])
    if role is None and "from" in turn:
        raise BadCell(
            "messages",
            f"message {number} has from/value instead of role/content",
            "rename from to role and value to content (human is user, gpt is assistant)",
        )
    if role not in ROLES:
        raise BadCell(
            "messages",
            f"message {number} has the role {role!r}",
            f"roles are {', '.join(ROLES)}",
        )
    if not isinstance(content, str) or not content.strip():
        raise BadCell(
            "messages", f"message {number} ({role}) has no content", "give every message a text"
        )
    if extra:
        raise BadCell(
            "messages",
            f"message {number} has {', '.join(extra)}, which would be ignored",
            "keep role and content only",
        )
    return {"role": str(role), "content": content}


def clip(text: str, width: int = 60) -> str:
    """The beginning of a text, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _kind(cell: object) -> str:
    if cell is None:
        return "nothing"
    names: dict[type, str] = {
        list: "a list",
        tuple: "a list",
        dict: "an object",
        bytes: "bytes",
        str: "a text",
    }
    return names.get(type(cell), f"a {type(cell).__name__}")
