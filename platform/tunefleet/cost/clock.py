"""A clock that gives every nanosecond to exactly one cause.

Decides how time is metered inside one process: integer nanoseconds from an injected
monotonic clock, one cause at any moment, nested causes that give back to the one around
them. Pure; imports ``api.words`` and the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tunefleet.api.words import Cause


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock as it stood ``at`` a reading: totals in nanoseconds, and what time goes to."""

    at: int
    cause: Cause
    totals: dict[Cause, int]


class CauseClock:
    """Meters time by cause from the moment it is made; for one thread.

    ``now`` returns monotonic nanoseconds (``time.monotonic_ns``). A reading before the last
    one counts as no time at all, so that a total never shrinks.

    While work that was lost is done again (:meth:`recover`), all time is that of recovery,
    whatever cause is switched to.
    """

    __slots__ = ("_cause", "_last", "_now", "_recovering", "_start", "_totals")

    def __init__(
        self,
        now: Callable[[], int],
        start: Cause = Cause.STARTUP,
        *,
        since: int | None = None,
    ) -> None:
        """``since``: a reading of the same clock from which time counts (default: now)."""
        self._now = now
        self._start = self._last = now() if since is None else since
        self._cause = start
        self._recovering = False
        self._totals: dict[Cause, int] = {start: 0}

    @property
    def began(self) -> int:
        """The reading from which time counts."""
        return self._start

    @property
    def current(self) -> Cause:
        """The cause that time goes to right now."""
        return Cause.RECOVERY if self._recovering else self._cause

    def recover(self, on: bool) -> None:
        """Whether time goes to recovery from now on, until this is called again."""
        if on is not self._recovering:
            self._settle()
            self._recovering = on

    def switch(self, cause: Cause) -> Cause:
        """Give time to ``cause`` from now on; returns the cause it went to before."""
        self._settle()
        before, self._cause = self._cause, cause
        self._totals.setdefault(cause, 0)
        return before

    @contextmanager
    def cause(self, cause: Cause) -> Iterator[None]:
        """Give the time of a block to ``cause``, then go back to what was before the block."""
        before = self.switch(cause)
        try:
            yield
        finally:
            self.switch(before)

    def totals(self) -> dict[Cause, int]:
        """Nanoseconds by cause up to now; their sum is all that went by."""
        self._settle()
        return dict(self._totals)

    def read(self) -> Reading:
        """The clock now."""
        totals = self.totals()
        return Reading(self._last, self.current, totals)

    def advance(self, moment: int) -> dict[Cause, int]:
        """Give the time up to ``moment``, which was read elsewhere, to the current cause.

        Returns the totals then.
        """
        spent = max(moment - self._last, 0)
        self._totals[self.current] = self._totals.get(self.current, 0) + spent
        self._last += spent
        return dict(self._totals)

    def _settle(self) -> None:
        self.advance(self._now())
