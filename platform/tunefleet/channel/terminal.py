"""The live line of a run on a terminal, and the same as JSON lines for scripts.

Decides what one line shows: epoch, step, loss, speed, the time that is left and what it has
cost so far. Imports ``api``, ``cost`` and ``channel``; rich inside the class that draws.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from tunefleet.api.words import Phase
from tunefleet.channel.schema import Event, Progress
from tunefleet.cost.money import format_money

if TYPE_CHECKING:
    from rich.console import Console


def clock_text(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def cost_text(microdollars: int | None, unpriced_seconds: float = 0.0) -> str:
    """``$0.0123`` or ``unpriced``, never a zero that nobody knows."""
    if microdollars is None:
        return "unpriced"
    more = f" + {clock_text(unpriced_seconds)} unpriced" if unpriced_seconds > 0 else ""
    return format_money(microdollars) + more


def left_text(microdollars: int | None, seconds: float | None) -> str:
    """What is left of a budget: ``$1.20 and 0:42 of the budget left``; "" without one."""
    parts = [] if microdollars is None else [format_money(max(0, microdollars))]
    parts += [] if seconds is None else [clock_text(max(0.0, seconds))]
    return f"{' and '.join(parts)} of the budget left" if parts else ""


def line_of(progress: Progress) -> str:
    """One line of plain text for a state of a run."""
    parts = [
        f"epoch {progress.epoch:.2f}/{progress.epochs}",
        f"step {progress.step}/{progress.total_steps}",
    ]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.samples_per_second is not None:
        parts.append(f"{progress.samples_per_second:.1f} samples/s")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.eta_seconds is not None and progress.phase is Phase.RUNNING:
        parts.append(f"{clock_text(progress.eta_seconds)} left")
    parts.append(cost_text(progress.cost_microdollars, progress.unpriced_seconds))
    left = left_text(progress.budget_left_microdollars, progress.budget_left_seconds)
    parts += [left] if left else []
    if progress.note:
        parts.append(progress.note)
    return "  ".join(parts)


class TerminalLine:
    """Draws progress in place on a terminal; plain lines now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = console
        self._live = console.is_terminal
        self._printed_step = -1
        self._bar = Bar(
            BarColumn(bar_width=24),
            TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[line]}"),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._task = self._bar.add_task("run", total=None, line="starting the workers")
        self._bar.start()

    def progress(self, progress: Progress) -> None:
        """Show the newest state."""
        if self._live:
            self._bar.update(
                self._task,
                total=progress.total_steps,
                completed=progress.step,
                line=line_of(progress),
            )
            return
        every = max(1, progress.total_steps // 10)
        if progress.step // every != self._printed_step // every or self._printed_step < 0:
            self._printed_step = progress.step
            self._console.print(line_of(progress), highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Print what happened above the line."""
        style = {
            "failed": "red",
            "warning": "yellow",
            "unclaimed": "yellow",
            "skipped": "yellow",
        }.get(event.kind, "dim")
        self._console.print(f"  {event.message}", style=style, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the line away."""
        self._bar.stop()


class JsonLines:
    """Progress and events as one JSON object a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._last = ""

    def progress(self, progress: Progress) -> None:
        """Write a state that differs from the last."""
        text = progress.to_json()
        if text != self._last:
            self._last = text
            self._write("progress", text)

    def event(self, event: Event) -> None:
        """Write an event."""
        self._write("event", event.to_json())

    def say(self, text: str) -> None:
        """Write a remark."""
        self._write("note", json.dumps({"message": text}))

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, kind: str, body: str) -> None:
        self._stream.write(f'{{"type":"{kind}","value":{body}}}\n')
        self._stream.flush()
