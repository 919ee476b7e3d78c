"""``tunefleet serve``: options and output of :func:`tunefleet.verbs.serve.serve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tunefleet.cli import options

if TYPE_CHECKING:
    from tunefleet.serve.settings import Endpoint


@click.command(
    epilog="""\b
Examples:
  tunefleet serve job.yaml
  tunefleet serve runs/default/reviews/run-0001 --port 9000 --replicas 2
  curl localhost:8000/v1/predict -H 'content-type: application/json' -d '{"text": "What a film!"}'
"""
)
@click.argument("target", metavar="BUNDLE|JOB_FILE")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--replicas", type=click.IntRange(min=1), default=1, show_default=True)
@options.device
@click.option("--ignore-gate", is_flag=True, help="Serve although the job's gate was not passed.")
@options.as_json
def serve(
    target: str,
    host: str,
    port: int,
    replicas: int,
    device: str,
    ignore_gate: bool,
    as_json: bool,
) -> None:
    """Serve a tuned model over HTTP until Ctrl-C.

    It is ready when it has reproduced the answers it was trained to give. With --json, the
    address is printed as one JSON object then.
    """
    from tunefleet.verbs.serve import serve as listen

    def ready(endpoint: Endpoint) -> None:
        if as_json:
            click.echo(endpoint.to_json())
        else:
            click.echo(f"serving {endpoint.task} at {endpoint.url}  ({endpoint.digest})")
            click.echo(f"try it at {endpoint.url}/docs; stop it with Ctrl-C")
        sys.stdout.flush()

    code = listen(
        target,
        host=host,
        port=port,
        replicas=replicas,
        device=device,
        ignore_gate=ignore_gate,
        ready=ready,
    )
    sys.exit(code)
