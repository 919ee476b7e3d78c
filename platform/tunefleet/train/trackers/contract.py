"""What a tracker is told, and the interface that each one implements.

Decides nothing else: names of numbers are chosen in ``feed``, ids are made in ``choice``.
Imports ``api`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tunefleet.api.words import Phase


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """Which run it is, where it begins, and what it was told.

    ``identity`` is the same for every attempt of a run and of no other run. ``since`` is the
    first step to come: numbers of this and later steps that a tracker has already are of an
    attempt whose work was lost. ``settings`` are JSON values. ``folder`` is where a tracker
    may keep files; ``keep`` brings them to the run's own store where that is elsewhere.
    """

    identity: str
    namespace: str
    job: str
    run: str
    attempt: int
    since: int
    settings: Mapping[str, object]
    folder: Path
    keep: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Point:
    """Numbers of one step, by name (``train/loss``). They come in the order of steps."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: its summary (final metrics, bundle digest) and its phase."""

    phase: Phase
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """One place where numbers go. Every method may raise and may take its time."""

    name: str

    def begin(self, run: TrackedRun) -> None:
        """Open the run, or the one that an earlier attempt has opened."""
        ...

    def record(self, points: Sequence[Point]) -> None:
        """Add numbers. A step that stands there already must not appear a second time."""
        ...

    def save(self) -> None:
        """A checkpoint was committed: make durable what was recorded."""
        ...

    def end(self, end: Ending | None) -> None:
        """Close the run; ``None``: it will be gone on with."""
        ...
