"""How fast we may write.

Decides the pace of writes, so that a burst of work never becomes a burst on the API server.
The clock is the event loop's. Imports the standard library.
"""

from __future__ import annotations

import asyncio


class TokenBucket:
    """``rate`` a second in the long run, ``burst`` at once after a rest; in the order of asking."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._seen: float | None = None

    async def take(self) -> float:
        """Wait for a token; how many seconds that took."""
        self._refill()
        # Going into debt is what keeps the order: whoever comes later waits for longer.
        self._tokens -= 1
        wait = max(0.0, -self._tokens / self._rate)
        if wait:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self._tokens += 1
                raise
        return wait

    def take_now(self) -> bool:
        """Take a token if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._seen is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._seen) * self._rate)
        self._seen = now
