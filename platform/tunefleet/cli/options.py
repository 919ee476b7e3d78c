"""Options that several commands share, and how their results are printed.

Decides one spelling and one help text for each. Imports click alone; rich inside functions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., object])
Progress = Callable[[str, int, int], None]


class Shown(Protocol):
    """A verb's result, as far as printing it goes."""

    def to_json(self, *, indent: int | None = None) -> str:
        """As JSON."""
        ...

    def render(self, console: Console) -> None:
        """As text."""
        ...


def job_file(command: Command) -> Command:
    """The argument JOB_FILE."""
    return click.argument("job_file", type=click.Path(path_type=Path))(command)


def overrides(command: Command) -> Command:
    """``--set training.epochs=1``."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Override a field, e.g. training.epochs=1.",
    )(command)


def workers(command: Command) -> Command:
    """``--workers 2``."""
    return click.option(
        "--workers", type=click.IntRange(min=1), help="How many workers share a step."
    )(command)


def device(command: Command) -> Command:
    """``--device cpu``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
        help="What to compute on.",
    )(command)


def price(command: Command) -> Command:
    """``--price-per-hour 0.75``."""
    return click.option(
        "--price-per-hour", "price", metavar="DOLLARS", help="What a worker costs per hour."
    )(command)


def price_sheet(command: Command) -> Command:
    """``--price-sheet prices.yaml``."""
    return click.option(
        "--price-sheet",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What machines cost, from when until when (default: the file TUNEFLEET_PRICES names).",
    )(command)


def as_json(command: Command) -> Command:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON object on standard output."
    )(command)


def cluster(command: Command) -> Command:
    """``--namespace research --kubeconfig ~/.kube/other``."""
    kubeconfig = click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="How to reach the cluster (default: KUBECONFIG, ~/.kube/config, or this pod's own).",
    )
    namespace = click.option(
        "-n",
        "--namespace",
        metavar="NAME",
        help="Where the job is (default: the current context's).",
    )
    return namespace(kubeconfig(command))


def console(*, err: bool = False) -> Console:
    """Where text goes; without colours when NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=err, no_color=bool(os.environ.get("NO_COLOR")) or None)


def show(result: Shown, *, as_json: bool) -> None:
    """Print a result as JSON or as text."""
    if as_json:
        click.echo(result.to_json(indent=2))
    else:
        result.render(console())


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar on standard error while something takes long; nothing where nobody looks."""
    err = console(err=True)
    if quiet or not err.is_terminal:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=err, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield step
