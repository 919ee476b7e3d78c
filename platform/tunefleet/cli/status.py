"""``tunefleet status``: options and output of :mod:`tunefleet.verbs.cluster.status`.

Decides how a job is followed: a line for every change on standard error, the page at the end, and
the exit code: 0 succeeded, 1 failed or cancelled, 3 stopped by its budget.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.verbs.cluster.connect import Cluster, Where
    from tunefleet.verbs.cluster.status import JobStatusResult, JobTable


@click.command(
    epilog="""\b
Examples:
  tunefleet status
  tunefleet status reviews -n research
  tunefleet status reviews --watch
  tunefleet status reviews --json | jq .evaluation.metrics

\b
With kubectl:
  kubectl get ftj
  kubectl get ftj reviews -w
  kubectl describe ftj reviews
"""
)
@click.argument("job", required=False)
@click.option("--watch", is_flag=True, help="Follow JOB to its end; exit as `run` does.")
@options.cluster
@options.as_json
def status(
    job: str | None, watch: bool, namespace: str | None, kubeconfig: Path | None, as_json: bool
) -> None:
    """Show where all jobs of a namespace stand, or everything that is known of JOB."""
    if watch and job is None:
        raise click.UsageError("--watch follows one job: name it")
    from tunefleet.verbs.cluster import status as verb
    from tunefleet.verbs.cluster.connect import Where, on

    where = Where(kubeconfig, namespace)
    if job is None:
        options.show(on(where, verb.list_jobs), as_json=as_json)
        return
    name = job
    if watch:
        sys.exit(follow(where, name, as_json=as_json))

    async def work(cluster: Cluster) -> JobStatusResult | JobTable:
        return await verb.show_job(cluster, name)

    options.show(on(where, work), as_json=as_json)


def follow(where: Where, name: str, *, as_json: bool) -> int:
    """Tell every change of a job on standard error, at its end the page; the exit code."""
    from tunefleet.verbs.cluster.connect import on
    from tunefleet.verbs.cluster.status import watch_job

    err = options.console(err=True)

    def say(state: JobStatusResult) -> None:
        if as_json:
            click.echo(state.to_json(), err=True)
        else:
            err.print(state.line(), highlight=False, soft_wrap=True, markup=False)

    async def work(cluster: Cluster) -> JobStatusResult:
        return await watch_job(cluster, name, say)

    found = on(where, work)
    options.show(found, as_json=as_json)
    return found.exit_code
