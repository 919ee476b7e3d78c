"""Runs: making and finding them, and who may write one.

Decides run ids, attempts and starts, each a number taken by conditional create: of two that
ask at once exactly one gets it. Nothing waits after a kill, because nothing expires: a
higher number fences the lower ones. Imports ``api``, ``plan.worker`` and its siblings.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.base import Document
from tunefleet.api.errors import StorageError
from tunefleet.plan.worker import RunAddress
from tunefleet.storage.chain import find_head
from tunefleet.storage.faults import FencedError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.records import (
    Claim,
    ExitRecord,
    FailureRecord,
    RunRecord,
    StartMarker,
    StartRecord,
    now,
)
from tunefleet.storage.store import Patience, Store, open_store
from tunefleet.storage.writer import Writer

__all__ = [
    "Claim",
    "ExitRecord",
    "FailureRecord",
    "FencedError",
    "RunStore",
    "StartRecord",
    "Writer",
    "jobs",
]

_RUN = re.compile(r"run-(\d{4,9})")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class RunStore(RunFolder):
    """One run's folder, to be claimed and written."""

    @staticmethod
    def create(store: Store, namespace: str, job: str) -> RunStore:
        """A new run under the next free number."""
        for _ in range(_TRIES):
            run = RunStore.try_create(store, namespace, job)
            if run is not None:
                return run
        raise _no_number(f"{store.uri}/{namespace}/{job}")

    @staticmethod
    def try_create(store: Store, namespace: str, job: str, owner: str = "") -> RunStore | None:
        """A new run under the next number; None when somebody else took it in this moment.

        A last folder that holds nothing was begun by a process killed at its first write,
        and is taken. ``owner``: see :class:`RunRecord`.
        """
        place = f"{namespace}/{job}"
        names = sorted(filter(_number, store.folders(place)), key=_number)
        while names and not store.list(f"{place}/{names[-1]}"):
            names.pop()
        number = _number(names[-1]) + 1 if names else 1
        run = RunStore(store, namespace, job, f"run-{number:04d}")
        record = RunRecord(
            namespace=namespace,
            job=job,
            run=run.run,
            created=now(),
            nonce=_nonce(),
            owner=owner,
        )
        return run if run._take("RUN.json", record) else None

    @staticmethod
    def of_owner(store: Store, namespace: str, job: str, owner: str) -> RunStore:
        """The run that was made for a cluster's object; made now when there is none yet.

        Of two processes that ask at once both may make one: the lower number is everybody's.
        """
        found = _owned(store, namespace, job, owner)
        for _ in range(_TRIES):
            if found is not None:
                return found
            RunStore.try_create(store, namespace, job, owner)
            found = _owned(store, namespace, job, owner)
        raise _no_number(f"{store.uri}/{namespace}/{job}")

    @staticmethod
    def newest(store: Store, namespace: str, job: str) -> RunStore | None:
        """The job's run with the highest number."""
        return next(reversed(RunStore.all(store, namespace, job)), None)

    @staticmethod
    def all(store: Store, namespace: str, job: str) -> list[RunStore]:
        """The job's runs by number; a folder without ``RUN.json`` is none."""
        names = (name for name in store.folders(f"{namespace}/{job}") if _number(name))
        runs = [RunStore(store, namespace, job, name) for name in sorted(names, key=_number)]
        return [run for run in runs if store.exists(run.key("RUN.json"))]

    @staticmethod
    def jobs(store: Store) -> list[tuple[str, str]]:
        """(namespace, job) of every job that has a run here."""
        return jobs(store)

    @staticmethod
    def at(address: RunAddress) -> RunStore:
        """The run at an address, in whichever process is told it."""
        # Whoever gives an address has used its store: what keeps it away now will pass.
        store = open_store(address.uri, Path("/"), Patience.LONG)
        return RunStore(store, address.namespace, address.job, address.run)

    def address(self, attempt: int) -> RunAddress:
        """What a worker needs to reopen this run."""
        return RunAddress(
            uri=self.store.uri,
            namespace=self.namespace,
            job=self.job,
            run=self.run,
            attempt=attempt,
        )

    # -- claims ------------------------------------------------------------------------

    def claim_attempt(self, writer: Writer) -> Claim:
        """Take the next attempt's number: from here on this writer owns the run."""
        number = max(self.attempts(), default=0)
        for _ in range(_TRIES):
            number += 1
            claim = Claim(
                attempt=number,
                host=writer.host,
                boot=writer.boot,
                pid=writer.pid,
                started=writer.started,
                created=now(),
                nonce=_nonce(),
            )
            if self._take(f"attempts/{number:04d}/CLAIM", claim):
                return claim
        raise _no_number(self.uri)

    def claim_numbered(self, attempt: int, owner: str, writer: Writer) -> Claim:
        """Take an attempt's number that a cluster gave, for its object ``owner``.

        The same object may take it again: each time is another execution of the same attempt,
        and starts fence one from the other. FencedError when the number is somebody else's or
        a higher one is taken: this attempt has been replaced.
        """
        claim = Claim(
            attempt=attempt,
            host=writer.host,
            boot=writer.boot,
            pid=writer.pid,
            started=writer.started,
            created=now(),
            nonce=_nonce(),
            owner=owner,
        )
        newest = max(self.attempts(), default=0)
        if newest <= attempt and not self._take(f"attempts/{attempt:04d}/CLAIM", claim):
            claim = self.claim_of(attempt)
        newest = max(self.attempts(), default=0)
        if newest > attempt or claim.owner != owner:
            raise FencedError(
                f"attempt {attempt} of {self.uri} was taken over by "
                + (f"attempt {newest}" if newest > attempt else "somebody else"),
                remedy="nothing to do: the other one goes on from the last checkpoint",
            )
        return claim

    def claim_start(self, attempt: int, workers: int, scratch: Path | None = None) -> StartRecord:
        """Take the attempt's next start and find what it goes on from.

        The number is taken first, which fences all lower starts, and only then is the head
        looked for: no commit that was reported as done can be missed in between. FencedError
        when a newer attempt or start has come meanwhile. ``scratch``: see ``find_head``.
        """
        number = self._take_start(attempt)
        self.check_fence(attempt, number)
        search = find_head(self, scratch)
        record = StartRecord(
            attempt=attempt,
            start=number,
            workers=workers,
            resumed_from=search.head.key if search.head else None,
            resumed_step=search.head.step if search.head else 0,
            created=now(),
            passed_over=search.passed_over,
        )
        self._take(f"attempts/{attempt:04d}/starts/{number:04d}/START.json", record)
        self.check_fence(attempt, number)
        return record

    # -- what ended --------------------------------------------------------------------

    def record_failure(self, record: FailureRecord) -> None:
        """Keep why a worker ended; each record of a rank is kept, the first is the cause."""
        folder = f"attempts/{record.attempt:04d}/starts/{record.start:04d}/failures"
        for index in range(_TRIES):
            if self._take(f"{folder}/{record.rank}-{index}.json", record):
                return
        raise _no_number(f"{self.uri}/{folder}")

    def write_exit(self, record: ExitRecord) -> None:
        """Say how an attempt ended. Written last; a later one replaces it."""
        self.put_json(f"attempts/{record.attempt:04d}/EXIT.json", record)

    # -- inside ------------------------------------------------------------------------

    def _take_start(self, attempt: int) -> int:
        owner, number = self.fenced_below()
        if owner != attempt:
            self.check_fence(attempt, 0)
        for _ in range(_TRIES):
            number += 1
            marker = StartMarker(attempt=attempt, start=number, created=now(), nonce=_nonce())
            if self._take(f"attempts/{attempt:04d}/starts/{number:04d}/CLAIM", marker):
                return number
        raise _no_number(self.uri)

    def _take(self, name: str, record: Document) -> bool:
        """Conditional create. True also when a retried request finds its own first write."""
        key, body = self.key(name), record.to_json().encode()
        if self.store.create(key, body):
            self.store.flush([key])
            return True
        return self.store.get(key) == body


def _owned(store: Store, namespace: str, job: str, owner: str) -> RunStore | None:
    for run in RunStore.all(store, namespace, job):
        record = run.get_json("RUN.json")
        if record is not None and record.get("owner") == owner:
            return run
    return None


def jobs(store: Store) -> list[tuple[str, str]]:
    """(namespace, job) of every job that has a run in this store."""
    return [
        (namespace, job)
        for namespace in filter(_LABEL.fullmatch, store.folders(""))
        for job in filter(_LABEL.fullmatch, store.folders(namespace))
        if RunStore.all(store, namespace, job)
    ]


def _number(name: str) -> int:
    match = _RUN.fullmatch(name)
    return int(match.group(1)) if match else 0


def _nonce() -> str:
    return secrets.token_hex(8)


def _no_number(place: str) -> StorageError:
    return StorageError(
        f"no free number was found in {place}", remedy="look whether the store lists new objects"
    )
