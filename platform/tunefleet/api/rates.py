"""Rates: what time costs from a moment of an attempt on, and what it did cost.

Decides the two records that plan, cost and train share: a rate that holds from a moment on,
and a segment of time whose price is settled. Imports pydantic alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunefleet.api.base import Document

Nanoseconds = Annotated[int, Field(ge=0)]


class Rate(Document):
    """A price that holds from ``since_ns`` of an attempt until the next rate begins.

    ``microdollars_per_hour`` is that of one worker, or of the machine with all workers on it;
    None: nobody knows the price, which is not the same as free. ``basis`` says whose it is.
    """

    since_ns: Nanoseconds
    microdollars_per_hour: Annotated[int, Field(ge=0)] | None
    per: Literal["worker", "machine"] = "worker"
    basis: str = ""

    def together(self, workers: int) -> int | None:
        """Micro-dollars per hour of all workers of one machine."""
        if self.microdollars_per_hour is None or self.per == "machine":
            return self.microdollars_per_hour
        return self.microdollars_per_hour * workers


class Segment(Document):
    """Time of an attempt and what an hour of it cost, all workers together (None: unpriced)."""

    from_ns: Nanoseconds
    to_ns: Nanoseconds
    microdollars_per_hour: Annotated[int, Field(ge=0)] | None
