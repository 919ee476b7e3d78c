"""The records of attempts: claims, starts, failures and exits.

Decides their shape and how one is read back: a record of a newer version is refused with
that reason, one that is torn (a power cut) reads as absent. Imports ``api`` alone.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from tunefleet.api.base import Document
from tunefleet.api.errors import StorageError
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.storage.writer import Writer

DocumentT = TypeVar("DocumentT", bound=Document)


class RunRecord(Document):
    """``RUN.json``: that this folder is a run, and whose.

    ``owner`` is the uid of the cluster's object that the run was made for ("": made by hand).
    """

    version: Literal[1] = 1
    namespace: str
    job: str
    run: str
    created: str
    nonce: str
    owner: str = ""


class Claim(Document):
    """An attempt's owner. The highest attempt owns the run; all lower ones are fenced.

    ``created`` is for people: nothing is ever ordered by time. ``owner`` is the uid of the
    attempt's object where a cluster numbers the attempts ("": numbered here).
    """

    version: Literal[1] = 1
    attempt: int
    host: str
    boot: str
    pid: int
    started: float
    created: str
    nonce: str = ""
    owner: str = ""

    @property
    def writer(self) -> Writer:
        """The process that made the claim."""
        return Writer(self.host, self.boot, self.pid, self.started)


class StartMarker(Document):
    """That a start's number is taken; from here on lower starts cannot commit."""

    version: Literal[1] = 1
    attempt: int
    start: int
    created: str
    nonce: str


class StartRecord(Document):
    """One start of a group of workers within an attempt, and what it goes on from.

    ``resumed_from`` is the key of a manifest, relative to the run's folder; None means that
    it began. ``passed_over`` says which newer checkpoints could not be used, and why.
    """

    version: Literal[1] = 1
    attempt: int
    start: int
    workers: int
    resumed_from: str | None
    resumed_step: int
    created: str
    passed_over: list[str] = Field(default_factory=list)


class FailureRecord(Document):
    """Why one worker of a start ended early."""

    version: Literal[1] = 1
    attempt: int
    start: int
    rank: int
    failure: FailureClass
    message: str
    traceback: str
    step: int | None = None


class ExitRecord(Document):
    """How an attempt ended; ``seconds`` are worker-seconds by cause of this attempt."""

    version: Literal[1] = 1
    attempt: int
    phase: Phase
    failure: FailureClass | None = None
    message: str
    step: int
    seconds: dict[Cause, float]
    cost_microdollars: int | None = None


def now() -> str:
    """The time for people to read, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parse(kind: type[DocumentT], body: bytes, place: str) -> DocumentT | None:
    """The record in ``body``; None when it is torn; StorageError when it is too new."""
    try:
        return kind.from_json(body)
    except ValidationError:
        refuse_newer(body, place)
        return None


def refuse_newer(body: bytes, place: str, known: int = 1) -> None:
    """Raise StorageError when ``body`` is a record of a newer version than ``known``."""
    try:
        found = json.loads(body)
    except ValueError:
        return
    version = found.get("version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > known:
        raise StorageError(
            f"{place} was written by a newer tunefleet (record version {version}, this one "
            f"reads up to {known})",
            remedy="upgrade tunefleet to go on with this run, or begin another with --fresh",
        )
