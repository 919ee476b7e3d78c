"""``tunefleet runs``: options and output of the functions of :mod:`tunefleet.verbs.runs`.

Decides that ``tunefleet runs`` alone lists. A run is named ``job`` (its newest run),
``job/3`` or ``job/run-0003``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from tunefleet.cli import options

Command = TypeVar("Command", bound=Callable[..., object])


def in_store(command: Command) -> Command:
    """``--store runs``."""
    return click.option(
        "--store",
        default="runs",
        show_default=True,
        metavar="FOLDER",
        help="Where the runs are: the job's checkpoints.uri.",
    )(command)


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tunefleet runs list
  tunefleet runs show reviews
  tunefleet runs compare reviews/1 reviews/2
""",
)
@click.pass_context
def runs(ctx: click.Context) -> None:
    """List, show and compare runs."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@runs.command(
    "list",
    epilog="""\b
Examples:
  tunefleet runs list
  tunefleet runs list --store /data/runs --job reviews --json
""",
)
@in_store
@click.option("--job", help="Only the runs of this job.")
@options.as_json
def list_(store: str, job: str | None, as_json: bool) -> None:
    """List runs, the newest of each job first."""
    from tunefleet.verbs.runs import list_runs

    options.show(list_runs(store, job=job), as_json=as_json)


@runs.command(
    epilog="""\b
Examples:
  tunefleet runs show reviews          its newest run
  tunefleet runs show reviews/3 --json
"""
)
@click.argument("run")
@in_store
@options.as_json
def show(run: str, store: str, as_json: bool) -> None:
    """Show everything known about RUN: metrics, attempts, settings."""
    from tunefleet.verbs.runs import show_run

    options.show(show_run(run, store), as_json=as_json)


@runs.command(
    epilog="""\b
Examples:
  tunefleet runs compare reviews/1 reviews/2
  tunefleet runs compare reviews/1 reviews/2 other/1 --json
"""
)
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True)
@in_store
@options.as_json
def compare(names: tuple[str, ...], store: str, as_json: bool) -> None:
    """Show runs side by side; the others are compared with the first."""
    from tunefleet.verbs.runs import compare_runs

    options.show(compare_runs(names, store), as_json=as_json)
