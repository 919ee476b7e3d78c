"""``tunefleet pod``: what the pods of a job run on a cluster.

Not listed among the commands: nobody types it. Decides what a pod prints and its exit code:
0 when its stage is done or was stopped on request, 1 when it failed, 2 when it was refused.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunefleet.api.attempt import AttemptResult
    from tunefleet.channel.terminal import JsonLines


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def pod() -> None:
    """Do a stage of the attempt that this pod belongs to."""


@pod.command()
def prepare() -> None:
    """Check data and model, tokenise, and publish the facts."""
    from tunefleet.verbs import pod as verbs

    _end(verbs.prepare(verbs.here(), _lines()))


@pod.command()
def train() -> None:
    """Drive the attempt on the Ray that runs here."""
    from tunefleet.verbs import pod as verbs

    _end(verbs.train(verbs.here(), _lines()))


@pod.command()
@click.option("--seconds", type=float, default=25.0, show_default=True, help="How long to wait.")
def drain(seconds: float) -> None:
    """Ask this pod's worker to save and stop, and wait until it has."""
    from tunefleet.verbs import pod as verbs

    if not verbs.drain(verbs.here(), seconds):
        sys.exit(1)


def _lines() -> JsonLines:
    from tunefleet.channel.terminal import JsonLines

    return JsonLines(sys.stdout)


def _end(result: AttemptResult) -> None:
    from tunefleet.api.words import Phase

    click.echo(result.to_json())
    if result.phase is Phase.FAILED:
        sys.exit(1)
