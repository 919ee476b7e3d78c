"""What a pod says, passed on and kept beside the run, for when the pod is gone.

Decides what is kept (every event and remark, progress once a minute, each line with its time),
under which name (``attempts/<n>/logs/driver-0001.jsonl``; a second execution of an attempt takes
the next number) and how often the object is written anew. A store that does not take it is told of
once and never waited for by what goes on. Imports ``storage``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tunefleet.api.errors import StorageError
from tunefleet.storage.writer import Writer

if TYPE_CHECKING:
    from tunefleet.channel.schema import Event, Progress
    from tunefleet.storage.folder import RunFolder
    from tunefleet.verbs.run import Observer

EVERY_SECONDS = 30.0
PROGRESS_SECONDS = 60.0
_NAME = re.compile(r"([a-z]+)-(\d{4,9})\.jsonl")
_TRIES = 100


class Transcript:
    """Hears what a pod says, passes it on, and keeps it once it is known where.

    The end of its block, or :meth:`close`, writes what is left; neither raises.
    """

    def __init__(
        self,
        inner: Observer,
        *,
        every: float = EVERY_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._every = every
        self._now = now
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._progress_at = float("-inf")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def progress(self, progress: Progress) -> None:
        """Pass on; keep one a minute."""
        self._inner.progress(progress)
        if self._now() - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = self._now()
            self._keep("progress", progress.to_json())

    def event(self, event: Event) -> None:
        """Pass on and keep."""
        self._inner.event(event)
        self._keep("event", event.to_json())

    def say(self, text: str) -> None:
        """Pass on and keep."""
        self._inner.say(text)
        self._keep("note", json.dumps({"message": text}))

    def result(self, text: str) -> None:
        """Keep how it ended (JSON); whoever ends says it aloud."""
        self._keep("result", text)

    def keep_in(self, run: RunFolder, attempt: int, who: str) -> None:
        """Write from now on into a run's folder, beginning with what was said before."""
        # Who writes stands first: a number is taken by a body that nobody else has.
        self._keep("writer", json.dumps(asdict(Writer.here())), first=True)
        self._thread = threading.Thread(
            target=self._write_on, args=(run, attempt, who), name="transcript", daemon=True
        )
        self._thread.start()

    def close(self, *, seconds: float = 30.0) -> None:
        """Write what is left; gives up after so many seconds."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    def _keep(self, kind: str, body: str, *, first: bool = False) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        line = f'{{"time":"{moment}","type":"{kind}","value":{body}}}\n'
        with self._lock:
            self._lines.insert(0 if first else len(self._lines), line)

    def _write_on(self, run: RunFolder, attempt: int, who: str) -> None:
        key, written, told, pause = "", 0, False, 0.0
        while True:
            ended = self._ending.wait(pause)
            pause = self._every
            with self._lock:
                lines = list(self._lines)
            try:
                if not key:
                    key = _first(run, attempt, who, "".join(lines).encode())
                elif len(lines) > written:
                    run.store.put(key, "".join(lines).encode())
                written = len(lines)
            except StorageError as error:
                if not told:
                    told = True
                    self._inner.say(f"what is said here is not kept for now: {error.message}")
            if ended:
                return


def kept(run: RunFolder, attempt: int) -> Iterator[tuple[str, str]]:
    """What the pods of an attempt said, line by line, each with whose it is.

    Executions follow each other in the order of their numbers. Raises ``StorageError``.
    """
    prefix = run.key(folder_of(attempt))
    names = sorted(key.rsplit("/", 1)[-1] for key, _ in run.store.list(prefix))
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        for line in run.store.get(f"{prefix}/{name}").decode("utf-8", "replace").splitlines():
            yield match.group(1), line


def folder_of(attempt: int) -> str:
    """Where the logs of an attempt lie in its run's folder."""
    return f"attempts/{attempt:04d}/logs"


def _first(run: RunFolder, attempt: int, who: str, body: bytes) -> str:
    """Take the next free number, with what was said so far."""
    prefix = run.key(folder_of(attempt))
    number = len(run.store.list(prefix))
    for _ in range(_TRIES):
        number += 1
        key = f"{prefix}/{who}-{number:04d}.jsonl"
        if run.store.create(key, body):
            return key
    raise StorageError(f"{run.uri} has no free number for a log of attempt {attempt}")
