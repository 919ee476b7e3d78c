"""``tunefleet submit``: options and output of :mod:`tunefleet.verbs.cluster.submit`.

Decides that with ``--wait`` the command ends as the job does, with the exit codes of ``run``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tunefleet.cli import options


@click.command(
    epilog="""\b
Examples:
  tunefleet submit job.yaml -n research
  tunefleet submit job.yaml --set training.epochs=1 --fresh-name --wait
  tunefleet submit job.yaml --upload s3://datasets/uploads
  tunefleet submit job.yaml --dry-run > resolved.yaml

\b
With kubectl, where nothing lies on this machine:
  kubectl apply --server-side -f job.yaml
  kubectl wait --for=condition=Succeeded ftj/reviews --timeout=6h
"""
)
@options.job_file
@options.overrides
@click.option(
    "--upload",
    metavar="URI",
    help="Where local data and models are put (default: _uploads beside the job's runs).",
)
@click.option("--fresh-name", is_flag=True, help="Make a new job: with letters at its name's end.")
@click.option("--wait", is_flag=True, help="Follow the job to its end; exit as `run` does.")
@click.option("--dry-run", is_flag=True, help="Print what would be applied; change nothing.")
@options.cluster
@options.as_json
def submit(
    job_file: Path,
    overrides: tuple[str, ...],
    upload: str | None,
    fresh_name: bool,
    wait: bool,
    dry_run: bool,
    namespace: str | None,
    kubeconfig: Path | None,
    as_json: bool,
) -> None:
    """Hand JOB_FILE to a cluster.

    Data, models and bundles that the file names on this machine are uploaded under their content's
    digest, once. The same file again changes nothing, but for a budget that was changed.
    """
    if dry_run and (wait or as_json):
        raise click.UsageError("--dry-run prints YAML and waits for nothing; use it alone")
    from tunefleet.verbs.cluster.connect import Cluster, Where, on
    from tunefleet.verbs.cluster.submit import Submitted, ready
    from tunefleet.verbs.cluster.submit import submit as apply

    found = ready(job_file, overrides, upload=upload, namespace=namespace, fresh_name=fresh_name)
    if dry_run:
        click.echo(found.to_yaml(), nl=False)
        return
    where = Where(kubeconfig, found.namespace)
    with options.progress_bar(quiet=as_json) as progress:

        async def work(cluster: Cluster) -> Submitted:
            return await apply(cluster, found, progress)

        done = on(where, work)
    if not wait:
        options.show(done, as_json=as_json)
        return
    from tunefleet.cli.status import follow

    if not as_json:
        done.render(options.console(err=True))
    sys.exit(follow(Where(kubeconfig, done.namespace), done.name, as_json=as_json))
