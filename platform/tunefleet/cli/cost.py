"""``tunefleet cost``: options and output of :func:`tunefleet.verbs.spending.run_cost`."""

from __future__ import annotations

import click

from tunefleet.cli import options
from tunefleet.cli.runs import in_store


@click.command(
    epilog="""\b
Examples:
  tunefleet cost reviews          its newest run
  tunefleet cost reviews/3 --json
"""
)
@click.argument("run")
@in_store
@options.as_json
def cost(run: str, store: str, as_json: bool) -> None:
    """Show where the time and money of RUN went, by cause and by attempt."""
    from tunefleet.verbs.spending import run_cost

    options.show(run_cost(run, store), as_json=as_json)
