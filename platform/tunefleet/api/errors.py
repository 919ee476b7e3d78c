"""Errors a user can act on. Each says what is wrong, where, and what to do.

    TunefleetError
     ├─ SpecError          the job file or a command-line value            exit code 2
     ├─ DataError          the data, found before anything is spent        exit code 2
     ├─ ModelError         the base model or a bundle                      exit code 2
     ├─ StorageError       object storage                                  exit code 2
     ├─ BusyError          somebody else is running this job               exit code 2
     ├─ ClusterError       a cluster that is away, or refuses              exit code 2
     ├─ MachineError       this machine lacks something                    exit code 2
     └─ RunError           the run itself failed                           exit code 1

Imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, with its place and its remedy.

    ``where`` is a field path (``spec.training.epochs``) or a column; ``file`` and ``line``
    are set when the problem stands in a file (lines count from 1).
    """

    message: str
    where: str = ""
    remedy: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        head = ": ".join(part for part in (place, self.where, self.message) if part)
        return f"{head}\n    → {self.remedy}" if self.remedy else head


class TunefleetError(Exception):
    """Base of every error that is shown to a user without a traceback."""

    exit_code = 2

    def __init__(self, message: str, *, remedy: str = "", problems: Sequence[Problem] = ()) -> None:
        self.message = message
        self.remedy = remedy
        self.problems = tuple(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.message] if self.message else []
        lines += [f"  {problem}" for problem in self.problems]
        if self.remedy:
            lines.append(f"  → {self.remedy}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.remedy, self.problems))


def _rebuild(
    kind: type[TunefleetError], message: str, remedy: str, problems: tuple[Problem, ...]
) -> TunefleetError:
    return kind(message, remedy=remedy, problems=problems)


class SpecError(TunefleetError):
    """The job file, an override or a command-line value is wrong."""


class DataError(TunefleetError):
    """The data cannot be used as it is."""


class ModelError(TunefleetError):
    """A model folder, hub name or bundle cannot be used."""


class StorageError(TunefleetError):
    """Object storage refused, is missing, or holds something unreadable."""


class BusyError(TunefleetError):
    """Another process is running this job; starting a second writer was refused."""


class ClusterError(TunefleetError):
    """A cluster cannot be reached, refuses, or does not have what was asked for."""


class MachineError(TunefleetError):
    """This machine lacks a part that is needed (a package, a port, memory)."""


class RunError(TunefleetError):
    """The run failed after it had started; what was committed is kept."""

    exit_code = 1
