"""From a job's ``data`` to train, validation and test rows, checked.

Decides the order of things: every source is read, cells are converted, duplicates settled,
held-out rows taken (test before validation), and only then is everything that is wrong
raised, at once. Sample ids are positions in the whole input: the training source's rows come
first, then the validation source's, then the test source's. Imports numpy and ``api``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tunefleet.api.job import DataSpec, HeldOutSpec
from tunefleet.api.tasks import Column
from tunefleet.data import check, columns, sources, split
from tunefleet.data.cells import empty, spell
from tunefleet.data.columns import Labels, Mapped
from tunefleet.data.problems import Problems
from tunefleet.data.readers import read
from tunefleet.data.sheet import Sheet
from tunefleet.data.sources import Remote, Source
from tunefleet.data.tokens import Rows
from tunefleet.plan.facts import Finding

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of each split, the label names, and what was noticed."""

    rows: Mapping[str, Rows]
    labels: tuple[str, ...]
    label_column: Column | None
    columns: dict[str, str]
    files: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a task wants of its rows. ``labelled``: the head has one output per label."""

    columns: Sequence[Column]
    labelled: bool
    separator: str
    seed: int


def held_out_specs(data: DataSpec) -> dict[str, HeldOutSpec]:
    """The held-out splits in the order in which rows are numbered and read."""
    return {VALIDATION: data.validation} | ({TEST: data.test} if data.test else {})


def find_sources(
    data: DataSpec, base: Path, problems: Problems, remote: Remote | None = None
) -> dict[str, Source | None]:
    """The source of every split that has its own; ``None`` where it cannot be used."""
    found = {TRAIN: sources.resolve(data.train, base, "spec.data.train", problems, remote)}
    for name, spec in held_out_specs(data).items():
        if spec.fraction is None:
            found[name] = sources.resolve(spec, base, f"spec.data.{name}", problems, remote)
    return found


def read_splits(
    data: DataSpec,
    base: Path,
    reading: Reading,
    progress: Callable[[str, int, int], None] | None = None,
    remote: Remote | None = None,
) -> Splits:
    """All splits of a job; raises ``DataError`` with every problem at once.

    ``remote`` holds the copies of what lies in object stores.
    """
    problems = Problems()
    if data.labels is not None and not reading.labelled:
        problems.add(
            "no effect",
            "this task has no labels, so their names have no effect",
            where="spec.data.labels",
            remedy="remove labels",
        )
    mapped = columns.candidates(data, reading.columns, problems)
    found = find_sources(data, base, problems, remote)
    groups = _group_columns(data)
    sheets: dict[str, Sheet] = {}
    for done, (name, source) in enumerate(found.items()):
        if progress is not None:
            progress("reading", done, len(found))
        if source is not None:
            extra = groups if name == TRAIN else []
            wanted = frozenset([*(item.source for item in mapped), *extra])
            sheets[name] = read(source, wanted, problems)
            _refuse_empty(sheets[name], name, problems)
    if progress is not None:
        progress("reading", len(found), len(found))
    if TRAIN not in sheets:
        problems.raise_if_any()
    return _assemble(data, reading, mapped, sheets, problems)


def _group_columns(data: DataSpec) -> list[str]:
    specs = held_out_specs(data).values()
    return [spec.group_by for spec in specs if spec.group_by is not None]


def _refuse_empty(sheet: Sheet, name: str, problems: Problems) -> None:
    if not problems and not len(sheet):
        problems.add(
            "no rows",
            f"there are no rows in {', '.join(sheet.files)}",
            where=f"spec.data.{name}",
            remedy="add rows; a few hundred per label are a usual beginning",
        )


def _assemble(
    data: DataSpec,
    reading: Reading,
    candidates: Sequence[Mapped],
    sheets: Mapping[str, Sheet],
    problems: Problems,
) -> Splits:
    mapped = columns.present(candidates, data, sheets[TRAIN])
    for name, sheet in sheets.items():
        columns.check_columns(
            sheet, mapped, _group_columns(data) if name == TRAIN else [], problems
        )
    problems.raise_if_any()
    labels = (
        columns.settle_labels(data, mapped, sheets[TRAIN], reading.separator, problems)
        if reading.labelled
        else Labels((), given=False)
    )
    rows: dict[str, Rows] = {}
    first = 0
    for name, sheet in sheets.items():
        rows[name] = columns.convert(sheet, mapped, labels, reading.separator, first, problems)
        first += len(sheet)
    problems.raise_if_any()
    read_columns = [item.column for item in mapped]
    findings: list[Finding] = []
    for name, given in rows.items():
        rows[name], noticed = check.duplicates(given, read_columns, data.duplicates, problems)
        findings += noticed
    label = next((c for c in read_columns if c.kind in {"label", "labels"}), None)
    rows = _split(data, reading, sheets[TRAIN], rows, label, problems)
    findings += _checked(rows, read_columns, label, labels, problems)
    problems.raise_if_any()
    files = [file for sheet in sheets.values() for file in sheet.files]
    return Splits(
        rows=rows,
        labels=labels.names,
        label_column=label,
        columns={item.column.name: item.source for item in mapped},
        files=tuple(dict.fromkeys(files)),
        findings=findings,
    )


def _checked(
    rows: Mapping[str, Rows],
    read_columns: Sequence[Column],
    label: Column | None,
    labels: Labels,
    problems: Problems,
) -> list[Finding]:
    findings = check.sizes(rows, problems)
    if label is not None and labels.names:
        findings += check.classes(rows, label, labels.names, problems)
    for name, held in rows.items():
        if name != TRAIN:
            findings += check.leaks(rows[TRAIN], held, name, read_columns)
    return findings


def _split(
    data: DataSpec,
    reading: Reading,
    sheet: Sheet,
    rows: Mapping[str, Rows],
    label: Column | None,
    problems: Problems,
) -> dict[str, Rows]:
    """Take the held-out fractions of the training rows, test first."""
    train = rows[TRAIN]
    specs = held_out_specs(data)
    left = np.arange(len(train), dtype=np.int64)
    taken: dict[str, Rows] = {}
    for name in (TEST, VALIDATION):
        spec = specs.get(name)
        if spec is None:
            continue
        if spec.fraction is None:
            taken[name] = rows[name]
            continue
        chosen = split.held_out(
            left,
            min(split.quota(len(train), spec.fraction), max(0, len(left) - 1)),
            seed=reading.seed,
            purpose=split.TEST if name == TEST else split.VALIDATION,
            labels=_labels_at(train, label, left),
            groups=_groups_at(sheet, train, spec.group_by, left, problems),
        )
        _warn_groups(name, spec, chosen, problems)
        taken[name] = train.take(chosen)
        left = np.setdiff1d(left, chosen, assume_unique=True)
    ordered = {name: taken[name] for name in (VALIDATION, TEST) if name in taken}
    return {TRAIN: train.take(left) if len(left) < len(train) else train, **ordered}


def _labels_at(rows: Rows, label: Column | None, positions: np.ndarray) -> list[int] | None:
    if label is None or label.kind != "label":
        return None
    values = rows.columns[label.name]
    return [values[position] for position in positions]


def _groups_at(
    sheet: Sheet,
    rows: Rows,
    column: str | None,
    positions: np.ndarray,
    problems: Problems,
) -> list[Hashable] | None:
    """The group of each row. Sample ids of the training source are positions in its sheet."""
    if column is None:
        return None
    cells = sheet.cells[column]
    out: list[Hashable] = []
    for position in positions:
        at = int(rows.ids[position])
        if empty(cells[at]):
            file, line, words = sheet.place(at)
            problems.add(
                f"empty {column}",
                f"column {column!r} is empty, so the row's group is not known{words}",
                file=file,
                line=line,
                remedy="fill the cell or remove the row",
            )
        out.append(spell(cells[at]))
    return out


def _warn_groups(name: str, spec: HeldOutSpec, chosen: np.ndarray, problems: Problems) -> None:
    if spec.group_by is not None and not len(chosen):
        problems.add(
            "groups",
            f"no group of {spec.group_by!r} can be held out: every row has the same one",
            where=f"spec.data.{name}.groupBy",
            remedy="group by another column, or remove groupBy",
        )
