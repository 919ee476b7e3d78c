"""Reads a job file: YAML, overrides, validation, and every problem at once with its line.

Decides how a file becomes a :class:`~tunefleet.api.job.FineTuneJob` and how a person is told
what is wrong with it. Imports ``api``, ``verbs.locate`` and its siblings; neither torch nor ray.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from pydantic import ValidationError

from tunefleet.api.digest import job_digest, job_values
from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.fields import Path, dotted, field_at
from tunefleet.api.job import API_VERSION, FineTuneJob
from tunefleet.api.support import unsupported
from tunefleet.verbs import overrides as sets
from tunefleet.verbs.locate import LARGEST_FILE, Located, read_document, scalars
from tunefleet.verbs.translate import Issue, issues_of, without_echoes

Refusals = Callable[[FineTuneJob], list[Problem]]
"""What the place where a job shall run cannot honour of it."""

_ROUNDS = 8
_MOST_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job, the file it came from and the folder its relative locations start at.

    ``digest`` is that of the job, overrides included; comments and layout do not count.
    """

    job: FineTuneJob
    path: FilePath
    base: FilePath
    text: str
    digest: str

    def _repr_html_(self) -> str:
        import html
        import json

        text = json.dumps(job_values(self.job), indent=2, ensure_ascii=False)
        return (
            f"<details><summary><b>FineTuneJob {html.escape(self.job.metadata.name)}</b> "
            f"({html.escape(self.job.spec.task)})</summary><pre>{html.escape(text)}</pre></details>"
        )


def load(
    path: FilePath | str, overrides: Sequence[str] = (), *, refused: Refusals = unsupported
) -> JobFile:
    """Read a job file; raises ``SpecError`` with everything that is wrong with it.

    ``refused`` says what cannot be honoured where the job shall run: on a laptop, unless it is
    given.
    """
    path = FilePath(path)
    text = _read(path)
    job = parse(text, str(path), overrides, refused=refused)
    return JobFile(job, path, path.absolute().parent, text, job_digest(job))


def parse(
    text: str, file: str, overrides: Sequence[str] = (), *, refused: Refusals = unsupported
) -> FineTuneJob:
    """The job that a text describes; ``file`` is the name that problems carry."""
    document = read_document(text, file)
    if document.value is None and document.problems:
        raise _error(file, document.problems)
    if not isinstance(document.value, dict):
        remedy = "begin with `apiVersion:`; `tunefleet init data.csv` writes such a file"
        raise _error(file, [Problem("a job is a block of fields", "", remedy, file, 1)])
    sets.apply(document, overrides)
    job, issues = _validate(document, refused)
    issues += _ambiguous(document, {issue.path for issue in issues})
    problems = [*document.problems, *(_located(issue, document) for issue in issues)]
    if problems or job is None:
        raise _error(file, problems)
    return job


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        near = [item.name for item in _siblings(path)]
        found = difflib.get_close_matches(path.name, near, n=1)
        hint = f"did you mean {path.with_name(found[0])}? " if found else ""
        remedy = f"{hint}`tunefleet init data.csv` writes a job file"
        raise SpecError(f"there is no file {path}", remedy=remedy) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"cannot read {str(path)!r}: {reason}", remedy="name a job file") from None
    if len(raw) > LARGEST_FILE:
        raise SpecError(
            f"{path} is larger than {LARGEST_FILE // 2**20} MiB",
            remedy="this is no job file; did you name the data instead?",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem("is not UTF-8 text", "", "save the file as UTF-8", str(path), line)
        raise _error(str(path), [problem]) from None


def _siblings(path: FilePath) -> list[FilePath]:
    try:
        return [item for item in path.parent.iterdir() if item.suffix in {".yaml", ".yml"}]
    except OSError:
        return []


# -- validation ----------------------------------------------------------------------------


def _validate(document: Located, refused: Refusals) -> tuple[FineTuneJob | None, list[Issue]]:
    """Validate, take the faulty values away and validate again.

    pydantic looks at a block's rules only when all its fields are right. Taking faulty
    values away lets the rules further out speak, so that a user sees them at once too; a
    rule that reads a value which was taken away stays silent.
    """
    issues: list[Issue] = []
    removed: list[Path] = []
    repaired = Located(copy.deepcopy(document.value), document.places)
    for _ in range(_ROUNDS):
        try:
            job = FineTuneJob.model_validate(repaired.value, by_alias=True, by_name=False)
        except ValidationError as error:
            found = issues_of(error, repaired)
        else:
            issues += [
                issue for issue in _refused(refused(job)) if not _touches(issue.reads, removed)
            ]
            return (None if issues else job), without_echoes(issues)
        issues += [issue for issue in found if not _touches(issue.reads, removed)]
        mended = [_repair(repaired.value, issue.path) for issue in found]
        removed += [path for path in mended if path is not None]
        if None in mended:
            break
    return None, without_echoes(issues)


def _touches(reads: Sequence[Path], removed: Sequence[Path]) -> bool:
    return any(read[: len(path)] == path[: len(read)] for read in reads for path in removed)


def _refused(problems: Sequence[Problem]) -> list[Issue]:
    issues = []
    for problem in problems:
        path: Path = tuple(
            int(step) if step.isdecimal() else step
            for step in re.findall(r"[^.\[\]]+", problem.where)
        )
        issues.append(Issue(path, "unsupported", problem.message, problem.remedy, (path,)))
    return issues


_DATA: dict[str, object] = {"train": {"uri": "x"}}
_PLACEHOLDERS: dict[Path, object] = {
    ("apiVersion",): API_VERSION,
    ("kind",): "FineTuneJob",
    ("metadata",): {"name": "x"},
    ("metadata", "name"): "x",
    ("spec",): {"task": "text-classification", "model": {"name": "x"}, "data": _DATA},
    ("spec", "task"): "text-classification",
    ("spec", "model"): {"name": "x"},
    ("spec", "data"): _DATA,
    ("spec", "data", "train"): {"uri": "x"},
}


def _repair(document: object, path: Path) -> Path | None:
    """Take a faulty value away, or the nearest block around it that can be spared.

    Required ones get a harmless value. Returns what was touched; None: nothing can be done.
    An item of a list takes the whole list with it, so that no other index moves.
    """
    for length, step in enumerate(path):
        if isinstance(step, int):
            path = path[:length]
            break
    while path:
        holder = _holder(document, path)
        field = field_at(path)
        if isinstance(holder, dict) and path in _PLACEHOLDERS:
            holder[path[-1]] = copy.deepcopy(_PLACEHOLDERS[path])
            return path
        spare = field is None or not field.required
        if isinstance(holder, dict) and spare and path[-1] in holder:
            del holder[path[-1]]
            return path
        path = path[:-1]
    return None


def _holder(value: object, path: Path) -> object:
    for step in path[:-1]:
        if not isinstance(value, dict):
            return None
        value = value.get(str(step))
    return value


# -- values that other readers take for something else ----------------------------------------

_YAML_1_1 = (
    (re.compile(r"(?i)yes|no|on|off|y|n"), "is read as true or false by other YAML readers"),
    (re.compile(r"[-+]?\d[\d,]*(_\d+)+(\.\d*)?"), "is read as a number by other YAML readers"),
    (re.compile(r"[-+]?\d+(:[0-5]?\d)+(\.\d*)?"), "is read as a number by other YAML readers"),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?"), "is read as a date by other YAML readers"),
)
_OCTAL = re.compile(r"[-+]?0[0-7]+")


def is_ambiguous(raw: str) -> bool:
    """Whether readers of YAML 1.1 take this unquoted text for something else."""
    return any(pattern.fullmatch(raw) for pattern, _ in _YAML_1_1)


def _ambiguous(document: Located, known: set[Path]) -> list[Issue]:
    """Unquoted text that kubectl and others, which read YAML 1.1, take for something else."""
    issues = []
    for path, value in scalars(document.value):
        place = document.place(path)
        raw = place.raw
        if path in known or not place.plain or raw is None:
            continue
        if isinstance(value, str) and _takes_text(path):
            for pattern, what in _YAML_1_1:
                if pattern.fullmatch(raw):
                    remedy = f'put quotes round it: "{raw}"'
                    issues.append(Issue(path, "ambiguous", f"{raw} {what}", remedy))
        elif isinstance(value, int) and _OCTAL.fullmatch(raw):
            message = f"{raw} is {value} here and {int(raw, 8)} to other YAML readers"
            issues.append(Issue(path, "ambiguous", message, f"write {value}"))
    return issues


def _takes_text(path: Path) -> bool:
    field = field_at(path)
    return field is not None and "string" in field.kinds and "boolean" not in field.kinds


# -- problems ------------------------------------------------------------------------------


def _located(issue: Issue, document: Located) -> Problem:
    place = document.place(issue.path)
    return Problem(issue.message, dotted(issue.path), issue.remedy, place.file, place.line)


def _error(file: str, problems: Sequence[Problem]) -> SpecError:
    unique = list(dict.fromkeys(problems))
    unique.sort(key=lambda problem: (problem.file != file, problem.line or 0))
    count = f"{len(unique)} problems" if len(unique) != 1 else "1 problem"
    more = len(unique) - _MOST_PROBLEMS
    remedy = f"and {more} more; mend these first" if more > 0 else ""
    shown = [replace(problem, file=problem.file or file) for problem in unique[:_MOST_PROBLEMS]]
    return SpecError(f"{count} in {file}", remedy=remedy, problems=shown)
