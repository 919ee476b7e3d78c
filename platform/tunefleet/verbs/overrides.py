"""``--set training.epochs=1``: values of the command line laid over a job file.

Decides how such a path is read (relative to ``spec``, or whole) and how its value is (as
YAML; ``null`` takes the field away). Imports ``api`` and ``verbs.locate`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tunefleet.api.errors import Problem
from tunefleet.api.fields import Path, dotted, field_at, root
from tunefleet.verbs.locate import Located, Place, read_document

_STEP = re.compile(r'"([^"]*)"|([^.\[\]"]+)|\[(\d{1,9})\]')


def apply(document: Located, overrides: Sequence[str]) -> None:
    """Lay the overrides over the document, in order; problems go to the document's."""
    for text in overrides:
        problem = _apply_one(document, text)
        if problem is not None:
            document.problems.append(problem)


def _apply_one(document: Located, text: str) -> Problem | None:
    file = f"--set {text}" if len(text) <= 120 else f"--set {text[:117]}…"
    given, equals, raw = text.partition("=")
    path = _path(given.strip())
    if not equals or path is None:
        return Problem(
            "is not written as field=value", file=file, remedy="write --set training.epochs=1"
        )
    read = read_document(raw.strip() or '""', file, under=path, line=None)
    if read.problems:
        document.problems += read.problems
        return None
    return _place(document, path, read, file)


def _path(text: str) -> Path | None:
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        if steps and text[at] == ".":
            at += 1
        match = _STEP.match(text, at)
        if match is None:
            return None
        quoted, name, index = match.groups()
        steps.append(int(index) if index else quoted if quoted is not None else name)
        at = match.end()
    if not steps or isinstance(steps[0], int):
        return None
    steps = [_as_index(step, steps[:at]) for at, step in enumerate(steps)]
    return tuple(steps) if steps[0] in root().children() else ("spec", *steps)


def _as_index(step: str | int, above: Sequence[str | int]) -> str | int:
    """``labels.0`` means ``labels[0]`` where a list stands."""
    if isinstance(step, str) and step.isdecimal():
        full = above if above and above[0] in root().children() else ("spec", *above)
        field = field_at(full)
        if field is not None and "array" in field.kinds:
            return int(step)
    return step


def _place(document: Located, path: Path, read: Located, file: str) -> Problem | None:
    holder = document.value
    for depth, step in enumerate(path[:-1]):
        if isinstance(holder, dict) and isinstance(step, str):
            if holder.get(step) is None:
                holder[step] = {}
                document.places[path[: depth + 1]] = Place(file, None)
            holder = holder[step]
        elif isinstance(holder, list) and isinstance(step, int) and step < len(holder):
            holder = holder[step]
        else:
            return _no_way(path[:depth], step, holder, file)
    last = path[-1]
    if isinstance(holder, dict) and isinstance(last, str):
        if read.value is None:
            holder.pop(last, None)
        else:
            holder[last] = read.value
    elif isinstance(holder, list) and isinstance(last, int) and last <= len(holder):
        holder[last : last + 1] = [read.value]
    else:
        return _no_way(path[:-1], last, holder, file)
    for known in [known for known in document.places if known[: len(path)] == path]:
        del document.places[known]
    for below, place in read.places.items():
        document.places[(*path, *below)] = place
    return None


def _no_way(path: Path, step: str | int, holder: object, file: str) -> Problem:
    if isinstance(step, int) and isinstance(holder, list):
        return Problem(
            f"has {len(holder)} items; there is no item [{step}]",
            dotted(path),
            "items count from 0",
            file,
        )
    return Problem(
        f"has no fields below it, so {dotted((step,))} cannot be set",
        dotted(path),
        "check the path",
        file,
    )
