"""From a sheet's cells to a task's columns: mapping, conversion and the label names.

Decides which column of the source is which of the task's, that required cells may not be
empty, and in which order the labels stand (as given, as a hub data set declares them, or
sorted, numbers by value). Imports numpy and ``api``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunefleet.api.job import DataSpec
from tunefleet.api.tasks import Column
from tunefleet.data import cells
from tunefleet.data.problems import Problems
from tunefleet.data.sheet import Sheet
from tunefleet.data.text_files import DELIMITERS
from tunefleet.data.tokens import Rows


@dataclass(frozen=True, slots=True)
class Mapped:
    """A column of the task and the source's column it is read from."""

    column: Column
    source: str


def candidates(data: DataSpec, columns: Sequence[Column], problems: Problems) -> list[Mapped]:
    """Every column of the task with the name it would have in the source."""
    known = [column.name for column in columns]
    for name in data.columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            problems.add(
                "mapping",
                f"the task has no column {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                where=f"spec.data.columns.{name}",
                remedy=f"its columns are {', '.join(known)}",
            )
    return [Mapped(column, data.columns.get(column.name, column.name)) for column in columns]


def present(mapped: Sequence[Mapped], data: DataSpec, train: Sheet) -> list[Mapped]:
    """The columns that are read: required, mapped by name, or optional and there."""
    found = {name for names in train.names for name in names}
    return [
        item
        for item in mapped
        if item.column.required or item.column.name in data.columns or item.source in found
    ]


def check_columns(
    sheet: Sheet, mapped: Sequence[Mapped], extra: Iterable[str], problems: Problems
) -> bool:
    """Whether every file has the columns that are read; notes those that lack one."""
    complete = True
    wanted = {item.source: item.column.name for item in mapped}
    wanted.update({name: "" for name in extra if name not in wanted})
    for file, names in zip(sheet.files, sheet.names, strict=True):
        for source, column in wanted.items():
            if names and source not in names:
                complete = False
                problems.add(
                    f"missing {source}",
                    f"there is no column {source!r}; found: {_listed(names)}",
                    file=file,
                    remedy=_missing_remedy(source, column, names),
                    where=f"spec.data.columns.{column}" if column else "",
                )
    return complete


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(cells.clip(name)) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"


def _missing_remedy(source: str, column: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        for mark, how in DELIMITERS.items():
            if mark in names[0]:
                setting = how if how.startswith("format") else f"delimiter: {how}"
                return f"the only column found contains {mark!r}: set {setting}"
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(source.casefold(), list(folded), 1, cutoff=0.5)
    if near:
        name = folded[near[0]]
        hint = f"did you mean {name!r}? "
        return hint + (f"Set data.columns: {{{column}: {name}}}" if column else "Change groupBy")
    if column:
        return f"name the column that holds it: data.columns: {{{column}: …}}"
    return "groupBy must name a column of the training rows"


@dataclass(frozen=True, slots=True)
class Labels:
    """The label names in the order of the head's outputs ([] where there are none)."""

    names: tuple[str, ...]
    given: bool


def settle_labels(
    data: DataSpec, mapped: Sequence[Mapped], train: Sheet, separator: str, problems: Problems
) -> Labels:
    """The label names of the training rows: given, declared by the source, or sorted."""
    if data.labels is not None:
        spelt: dict[str, str] = {}
        for name in data.labels:
            same = spelt.setdefault(cells.spell(name), name)
            if same != name:
                problems.add(
                    "same label",
                    f"{same!r} and {name!r} are one label",
                    where="spec.data.labels",
                    remedy="keep one spelling",
                )
        return Labels(tuple(spelt), given=True)
    item = next((m for m in mapped if m.column.kind in {"label", "labels"}), None)
    if item is None:
        return Labels((), given=False)
    declared = train.label_names.get(item.source)
    if declared:
        return Labels(tuple(cells.spell(name) for name in declared), given=False)
    found: set[str] = set()
    for cell in _distinct(train.cells.get(item.source, [])):
        try:
            if item.column.kind == "labels":
                found.update(cells.as_labels(cell, separator))
            elif not cells.empty(cell):
                found.add(cells.as_label(cell))
        except cells.BadCell:
            continue
    return Labels(sorted_labels(found), given=False)


def _distinct(values: Sequence[object]) -> Iterable[object]:
    try:
        # True and 1 are equal but are spelt differently: keep types apart.
        return [value for _, value in {(type(value), value) for value in values}]
    except TypeError:
        return values


def sorted_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Labels in a stable order: by value when all are numbers, else by spelling."""
    listed = sorted(names)
    try:
        return tuple(sorted(listed, key=float))
    except ValueError:
        return tuple(listed)


def convert(
    sheet: Sheet,
    mapped: Sequence[Mapped],
    labels: Labels,
    separator: str,
    first_id: int,
    problems: Problems,
) -> Rows:
    """A sheet as rows with converted cells; every bad cell is noted."""
    import numpy as np

    columns: dict[str, list[object]] = {}
    for item in mapped:
        given = sheet.cells.get(item.source, [])
        converter = _converter(item, labels, separator)
        columns[item.column.name] = _converted(given, item, converter, sheet, problems)
    return Rows(
        columns=columns,
        ids=np.arange(first_id, first_id + len(sheet), dtype=np.int64),
        files=sheet.files,
        file_of=sheet.file_of,
        lines=sheet.lines,
    )


def _converted(
    given: Sequence[object],
    item: Mapped,
    convert_cell: Callable[[object], object],
    sheet: Sheet,
    problems: Problems,
) -> list[object]:
    optional, blank_is_fine = not item.column.required, item.column.kind == "labels"
    out: list[object] = []
    for position, cell in enumerate(given):
        try:
            if not blank_is_fine and cells.empty(cell):
                if not optional:
                    raise cells.BadCell(
                        "empty",
                        f"column {item.source!r} is empty",
                        "fill the cell or remove the row",
                    )
                out.append("")
            else:
                out.append(convert_cell(cell))
        except cells.BadCell as bad:
            file, line, words = sheet.place(position)
            place = f"column {item.source!r}: " if bad.kind != "empty" else ""
            problems.add(
                f"{bad.kind} {item.source}",
                f"{place}{bad.message}{words}",
                remedy=bad.remedy,
                file=file,
                line=line,
            )
            out.append(None)
    return out


def _converter(item: Mapped, labels: Labels, separator: str) -> Callable[[object], object]:
    index = {name: position for position, name in enumerate(labels.names)}
    kind = item.column.kind
    if kind == "label":
        return lambda cell: _index(cells.as_label(cell), index, labels)
    if kind == "labels":
        return lambda cell: sorted(
            _index(name, index, labels) for name in cells.as_labels(cell, separator)
        )
    plain: dict[str, Callable[[object], object]] = {
        "text": cells.as_text,
        "number": cells.as_number,
        "messages": cells.as_messages,
    }
    return plain[kind]


def _index(name: str, index: Mapping[str, int], labels: Labels) -> int:
    position = index.get(name)
    if position is not None:
        return position
    folded = {known.casefold(): known for known in index}
    near = difflib.get_close_matches(name.casefold(), list(folded), 1, cutoff=0.7)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    if labels.given:
        raise cells.BadCell(
            "unknown label",
            f"label {cells.clip(name)!r} is not in data.labels{hint}",
            "correct the row, or add the label to data.labels",
        )
    raise cells.BadCell(
        "unknown label",
        f"label {cells.clip(name)!r} never stands in the training rows{hint}",
        "a model cannot learn it: add training rows with this label, or correct the row",
    )
