"""Real Kubernetes servers on this machine: ``python -m tests.testbed --help``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import get_args

import click

from tests.testbed import bed_s3, image, kuberay, life, parts
from tests.testbed.bed import Bed, BedError, chosen_name


class _Commands(click.Group):
    """Commands whose failures are a sentence, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BedError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
@click.option("--name", default=chosen_name, help="Which bed, of several (TUNEFLEET_BED; k8s).")
@click.pass_context
def main(context: click.Context, name: str) -> None:
    """A Kubernetes of real servers in a network namespace of its own."""
    context.obj = Bed(name)


@main.command()
@click.argument("kind", type=click.Choice(get_args(life.Kind)), default="cp")
@click.option("--install", is_flag=True, help="Install missing Debian packages.")
@click.pass_obj
def up(bed: Bed, kind: life.Kind, install: bool) -> None:
    """Start it: cp is the control plane, node adds a node that runs pods."""
    life.up(bed, kind, install=install, say=_clock())
    click.echo(f"export KUBECONFIG={bed.kubeconfig}")


@main.command()
@click.option("--images", is_flag=True, help="Remove the node's images too.")
@click.pass_obj
def down(bed: Bed, images: bool) -> None:
    """Stop and remove all that `up` started."""
    life.down(bed, with_images=images, say=_clock())


@main.command()
@click.pass_obj
def status(bed: Bed) -> None:
    """Say what is up and which cluster tests would use."""
    for line in life.status(bed):
        click.echo(line)
    named = os.environ.get("KUBECONFIG")
    click.echo(f"tests use {named} (KUBECONFIG)" if named else "tests start a bed of their own")


@main.command("image")
@click.argument("target", type=click.Choice(get_args(image.Target)), default="runtime")
@click.option("--only-build", is_flag=True, help="Do not load it into the node.")
@click.pass_obj
def build_image(bed: Bed, target: image.Target, only_build: bool) -> None:
    """Build the project's image, load it into the node and print its name."""
    say = _clock()
    if only_build:
        click.echo(image.build(target, say=say))
        return
    life.require(bed, "node")
    click.echo(image.ensure(bed, target, say=say))


@main.command()
@click.pass_obj
def operator(bed: Bed) -> None:
    """Install the KubeRay operator."""
    life.require(bed, "cp")
    kuberay.up(bed, say=_clock())


@main.command()
@click.option("--secret", metavar="NAME", help="Print a Secret for pods instead.")
@click.pass_obj
def s3(bed: Bed, secret: str | None) -> None:
    """Start an S3 server and print the environment that leads to it."""
    life.require(bed, "cp")
    found = bed_s3.ensure_lasting(bed)
    if secret is not None:
        click.echo(json.dumps(found.secret(secret)))
        return
    for name, value in found.environment.items():
        click.echo(f"export {name}={value}")
    click.echo(f"# the bucket is s3://{found.bucket}")


@main.command()
@click.argument("kind", type=click.Choice(get_args(life.Kind)), default="cp")
@click.option("--install", is_flag=True, help="Install missing Debian packages.")
def build(kind: life.Kind, install: bool) -> None:
    """Build the servers, and helm for tests of the chart; start none."""
    say = _clock()
    life.prepare(kind, install=install, say=say)
    parts.build([parts.HELM], say=say)


def _clock() -> Callable[[str], None]:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    main(prog_name="python -m tests.testbed")
