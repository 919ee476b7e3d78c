"""What a tuned model is asked: its input columns, and whether one item fits them.

Decides which of a task's columns are inputs (the others are what is predicted), and what
makes an item unreadable. The same check stands behind ``predict`` and the endpoint, so that
both refuse the same things with the same words. Imports ``api`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.tasks import TaskDeclaration, TaskOptions

Kind = Literal["text", "messages"]
_KINDS: tuple[Kind, ...] = ("text", "messages")


class InputColumn(Document):
    """A column of a request item."""

    name: str
    kind: Kind
    required: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class InputProblem:
    """Why an item cannot be read. ``code`` is for programs, ``message`` for people."""

    code: str
    field: str
    message: str


class InputError(ValueError):
    """An item that cannot be read; ``index`` is its position in what was given."""

    def __init__(self, index: int, problem: InputProblem) -> None:
        super().__init__(f"item {index}: {problem.field}: {problem.message}")
        self.index = index
        self.problem = problem


def input_columns(
    declaration: TaskDeclaration, options: TaskOptions, data: Mapping[str, Sequence[object]]
) -> tuple[InputColumn, ...]:
    """The columns that a model tuned on ``data`` (cells by column) reads.

    Label columns are what is predicted. A task without one writes its last required text
    (``prompt`` → ``completion``), unless that text is all it has. An optional column is an
    input where the data has it, and a required one where every row has it: a model that
    learnt from pairs of texts has no sensible answer for a single one.
    """
    declared = declaration.columns(options)
    inputs = [
        InputColumn(name=column.name, kind=kind, required=column.required, help=column.help)
        for column in declared
        for kind in _KINDS
        if column.kind == kind
    ]
    written = [column for column in inputs if column.required]
    if len(inputs) == len(declared) and len(written) > 1:
        inputs.remove(written[-1])
    return tuple(
        column.model_copy(update={"required": column.required or all(data[column.name])})
        for column in inputs
        if column.required or any(data.get(column.name, ()))
    )


def single_text(columns: Sequence[InputColumn]) -> str | None:
    """The name of the only required column when it is a text; else None."""
    required = [column for column in columns if column.required]
    if len(required) == 1 and required[0].kind == "text":
        return required[0].name
    return None


def check_item(
    item: object, columns: Sequence[InputColumn], *, max_characters: int | None = None
) -> InputProblem | None:
    """What is wrong with an item, or None. Unknown fields are refused."""
    if not isinstance(item, Mapping):
        return InputProblem("wrong_type", "", f"must be an object, not {_kind_of(item)}")
    known = {column.name: column for column in columns}
    for name in item:
        if name not in known:
            expected = ", ".join(known)
            return InputProblem("unknown_field", str(name), f"unknown field; expected {expected}")
    for column in columns:
        value = item.get(column.name)
        if value is None:
            if column.required:
                return InputProblem("missing_field", column.name, "this field is required")
            continue
        check = _check_text if column.kind == "text" else _check_messages
        problem = check(value, column.name, max_characters)
        if problem is not None:
            return problem
    return None


def _check_text(value: object, field: str, max_characters: int | None) -> InputProblem | None:
    if not isinstance(value, str):
        return InputProblem("wrong_type", field, f"must be a text, not {_kind_of(value)}")
    if not value.strip():
        return InputProblem("empty_text", field, "must not be empty")
    if max_characters is not None and len(value) > max_characters:
        said = f"has {len(value):,} characters; at most {max_characters:,} are read"
        return InputProblem("text_too_long", field, said)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        said = f"holds half of a surrogate pair at character {error.start}"
        return InputProblem("bad_text", field, said)
    return None


def _check_messages(value: object, field: str, max_characters: int | None) -> InputProblem | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        said = f"must be a list of {{role, content}}, not {_kind_of(value)}"
        return InputProblem("wrong_type", field, said)
    if not value:
        return InputProblem("empty_list", field, "must hold at least one message")
    budget = max_characters
    for index, message in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            return InputProblem("wrong_type", place, "must be an object with role and content")
        for part in ("role", "content"):
            problem = _check_text(message[part], f"{place}.{part}", budget)
            if problem is not None:
                return problem
        if budget is not None:
            # The limit is on the whole conversation: many short turns cost as much as a long one.
            budget = max(budget - len(message["content"]), 0)
    return None


def _kind_of(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
