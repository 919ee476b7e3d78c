"""``tunefleet plan``: options and output of :func:`tunefleet.verbs.plan.plan`."""

from __future__ import annotations

from pathlib import Path

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet plan job.yaml
  tunefleet plan job.yaml --workers 4 --price-per-hour 0.75
  tunefleet plan job.yaml --set training.batchSize=64 --json
"""
)
@options.job_file
@options.overrides
@options.workers
@options.device
@options.price
@options.price_sheet
@options.as_json
def plan(
    job_file: Path,
    overrides: tuple[str, ...],
    workers: int | None,
    device: str,
    price: str | None,
    price_sheet: Path | None,
    as_json: bool,
) -> None:
    """Show what JOB_FILE would run: how big, how long, how dear, and why.

    Prepares the data where that has not been done yet; starts nothing.
    """
    from tunefleet.verbs.plan import plan as make

    with options.progress_bar(quiet=as_json) as progress:
        result = make(
            job_file,
            overrides,
            device=device,
            price=price,
            price_sheet=price_sheet,
            workers=workers,
            progress=progress,
        )
    options.show(result, as_json=as_json)
