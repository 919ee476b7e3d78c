"""``tunefleet check``: options and output of :func:`tunefleet.verbs.check.check`."""

from __future__ import annotations

from pathlib import Path

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet check job.yaml
  tunefleet check job.yaml --show 5
  tunefleet check job.yaml --set training.maxLength=128 --json
"""
)
@options.job_file
@options.overrides
@click.option(
    "--show",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Show N training rows as the model will see them.",
)
@options.device
@options.price
@options.price_sheet
@options.as_json
def check(
    job_file: Path,
    overrides: tuple[str, ...],
    show: int,
    device: str,
    price: str | None,
    price_sheet: Path | None,
    as_json: bool,
) -> None:
    """Look for mistakes in JOB_FILE, its model, data and storage, before anything is spent.

    Tokenises the data once; `plan` and `run` use the same tokens.
    """
    from tunefleet.verbs.check import check as look

    with options.progress_bar(quiet=as_json) as progress:
        result = look(
            job_file,
            overrides,
            show=show,
            device=device,
            price=price,
            price_sheet=price_sheet,
            progress=progress,
        )
    options.show(result, as_json=as_json)
