"""``tunefleet doctor``: options and output of :func:`tunefleet.verbs.doctor.doctor`."""

from __future__ import annotations

import sys

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet doctor
  tunefleet doctor --store s3://my-bucket/runs
  tunefleet doctor --contact-hub
  tunefleet doctor --json
"""
)
@click.option("--store", metavar="URI", help="Try this store: the job's checkpoints.uri.")
@click.option("--contact-hub", is_flag=True, help="Try to reach the Hugging Face hub as well.")
@options.as_json
def doctor(store: str | None, contact_hub: bool, as_json: bool) -> None:
    """Show what this machine has, what is missing, and what to do about it.

    Changes nothing. The exit code is 2 when something that training needs is missing.
    """
    from tunefleet.verbs.doctor import doctor as look

    result = look(store=store, contact_hub=contact_hub)
    options.show(result, as_json=as_json)
    sys.exit(result.exit_code)
