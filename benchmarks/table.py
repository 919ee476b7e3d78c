"""The rows of the one table and how it is printed.

Decides what a row says: two values, how many pairs were run, the ratio of each pair as median
and range, and the goal it is held against. Imports rich.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. ``ours`` and ``theirs`` hold one value per pair, in the order of pairs.

    ``better`` says which direction is good; the ratio is always written so that above 1 is
    good for us. ``goal`` is the least ratio that is asked for (None: for orientation).
    ``limit`` replaces it where a bound is on the value itself, such as seconds.
    """

    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    peer: str = ""
    better: str = "higher"
    goal: float | None = None
    limit: float | None = None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """One ratio per pair, above 1 where ours is the better one."""
        pairs = zip(self.ours, self.theirs, strict=True) if self.theirs else ()
        ratios = [ours / theirs for ours, theirs in pairs]
        return ratios if self.better == "higher" else [1 / ratio for ratio in ratios]

    @property
    def verdict(self) -> str:
        """Whether the goal was reached, in a word; empty where there is none."""
        if self.limit is not None:
            value = median(self.ours)
            return "met" if (value <= self.limit) == (self.better == "lower") else "MISSED"
        if self.goal is None or not self.theirs:
            return ""
        return "met" if median(self.ratios) >= self.goal else "MISSED"

    def line(self) -> str:
        """The row in one line, for a run that may be stopped before its table."""
        sides = [f"{_number(median(self.ours))} {self.unit}"]
        if self.theirs:
            ratios = ", ".join(f"{ratio:.2f}×" for ratio in self.ratios)
            sides.append(f"beside {_number(median(self.theirs))} ({self.peer}): {ratios}")
        if self.target:
            sides.append(f"goal {self.target} {self.verdict}")
        return f"{self.what}: {'; '.join(sides)}"

    @property
    def target(self) -> str:
        """The goal as it is printed."""
        if self.limit is not None:
            return f"{'≤' if self.better == 'lower' else '≥'} {_number(self.limit)} {self.unit}"
        return "" if self.goal is None else f"≥ {self.goal:g}×"


def print_table(rows: Sequence[Row], *, title: str) -> None:
    """Print all rows; numbers are medians, ranges go from the least to the greatest."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "unit"):
        table.add_column(name)
    for name in ("tunefleet", "beside it"):
        table.add_column(name, justify="right")
    table.add_column("peer")
    for name in ("ratio", "range", "pairs", "goal", "verdict"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for row in rows:
        ratios = row.ratios
        table.add_row(
            row.what,
            row.unit,
            _number(median(row.ours)),
            _number(median(row.theirs)) if row.theirs else "",
            row.peer,
            f"{median(ratios):.2f}×" if ratios else "",
            f"{min(ratios):.2f}–{max(ratios):.2f}" if len(ratios) > 1 else "",
            str(len(row.ours)),
            row.target,
            row.verdict,
            row.note,
        )
    Console(width=180, highlight=False).print(table)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
