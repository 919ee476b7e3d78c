"""A run's result in a few lines for a terminal.

Decides what a person wants to know first: what was reached, where it is, what it cost.
Imports ``api``, ``cost`` and ``evaluate.result``; rich inside the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunefleet.channel.terminal import clock_text, cost_text
from tunefleet.evaluate.result import RunResult

if TYPE_CHECKING:
    from rich.console import Console


def render(result: RunResult, console: Console) -> None:
    """Print the result."""
    from rich.table import Table

    console.print(
        f"[bold]{result.job}[/bold] {result.run}, attempt {result.attempt}: "
        f"[bold]{result.phase}[/bold] after {result.steps} of {result.total_steps} steps"
        + (f", resumed from step {result.resumed_from}" if result.resumed_from else "")
    )
    if result.splits:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for split in result.splits:
            table.add_column(f"{split} before", justify="right")
            table.add_column(f"{split} after", justify="right", style="bold")
        for name in next(iter(result.splits.values())).after:
            cells = [
                f"{value:.4f}"
                for s in result.splits.values()
                for value in (s.before[name], s.after[name])
            ]
            table.add_row(name, *cells)
        console.print(table)
    if result.gate:
        verdict = "passed" if result.gate.passed else "NOT passed"
        console.print(
            f"gate    {result.gate.metric} {result.gate.value:.4f}, {result.gate.bound}: {verdict}"
        )
    spent = ", ".join(f"{cause} {seconds:.1f} s" for cause, seconds in result.seconds.items())
    cost = (
        "unpriced (--price-per-hour, --price-sheet)"
        if result.cost_microdollars is None
        else cost_text(result.cost_microdollars, result.unpriced_seconds)
    )
    console.print(
        f"time    {clock_text(result.wall_seconds)} wall; worker-seconds: {spent}", highlight=False
    )
    console.print(f"cost    {cost}", highlight=False)
    if result.bundle:
        console.print(
            f"bundle  {result.bundle.path or result.bundle.uri}  ({result.bundle.digest})",
            highlight=False,
            soft_wrap=True,
        )
    if result.report:
        console.print(f"report  {result.report}", highlight=False, soft_wrap=True)
        if result.report_copy:
            console.print(f"        {result.report_copy}", highlight=False, soft_wrap=True)
