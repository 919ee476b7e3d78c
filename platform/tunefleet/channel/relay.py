"""From a run's folder to its attempt's status, and back with what is asked.

Decides how often: a patch at most every ten seconds, and then only when there is something
new to say or it is time to look for a command. Runs on a thread of the leading worker and
never disturbs it: what fails is tried again with the next patch. Imports ``api`` and its
siblings.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tunefleet.api.attempt import EVENTS_KEPT, AttemptSpec
from tunefleet.api.words import Command
from tunefleet.channel.attempt import Attempt, GoneError, SilentError
from tunefleet.channel.folder import WatchEnd

EVERY_SECONDS = 10.0
# A phase that changed, or an event, is worth telling sooner.
SOON_SECONDS = 2.0


class Relay:
    """Tells an attempt what its folder says. Started once, by the leading worker."""

    def __init__(
        self,
        attempt: Attempt,
        folder: Path,
        *,
        every: float = EVERY_SECONDS,
        soon: float = SOON_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._folder = WatchEnd(folder)
        self._every = every
        self._soon = min(soon, every)
        self._now = now
        self._said: dict[str, object] = {}
        self._events: list[dict[str, object]] = []
        self._told_at = float("-inf")
        self._obeyed = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def close(self) -> None:
        """Tell what is left, once, and end."""
        self._ending.set()
        self._thread.join(timeout=30)

    def tell(self) -> None:
        """Tell what is new if it is time to; asks of the run what is asked of the attempt."""
        fresh = [json.loads(event.to_json()) for event in self._folder.events()]
        self._events = [*self._events, *fresh][-EVENTS_KEPT:]
        progress = self._folder.progress()
        status: dict[str, object] = {"events": self._events} if self._events else {}
        if progress is not None:
            status["progress"] = json.loads(progress.to_json())
        news = {name: value for name, value in status.items() if self._said.get(name) != value}
        urgent = bool(fresh) or _phase(status) != _phase(self._said) or self._ending.is_set()
        since = self._now() - self._told_at
        if since < (self._soon if urgent else self._every) and not self._ending.is_set():
            return
        if self._ending.is_set() and not news:
            return
        self._told_at = self._now()
        try:
            spec = self._attempt.patch(news)
        except SilentError:
            return
        except GoneError:
            self._folder.ask(Command.CHECKPOINT_AND_STOP, "the attempt was deleted")
            self._ending.set()
            return
        self._said |= news
        self._obey(spec)

    def _obey(self, spec: AttemptSpec) -> None:
        if spec.command is not Command.NONE and spec.sequence > self._obeyed:
            self._obeyed = spec.sequence
            self._folder.ask(spec.command, "asked of the attempt")

    def _run(self) -> None:
        while not self._ending.wait(0.5):
            self.tell()
        self.tell()


def _phase(status: dict[str, object]) -> object:
    progress = status.get("progress")
    return progress.get("phase") if isinstance(progress, dict) else None
