"""``tunefleet run``: train a job, or go on with it.

Decides how a run is shown: a live line on a terminal, JSON lines on standard error with
``--json``, and the exit code: 0 finished, 1 failed, 2 refused, 3 stopped by its budget, 130 or
143 interrupted.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.evaluate.result import RunResult

OUT_OF_BUDGET = 3


@click.command(
    epilog="""\b
Examples:
  tunefleet run job.yaml
  tunefleet run job.yaml --set training.epochs=1 --workers 2
  tunefleet run job.yaml --price-per-hour 0.75 --json > result.json
"""
)
@click.argument("job_file", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a field, e.g. training.epochs=1.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many workers share a step; may differ from the last start.",
)
@click.option("--fresh", is_flag=True, help="Begin a new run instead of going on; deletes nothing.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option(
    "--price-per-hour",
    "price",
    metavar="DOLLARS",
    help="What a worker costs per hour, for the cost record.",
)
@options.price_sheet
@click.option(
    "--dashboard/--no-dashboard",
    default=None,
    help="Start Ray's dashboard.  [default: only on a terminal; it takes seconds to start]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object at the end; progress as JSON lines on standard error.",
)
def run(
    job_file: Path,
    overrides: tuple[str, ...],
    workers: int | None,
    fresh: bool,
    device: str,
    price: str | None,
    price_sheet: Path | None,
    dashboard: bool | None,
    as_json: bool,
) -> None:
    """Train JOB_FILE to a bundle and a report, or go on where it was stopped.

    The numbers do not depend on how many workers there are. Ctrl-C (or SIGTERM) saves a
    checkpoint and stops; a second one stops at once.
    """
    from rich.console import Console

    from tunefleet.api.words import FailureClass, Phase
    from tunefleet.channel.terminal import JsonLines, TerminalLine
    from tunefleet.train.driver import Interrupts, StoppedAtOnce
    from tunefleet.verbs.run import run as run_job
    from tunefleet.verbs.summary import render

    line = JsonLines(sys.stderr) if as_json else TerminalLine(Console(stderr=True))
    interrupts = Interrupts()
    try:
        # Ray writes remarks to standard output, which belongs to the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            result = run_job(
                job_file,
                overrides,
                fresh=fresh,
                device=device,
                price=price,
                price_sheet=price_sheet,
                dashboard=not as_json and sys.stdout.isatty() if dashboard is None else dashboard,
                workers=workers,
                observer=line,
                interrupts=interrupts,
            )
    except StoppedAtOnce:
        click.echo(
            f"stopped at once; `tunefleet run {job_file}` goes on from the last checkpoint",
            err=True,
        )
        sys.exit(_interrupted(interrupts.received))
    finally:
        line.close()
    if as_json:
        click.echo(result.to_json())
    else:
        render(result, Console())
    if result.phase is Phase.STOPPED and result.failure is FailureClass.BUDGET:
        click.echo(
            f"{result.message}; saved at step {_saved(result)}; raise spec.budget (or --set "
            f"budget.…) and go on with: tunefleet run {job_file}",
            err=True,
        )
        sys.exit(OUT_OF_BUDGET)
    if result.phase is Phase.STOPPED:
        click.echo(f"saved at step {result.steps}; go on with: tunefleet run {job_file}", err=True)
        sys.exit(_interrupted(interrupts.received))


def _saved(result: RunResult) -> int:
    return max((checkpoint.step for checkpoint in result.checkpoints), default=0)


def _interrupted(received: list[int]) -> int:
    return 128 + (received[0] if received else signal.SIGTERM)
