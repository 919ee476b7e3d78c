"""What is noticed about rows before anything is spent: too few, twice, leaked, lopsided.

Decides which of it is an error (training would fail or mean nothing) and which a warning.
Works on converted rows, so "the same text" means what the model would see. Imports numpy
and ``api``; places are file and line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from tunefleet.api.tasks import Column
from tunefleet.api.words import Severity
from tunefleet.data.draws import Indices
from tunefleet.data.problems import Problems
from tunefleet.data.tokens import Rows
from tunefleet.plan.facts import Finding

MIN_TRAIN, MIN_HELD_OUT = 3, 1
FEW_HELD_OUT = 30
FEW_OF_A_LABEL = 10
LOPSIDED = 0.9
MANY_TRUNCATED = 0.1


def keys(rows: Rows, columns: Sequence[Column], *, answers: bool) -> list[Hashable]:
    """What makes a row the same as another: its inputs, with or without what is predicted."""
    used = [
        column
        for column in columns
        if column.name in rows.columns
        and (answers or column.kind not in {"label", "labels", "number"})
    ]
    cells = [_hashable(rows.columns[column.name], column.kind) for column in used]
    return list(zip(*cells, strict=True)) if len(cells) != 1 else list(cells[0])


def _hashable(values: Sequence[object], kind: str) -> Sequence[Hashable]:
    if kind == "messages":
        return [json.dumps(value, sort_keys=True) for value in values]
    if kind == "labels":
        return [tuple(value) if isinstance(value, list) else () for value in values]
    return [value if isinstance(value, (str, int, float)) else "" for value in values]


def first_of_each(rows: Rows, columns: Sequence[Column]) -> tuple[Indices, Indices]:
    """Positions of the first row of each content, and of the rows that repeat one."""
    seen: set[Hashable] = set()
    repeated = np.zeros(len(rows), bool)
    for position, key in enumerate(keys(rows, columns, answers=True)):
        if key in seen:
            repeated[position] = True
        else:
            seen.add(key)
    return np.flatnonzero(~repeated), np.flatnonzero(repeated)


def duplicates(
    rows: Rows, columns: Sequence[Column], policy: str, problems: Problems
) -> tuple[Rows, list[Finding]]:
    """Rows after ``data.duplicates``, and what was found of rows that stand twice."""
    first, again = first_of_each(rows, columns)
    findings = conflicts(rows, columns)
    if not len(again):
        return rows, findings
    file, line = rows.place(int(again[0]))
    if policy == "refuse":
        for position in again:
            at, number = rows.place(int(position))
            problems.add(
                "duplicate",
                f"this row repeats an earlier one{'' if number else _row(rows, int(position))}",
                file=at,
                line=number,
                remedy="remove it, or set data.duplicates: drop (or keep)",
            )
        return rows, findings
    dropped = policy == "drop"
    count = len(again)
    many = f"{count:,} of {len(rows):,} rows repeat an earlier row"
    findings.append(
        Finding(
            severity=Severity.INFO if dropped else Severity.WARNING,
            code="duplicates",
            message=f"{many} and are left out" if dropped else many,
            remedy="" if dropped else "set data.duplicates: drop to use each row once",
            file=file,
            line=line,
            count=count,
        )
    )
    return (rows.take(first) if dropped else rows), findings


def conflicts(rows: Rows, columns: Sequence[Column]) -> list[Finding]:
    """Rows with the same input and another answer."""
    if not any(column.kind in {"label", "labels", "number"} for column in columns):
        return []
    first: dict[Hashable, int] = {}
    wholes = keys(rows, columns, answers=True)
    count, example = 0, (0, 0)
    for position, key in enumerate(keys(rows, columns, answers=False)):
        before = first.setdefault(key, position)
        if before != position and wholes[before] != wholes[position]:
            example = (before, position) if not count else example
            count += 1
    if not count:
        return []
    file, line = rows.place(example[1])
    return [
        Finding(
            severity=Severity.WARNING,
            code="conflicting labels",
            message=f"{count:,} rows have the input of an earlier row and another answer, "
            f"for example {where(rows, example[1])} and {where(rows, example[0])}",
            remedy="settle which answer is right; both at once cannot be learnt",
            file=file,
            line=line,
            count=count,
        )
    ]


def leaks(train: Rows, held: Rows, name: str, columns: Sequence[Column]) -> list[Finding]:
    """Held-out rows whose input also stands in the training rows."""
    first: dict[Hashable, int] = {}
    for position, key in enumerate(keys(train, columns, answers=False)):
        first.setdefault(key, position)
    inputs = keys(held, columns, answers=False)
    leaked = [position for position, key in enumerate(inputs) if key in first]
    if not leaked:
        return []
    shown = [f"{where(held, p)} = {where(train, first[inputs[p]])}" for p in leaked[:3]]
    file, line = held.place(leaked[0])
    return [
        Finding(
            severity=Severity.WARNING,
            code="leak",
            message=f"{len(leaked):,} of {len(held):,} {name} rows also stand in the training "
            f"rows, so the {name} numbers will look better than they are ({'; '.join(shown)})",
            remedy="remove them from one side; with a fraction set data.duplicates: drop, "
            "or groupBy",
            file=file,
            line=line,
            count=len(leaked),
        )
    ]


def where(rows: Rows, position: int) -> str:
    """A row's place in words: ``file:line``, or ``file row n``."""
    file, line = rows.place(position)
    return f"{file}:{line}" if line else f"{file}{_row(rows, position)}"


def _row(rows: Rows, position: int) -> str:
    if not len(rows.file_of):
        return f" (row id {int(rows.ids[position])})"
    first = int(np.flatnonzero(rows.file_of == rows.file_of[position])[0])
    return f" (row {int(rows.ids[position] - rows.ids[first]) + 1:,})"


def sizes(splits: Mapping[str, Rows], problems: Problems) -> list[Finding]:
    """Splits that are too small to learn from (errors) or to measure with (warnings)."""
    findings: list[Finding] = []
    count = len(splits["train"])
    if count < MIN_TRAIN:
        problems.add(
            "too few",
            f"{count} training {'row' if count == 1 else 'rows'}: nothing can be learnt from "
            f"fewer than {MIN_TRAIN}",
            where="spec.data.train",
            remedy="add rows; a few hundred per label are a usual beginning",
        )
    for name, rows in splits.items():
        if name == "train":
            continue
        if len(rows) < MIN_HELD_OUT:
            problems.add(
                "too few",
                f"no {name} rows: without them nothing says whether the model got better",
                where=f"spec.data.{name}",
                remedy="add rows, or set a larger fraction",
            )
        elif len(rows) < FEW_HELD_OUT:
            findings.append(
                Finding(
                    severity=Severity.WARNING,
                    code="few rows",
                    message=f"{len(rows)} {name} rows: one row moves a metric by "
                    f"{1 / len(rows):.1%}, so small differences mean nothing",
                    remedy=f"hold out more {name} rows",
                    count=len(rows),
                )
            )
    return findings


def class_counts(values: Sequence[object], labels: Sequence[str]) -> dict[str, int]:
    """Rows of each label (of each label that is set, for lists of labels)."""
    counted: Counter[object] = Counter()
    for value in values:
        counted.update(value if isinstance(value, list) else [value])
    return {label: counted[index] for index, label in enumerate(labels)}


def classes(
    splits: Mapping[str, Rows], column: Column, labels: Sequence[str], problems: Problems
) -> list[Finding]:
    """Errors and warnings about how often each label stands in each split."""
    findings: list[Finding] = []
    train = class_counts(splits["train"].columns[column.name], labels)
    present = [label for label, count in train.items() if count]
    if column.kind == "label" and len(present) < 2 and len(splits["train"]):
        problems.add(
            "single class",
            f"every training row has the label {present[0]!r}: there is nothing to tell apart"
            if present
            else "no training row has a label",
            where="spec.data",
            remedy="add rows of at least one other label",
        )
    for name, rows in splits.items():
        if name == "train":
            continue
        held = class_counts(rows.columns[column.name], labels)
        for label in (label for label, count in held.items() if count and not train[label]):
            problems.add(
                f"label never trained {name}",
                f"label {label!r} stands in {held[label]:,} {name} rows and in no training row",
                where=f"spec.data.{name}",
                remedy="add training rows with this label, or split otherwise",
            )
    findings += _unused(train, splits)
    if column.kind == "label" and len(present) > 1:
        findings += _balance(train)
    return findings


def _unused(train: Mapping[str, int], splits: Mapping[str, Rows]) -> list[Finding]:
    unused = [label for label, count in train.items() if not count]
    if not unused or not len(splits["train"]):
        return []
    return [
        Finding(
            severity=Severity.WARNING,
            code="label without rows",
            message=f"no training row has the label {', '.join(map(repr, unused[:5]))}"
            + (f" (and {len(unused) - 5} more)" if len(unused) > 5 else ""),
            remedy="the model will never answer it: add rows, or take it out of data.labels",
            count=len(unused),
        )
    ]


def _balance(train: Mapping[str, int]) -> list[Finding]:
    total = sum(train.values())
    most = max(train, key=lambda label: train[label])
    share = train[most] / total
    findings = [
        Finding(
            severity=Severity.WARNING if share > LOPSIDED else Severity.INFO,
            code="class balance",
            message=f"{share:.1%} of the training rows have the label {most!r}; always "
            "answering it would be right as often",
            remedy="judge by f1_macro rather than accuracy" if share > LOPSIDED else "",
        )
    ]
    rare = {label: count for label, count in train.items() if 0 < count < FEW_OF_A_LABEL}
    if rare:
        shown = ", ".join(f"{label!r} {count}" for label, count in list(rare.items())[:5])
        findings.append(
            Finding(
                severity=Severity.WARNING,
                code="rare labels",
                message=f"{len(rare)} of {len(train)} labels have fewer than {FEW_OF_A_LABEL} "
                f"training rows ({shown})",
                remedy="add rows of these labels, or merge them with others",
                count=len(rare),
            )
        )
    return findings
