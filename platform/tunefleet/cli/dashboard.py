"""``tunefleet dashboard``: options and output of :mod:`tunefleet.verbs.cluster.dashboard`.

Decides that the token goes to whoever asked, on standard output, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.verbs.cluster.connect import Cluster
    from tunefleet.verbs.cluster.dashboard import Dashboard


@click.command(
    epilog="""\b
Examples:
  tunefleet dashboard reviews
  tunefleet dashboard reviews --port 9000
  tunefleet dashboard reviews --json | jq -r .token

\b
With kubectl:
  kubectl get rayjob -l tunefleet.dev/job=reviews     names the RayCluster
  kubectl port-forward service/RAYCLUSTER-head-svc 8265
  kubectl get secret RAYCLUSTER -o jsonpath='{.data.auth_token}' | base64 -d
"""
)
@click.argument("job")
@click.option(
    "--port",
    type=click.IntRange(min=1, max=65535),
    default=8265,
    show_default=True,
    help="The port on this machine.",
)
@options.cluster
@click.option("--json", "as_json", is_flag=True, help="Print address, token and command; end.")
def dashboard(
    job: str, port: int, namespace: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Forward Ray's dashboard of the attempt of JOB that runs, until Ctrl-C.

    Prints the token that the dashboard asks for. Needs kubectl.
    """
    from tunefleet.verbs.cluster import dashboard as verb
    from tunefleet.verbs.cluster.connect import Where, on

    async def work(cluster: Cluster) -> Dashboard:
        return await verb.find(cluster, job, port=port)

    found = on(Where(kubeconfig, namespace), work)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    click.echo(f"{found.job}, attempt {found.attempt}: {found.url}")
    click.echo(f"token: {found.token}" if found.token else "it asks for no token")
    click.echo("Ctrl-C ends the connection, not the job")
    sys.stdout.flush()
    sys.exit(verb.carry(found))
