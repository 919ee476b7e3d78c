"""``tunefleet cancel``, ``suspend``, ``resume`` and ``delete``: wishes of a job on a cluster.

Decides that deleting a job that has not ended is asked about first.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.verbs.cluster.change import Changed
    from tunefleet.verbs.cluster.connect import Cluster

    Wish = Callable[[Cluster, str], Awaitable[Changed]]


@click.command(
    epilog="""\b
Examples:
  tunefleet cancel reviews

\b
With kubectl:
  kubectl patch ftj reviews --type=merge -p '{"spec": {"cancel": true}}'
"""
)
@click.argument("job")
@options.cluster
@options.as_json
def cancel(job: str, namespace: str | None, kubeconfig: Path | None, as_json: bool) -> None:
    """Let JOB save a checkpoint and stop for good."""
    from tunefleet.verbs.cluster.change import cancel as wish

    _wish(wish, job, namespace, kubeconfig, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  tunefleet suspend reviews
  tunefleet resume reviews

\b
With kubectl:
  kubectl patch ftj reviews --type=merge -p '{"spec": {"suspend": true}}'
"""
)
@click.argument("job")
@options.cluster
@options.as_json
def suspend(job: str, namespace: str | None, kubeconfig: Path | None, as_json: bool) -> None:
    """Let JOB save a checkpoint and give its machines back until it is resumed."""
    from tunefleet.verbs.cluster.change import suspend as wish

    _wish(wish, job, namespace, kubeconfig, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  tunefleet resume reviews

\b
With kubectl:
  kubectl patch ftj reviews --type=merge -p '{"spec": {"suspend": false}}'
"""
)
@click.argument("job")
@options.cluster
@options.as_json
def resume(job: str, namespace: str | None, kubeconfig: Path | None, as_json: bool) -> None:
    """Let a suspended JOB go on from its last checkpoint, with the same numbers."""
    from tunefleet.verbs.cluster.change import resume as wish

    _wish(wish, job, namespace, kubeconfig, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  tunefleet delete reviews
  tunefleet delete reviews --yes

\b
With kubectl:
  kubectl delete ftj reviews
"""
)
@click.argument("job")
@click.option("--yes", is_flag=True, help="Do not ask, even if the job has not ended.")
@options.cluster
@options.as_json
def delete(
    job: str, yes: bool, namespace: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Take JOB and its pods away. What lies in storage stays: checkpoints, bundle, report."""
    from tunefleet.api.errors import ClusterError
    from tunefleet.verbs.cluster import change
    from tunefleet.verbs.cluster.connect import Where, on

    async def ended(cluster: Cluster) -> bool:
        return await change.is_ended(cluster, job)

    if not yes and not on(Where(kubeconfig, namespace), ended):
        if not sys.stdin.isatty():
            raise ClusterError(
                f"{job} has not ended: deleting it ends its pods",
                remedy=f"add --yes, or let it save first: tunefleet cancel {job}",
            )
        click.confirm(f"{job} has not ended; end its pods and delete it?", abort=True, err=True)
    _wish(change.delete, job, namespace, kubeconfig, as_json=as_json)


def _wish(
    wish: Wish, job: str, namespace: str | None, kubeconfig: Path | None, *, as_json: bool
) -> None:
    from tunefleet.verbs.cluster.connect import Where, on

    async def work(cluster: Cluster) -> Changed:
        return await wish(cluster, job)

    options.show(on(Where(kubeconfig, namespace), work), as_json=as_json)
