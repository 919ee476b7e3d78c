"""What an attempt's leader told the attempt's object, heard by the driver in another pod.

Decides how often it is listened to and which events are new: the object keeps the newest ones
only, and a leader that was restarted tells those of its folder again. Imports ``api`` and its
siblings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from tunefleet.channel.attempt import Attempt, GoneError, SilentError
from tunefleet.channel.schema import Event, Progress

EVERY_SECONDS = 10.0


class Listener:
    """The watching side of a run whose folder lies in another pod."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        every: float = EVERY_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempt = attempt
        self._every = every
        self._now = now
        self._heard_at = float("-inf")
        self._known: list[dict[str, object]] = []
        self._progress: Progress | None = None

    def progress(self) -> Progress | None:
        """The newest state that was heard of."""
        return self._progress

    def events(self) -> list[Event]:
        """Events since the last call; none while it is too early to listen, or nobody answers."""
        if self._now() - self._heard_at < self._every:
            return []
        self._heard_at = self._now()
        try:
            status = self._attempt.told()
        except (SilentError, GoneError):
            return []
        if status.progress is not None:
            self._progress = Progress.from_json(json.dumps(status.progress))
        fresh = after(self._known, status.events)
        self._known = list(status.events)
        return [Event.from_json(json.dumps(event)) for event in fresh]


def after(
    known: Sequence[dict[str, object]], told: Sequence[dict[str, object]]
) -> list[dict[str, object]]:
    """What of ``told`` comes after ``known``: the end of one may be the beginning of the other."""
    for shared in range(min(len(known), len(told)), 0, -1):
        if list(known[-shared:]) == list(told[:shared]):
            return list(told[shared:])
    return list(told)
