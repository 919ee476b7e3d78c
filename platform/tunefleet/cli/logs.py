"""``tunefleet logs`` and ``tunefleet events``: what a job's pods write, and what happened to it.

Decides how a line tells whose it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.verbs.cluster.connect import Cluster
    from tunefleet.verbs.cluster.events import EventList

_COLOURS = {"driver": "cyan", "prepare": "cyan", "tunefleet": "yellow"}


@click.command(
    epilog="""\b
Examples:
  tunefleet logs reviews
  tunefleet logs reviews --follow
  tunefleet logs reviews --attempt 0      what preparing wrote

\b
With kubectl:
  kubectl logs -l tunefleet.dev/job=reviews --all-containers --prefix --tail=-1 -f
"""
)
@click.argument("job")
@click.option(
    "--attempt",
    type=click.IntRange(min=0),
    metavar="N",
    help="Which attempt; 0 prepares (default: the newest; --follow goes on to the next ones).",
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job or the attempt has ended.")
@options.cluster
def logs(
    job: str, attempt: int | None, follow: bool, namespace: str | None, kubeconfig: Path | None
) -> None:
    """Show what the pods of JOB write: the driver and the workers, or preparing.

    Pods go when their attempt has ended; then what was kept of the driver's words beside the run
    is shown (with your own credentials for the bucket), or what the attempt's object tells.
    """
    from tunefleet.verbs.cluster import logs as verb
    from tunefleet.verbs.cluster.connect import Where, on

    def say(who: str, line: str) -> None:
        prefix = click.style(f"[{who}]", fg=_COLOURS.get(who, "blue"))
        click.echo(f"{prefix} {line}")

    async def work(cluster: Cluster) -> None:
        read = verb.follow if follow else verb.logs
        await read(cluster, job, say, attempt=attempt)

    on(Where(kubeconfig, namespace), work)


@click.command(
    epilog="""\b
Examples:
  tunefleet events reviews
  tunefleet events reviews -n research --json

\b
With kubectl:
  kubectl events --for ftj/reviews
  kubectl get fta -l tunefleet.dev/job=reviews -o yaml     what training told
"""
)
@click.argument("job")
@options.cluster
@options.as_json
def events(job: str, namespace: str | None, kubeconfig: Path | None, as_json: bool) -> None:
    """Show what happened to JOB: the cluster's events and what training told, by attempt."""
    from tunefleet.verbs.cluster import events as verb
    from tunefleet.verbs.cluster.connect import Where, on

    async def work(cluster: Cluster) -> EventList:
        return await verb.events(cluster, job)

    options.show(on(Where(kubeconfig, namespace), work), as_json=as_json)
