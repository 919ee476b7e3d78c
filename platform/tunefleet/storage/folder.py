"""A run's folder inside a store: where things lie, and reading them.

Decides the layout ``<namespace>/<job>/<run id>/``. Numbers, never times, say what is newest.
Imports ``api`` and its siblings below it.

    RUN.json  job.json  facts.json  plan.json  report/…  bundle/<digest>/…
    prepared/<split>/…                         tokens, for machines that did not make them
    attempts/0001/CLAIM                        who owns the run (the highest number does)
    attempts/0001/EXIT.json                    how the attempt ended
    attempts/0001/starts/0001/CLAIM            the number is taken: lower starts are fenced
    attempts/0001/starts/0001/START.json       what it resumed from
    attempts/0001/starts/0001/failures/…       what its workers died of
    attempts/0001/starts/0001/SPENT.json       its time and money by cause so far
    attempts/0001/SPENT.json                   what went by after the last start
    attempts/0001/logs/driver-0001.jsonl       what a pod of a cluster said
    checkpoints/<step>-<attempt>.<start>.<n>-<nonce>/…, MANIFEST.json last
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tunefleet.api.base import Document
from tunefleet.api.errors import StorageError
from tunefleet.cost.ledger import TAIL, Spent
from tunefleet.storage.faults import FencedError, MissingError
from tunefleet.storage.records import (
    Claim,
    DocumentT,
    ExitRecord,
    FailureRecord,
    StartRecord,
    parse,
)
from tunefleet.storage.store import Store

_CLAIM = re.compile(r"attempts/(\d{4,9})/CLAIM")
_START_CLAIM = re.compile(r"attempts/(\d{4,9})/starts/(\d{4,9})/CLAIM")
_START = re.compile(r"attempts/(\d{4,9})/starts/(\d{4,9})/START\.json")
_EXIT = re.compile(r"attempts/(\d{4,9})/EXIT\.json")
_SPENT = re.compile(r"attempts/(\d{4,9})/(?:starts/(\d{4,9})/)?SPENT\.json")
_FAILURE = re.compile(r"attempts/(\d{4,9})/starts/(\d{4,9})/failures/(-?\d+)-(\d+)\.json")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's folder: its address and what stands in it."""

    store: Store
    namespace: str
    job: str
    run: str

    @property
    def uri(self) -> str:
        """The run's own URI, for people and for results."""
        return "/".join((self.store.uri.rstrip("/"), self.namespace, self.job, self.run))

    def key(self, *parts: str) -> str:
        """The store's key of something in this folder."""
        return "/".join((self.namespace, self.job, self.run, *parts))

    def put_json(self, name: str, document: Document | Mapping[str, object]) -> None:
        """Write a record durably, replacing what is there; ``name`` may hold folders."""
        if isinstance(document, Document):
            text = document.to_json(indent=2)
        else:
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        self.store.put(self.key(name), text.encode())
        self.store.flush([self.key(name)])

    def get_json(self, name: str) -> dict[str, object] | None:
        """A record as JSON values; None when there is none, StorageError when it is torn."""
        try:
            body = self.store.get(self.key(name))
        except MissingError:
            return None
        try:
            found = json.loads(body)
        except ValueError as error:
            raise StorageError(
                f"{self.uri}/{name} is damaged: {error}",
                remedy="begin another run with --fresh; this one is left as it is",
            ) from error
        if not isinstance(found, dict):
            raise StorageError(f"{self.uri}/{name} is damaged: it holds no JSON object")
        return found

    # -- attempts and starts -----------------------------------------------------------

    def attempts(self) -> list[int]:
        """Numbers of all claimed attempts, ascending."""
        return sorted(numbers[0] for numbers in self._numbers(_CLAIM, "attempts"))

    def newest_claim(self) -> Claim | None:
        """The claim with the highest number, which owns the run."""
        numbers = self.attempts()
        return self.claim_of(numbers[-1]) if numbers else None

    def claim_of(self, attempt: int) -> Claim:
        """An attempt's claim. One that is torn still counts; its writer is unknown."""
        found = self._record(Claim, f"attempts/{attempt:04d}/CLAIM")
        unknown = Claim(attempt=attempt, host="", boot="", pid=-1, started=-1.0, created="")
        return found or unknown

    def starts(self, attempt: int) -> list[StartRecord]:
        """An attempt's starts, ascending; a start killed before its record stands is none."""
        numbers = self._numbers(_START, f"attempts/{attempt:04d}")
        found = (self.start_of(a, s) for a, s in sorted(numbers))
        return [record for record in found if record is not None]

    def start_of(self, attempt: int, start: int) -> StartRecord | None:
        """One start's record, None when there is none or it is torn."""
        return self._record(StartRecord, f"attempts/{attempt:04d}/starts/{start:04d}/START.json")

    def start_numbers(self) -> list[tuple[int, int]]:
        """(attempt, start) of every start record in the run, ascending."""
        return sorted((a, s) for a, s in self._numbers(_START, "attempts"))

    def fenced_below(self) -> tuple[int, int]:
        """Every (attempt, start) lower than this one can no longer commit."""
        claims = self.attempts()
        if not claims:
            return (0, 0)
        taken = self._numbers(_START_CLAIM, f"attempts/{claims[-1]:04d}")
        return (claims[-1], max((start for _, start in taken), default=0))

    def check_fence(self, attempt: int, start: int) -> None:
        """Raise FencedError when a newer attempt or start has taken the run over."""
        newest = self.fenced_below()
        if newest < (attempt, start):
            raise StorageError(
                f"the claim of attempt {attempt} is gone from {self.uri}",
                remedy="the run's folder was moved or deleted while it ran; run again",
            )
        if newest > (attempt, start):
            taker = f"attempt {newest[0]}" + (f", start {newest[1]}" if newest[1] else "")
            raise FencedError(
                f"attempt {attempt}, start {start} of {self.uri} was taken over by {taker}",
                remedy="nothing to do: the newer one goes on from the last checkpoint",
            )

    # -- what ended, and how -----------------------------------------------------------

    def failures(self, attempt: int, start: int) -> list[FailureRecord]:
        """What the workers of a start died of, by rank, then in order of writing."""
        prefix = f"attempts/{attempt:04d}/starts/{start:04d}/failures"
        numbers = sorted(self._numbers(_FAILURE, prefix))
        found = (
            self._record(FailureRecord, f"{prefix}/{rank}-{index}.json")
            for _, _, rank, index in numbers
        )
        return [record for record in found if record is not None]

    def exit_record(self, attempt: int) -> ExitRecord | None:
        """How an attempt ended; None when it runs, was killed, or its record is torn."""
        return self._record(ExitRecord, f"attempts/{attempt:04d}/EXIT.json")

    def exit_records(self) -> list[ExitRecord]:
        """All exit records, by attempt."""
        numbers = sorted(numbers[0] for numbers in self._numbers(_EXIT, "attempts"))
        found = (self.exit_record(attempt) for attempt in numbers)
        return [record for record in found if record is not None]

    def ended_attempts(self) -> set[int]:
        """Attempts that have written their exit record."""
        return {numbers[0] for numbers in self._numbers(_EXIT, "attempts")}

    # -- what it cost ------------------------------------------------------------------

    def spent(self) -> list[Spent]:
        """What every start has spent, and the tails, in the order of time."""
        own = len(self.key("x")) - 1
        keys = (key[own:] for key, _ in self.store.list(self.key("attempts")))
        found = (self._record(Spent, key) for key in keys if _SPENT.fullmatch(key))
        known = (record for record in found if record is not None)
        return sorted(known, key=lambda record: (record.attempt, record.begun_ns))

    def put_spent(self, record: Spent) -> None:
        """Keep what a start has spent so far, in the place of what it had said before."""
        start = "" if record.start == TAIL else f"starts/{record.start:04d}/"
        self.put_json(f"attempts/{record.attempt:04d}/{start}SPENT.json", record)

    # -- inside ------------------------------------------------------------------------

    def _numbers(self, pattern: re.Pattern[str], prefix: str) -> list[tuple[int, ...]]:
        own = len(self.key("x")) - 1
        keys = (key[own:] for key, _ in self.store.list(self.key(prefix)))
        found = (pattern.fullmatch(key) for key in keys)
        return [tuple(map(int, match.groups())) for match in found if match]

    def _record(self, kind: type[DocumentT], name: str) -> DocumentT | None:
        try:
            body = self.store.get(self.key(name))
        except MissingError:
            return None
        return parse(kind, body, f"{self.uri}/{name}")
