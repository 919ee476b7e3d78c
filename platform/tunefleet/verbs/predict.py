"""``predict``: answers for texts or for a file's rows, on this machine.

Decides what an output line holds, and that nothing is written unless everything could be
answered. Imports ``api``, ``evaluate`` records and ``verbs``; torch only inside functions.
"""

from __future__ import annotations

import html
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING

from tunefleet.api.errors import DataError, Problem, SpecError, StorageError
from tunefleet.evaluate.bundle import BundleTask, read_task
from tunefleet.evaluate.inputs import InputError, check_item, single_text
from tunefleet.verbs.answer_rows import Item, Reading, Row, read_rows
from tunefleet.verbs.target import find_bundle

if TYPE_CHECKING:
    from tunefleet.evaluate.predictor import Predictor

Progress = Callable[[int, int], None]

_CHUNK = 2048
_SHOWN_PROBLEMS = 10
_SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer with what was asked."""

    row: int
    input: dict[str, object]
    prediction: dict[str, object]
    line: int | None = None
    id: object = None

    def record(self) -> dict[str, object]:
        """The answer as it stands in an output file."""
        place: dict[str, object] = {"row": self.row}
        if self.line is not None:
            place["line"] = self.line
        if self.id is not None:
            place["id"] = self.id
        return place | {"input": self.input, "prediction": self.prediction}


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers in the order they were asked for; ``rows`` is empty when they went to a file."""

    task: str
    digest: str
    count: int
    seconds: float
    rows: tuple[Prediction, ...] = ()
    out: str | None = None

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{self.count:,} answers in <code>{html.escape(str(self.out))}</code></p>"
        lines = "".join(
            f"<tr><td>{_cell(row.input)}</td><td>{_cell(row.prediction)}</td></tr>"
            for row in self.rows[:_SHOWN_ROWS]
        )
        more = self.count - min(self.count, _SHOWN_ROWS)
        rest = f"<p>and {more:,} more</p>" if more else ""
        return f"<table><tr><th>input</th><th>answer</th></tr>{lines}</table>{rest}"


def predict(
    bundle: str | Path,
    *,
    texts: Sequence[str] = (),
    items: Sequence[Item] = (),
    file: str | Path | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    out: str | Path | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Answer ``texts``, ``items`` or the rows of ``file`` with a bundle.

    ``bundle`` is a bundle's folder, a run's folder or a job file. ``texts`` is for models
    that read one text; ``items`` hold the task's columns. ``file`` is CSV, TSV, JSON, JSONL,
    Parquet, Arrow or plain text, or ``-`` for JSONL (or plain lines) from standard input.
    ``format`` is told by a file's ending; a file that is not UTF-8, or a CSV file, is read
    with the ``encoding`` and the ``delimiter`` of the training data, where none is given.
    ``out`` gets JSONL, ``-`` is standard output; without it answers are returned.

    Raises ``ModelError`` (the bundle), ``DataError`` (rows, with file and line) or
    ``SpecError`` (arguments); nothing is written to ``out`` then.
    """
    if sum(1 for given in (texts, items, file) if given) != 1:
        raise SpecError("nothing to predict, or too much", remedy="give one of text or file")
    reading = Reading.of(format, encoding, delimiter)
    if file is None and reading != Reading():
        raise SpecError(
            "format, encoding and delimiter say how a file is read, and there is none",
            remedy="remove them, or give --file",
        )
    if batch_size < 1:
        raise SpecError("the batch size must be at least 1")
    _check_out(out, file)
    folder = find_bundle(bundle).folder
    facts = read_task(folder)
    rows = _given(facts, texts, items) if file is None else read_rows(facts, file, reading)
    _check_rows(facts, rows, str(file or ""))
    from tunefleet.evaluate.predictor import Predictor

    predictor = Predictor.open(folder, device=device)
    began = time.monotonic()
    answered = _answers(predictor, rows, str(file or ""), batch_size, progress)
    kept: tuple[Prediction, ...] = ()
    if out is None:
        kept = tuple(answered)
    else:
        _write(answered, out)
    return Predictions(
        task=predictor.task_name,
        digest=predictor.digest,
        count=len(rows),
        seconds=time.monotonic() - began,
        rows=kept,
        out=str(out) if out is not None else None,
    )


def _given(facts: BundleTask, texts: Sequence[str], items: Sequence[Item]) -> list[Row]:
    if not texts:
        return [Row(number, dict(item)) for number, item in enumerate(items, 1)]
    name = single_text(facts.columns)
    if name is None:
        needed = ", ".join(column.name for column in facts.columns if column.required)
        raise SpecError(
            f"this model reads {needed}, so a text alone is not enough",
            remedy="give a file with these columns (JSONL is easiest)",
        )
    return [Row(number, {name: text}) for number, text in enumerate(texts, 1)]


def _check_rows(facts: BundleTask, rows: Sequence[Row], file: str) -> None:
    """Look at every row before a model is loaded; the first few bad ones are listed."""
    problems: list[Problem] = []
    count = 0
    for row in rows:
        found = check_item(row.item, facts.columns)
        if found is None:
            continue
        count += 1
        if len(problems) < _SHOWN_PROBLEMS:
            problems.append(_problem(row, file, found.field, found.message))
    if problems:
        more = f" (and {count - len(problems):,} more)" if count > len(problems) else ""
        raise DataError(f"{count:,} of {len(rows):,} rows cannot be read{more}:", problems=problems)


def _problem(row: Row, file: str, where: str, message: str) -> Problem:
    if row.line is not None:
        return Problem(message, where=where, file=file, line=row.line)
    return Problem(
        message, where=f"row {row.row}: {where}" if where else f"row {row.row}", file=file
    )


def _answers(
    predictor: Predictor,
    rows: Sequence[Row],
    file: str,
    batch_size: int,
    progress: Progress | None,
) -> Iterator[Prediction]:
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        step = _shifted(progress, start, len(rows))
        answers = predictor.answer([row.item for row in chunk], batch_size, progress=step)
        for row, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, InputError):
                found = answer.problem
                problem = _problem(row, file, found.field, found.message)
                raise DataError("a row cannot be answered:", problems=[problem])
            yield Prediction(row.row, dict(row.item), answer, row.line, row.id)


def _shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(start + done, total)


def _check_out(out: str | Path | None, file: str | Path | None) -> None:
    if out is None or str(out) == "-":
        return
    path = Path(out)
    if path.is_dir():
        raise StorageError(f"{out} is a folder", remedy="name a file, such as answers.jsonl")
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent} does not exist", remedy="make the folder first")
    if not os.access(path.parent, os.W_OK):
        raise StorageError(f"{path.parent} cannot be written to", remedy="name another place")
    if file is not None and path.exists() and Path(file).exists() and path.samefile(file):
        raise SpecError("the answers would replace the file they are for", remedy="name another")


def _write(answers: Iterable[Prediction], out: str | Path) -> None:
    if str(out) == "-":
        _write_lines(answers, sys.stdout)
        sys.stdout.flush()
        return
    path = Path(out)
    draft = NamedTemporaryFile(  # noqa: SIM115 - closed before it is renamed
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    )
    try:
        with draft:
            _write_lines(answers, draft)
            draft.flush()
            os.fsync(draft.fileno())
        os.chmod(draft.name, 0o666 & ~_umask())
        os.replace(draft.name, path)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        Path(draft.name).unlink(missing_ok=True)


def _write_lines(answers: Iterable[Prediction], sink: IO[str]) -> None:
    for answer in answers:
        sink.write(json.dumps(answer.record(), ensure_ascii=False, allow_nan=False, default=str))
        sink.write("\n")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _cell(value: Mapping[str, object]) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return html.escape(text if len(text) <= 400 else text[:400] + "…")
