"""The controller's process: flags, caches, leadership, health, and a quiet end.

Decides how it is started: in a cluster by its Deployment, elsewhere with a kubeconfig. Imports
``kube`` and its siblings.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tunefleet.controller.jobs.reconcile import Jobs
from tunefleet.kube.client import Client
from tunefleet.kube.election import Election, identity
from tunefleet.kube.runtime import Runtime
from tunefleet.kube.serving import serving
from tunefleet.render.settings import Runtime as Settings

log = logging.getLogger("tunefleet.controller")

# As deep as the API server lets JSON be, and some: what one tenant's pods say must not stop all.
JSON_DEPTH = 12_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the controller until it is told to stop."""
    options = flags().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Many small objects that live long: a collection every few hundred of them finds nothing.
    gc.set_threshold(50_000, 20, 50)
    sys.setrecursionlimit(JSON_DEPTH)
    asyncio.run(_run(options))


def flags() -> argparse.ArgumentParser:
    """Every flag; the chart gives some of them, and a test reads those as this does."""
    parser = argparse.ArgumentParser(
        prog="python -m tunefleet.controller",
        description="Turn FineTuneJobs into prepare Jobs, plans and RayJobs, and follow them.",
        epilog="Example: python -m tunefleet.controller --kubeconfig ~/.kube/config "
        "--image registry.example.com/tunefleet-runtime:0.1.0 --no-election",
    )
    parser.add_argument("--image", required=True, help="the runtime image that a job's pods run")
    parser.add_argument(
        "--pull-policy",
        default="IfNotPresent",
        choices=["Always", "IfNotPresent", "Never"],
        help="when the image is pulled (default: %(default)s)",
    )
    parser.add_argument(
        "--ray-version", default="2.60.0", help="Ray's version in it (default: %(default)s)"
    )
    parser.add_argument(
        "--grace-seconds",
        type=int,
        default=120,
        help="how long a pod that has to go may take to save (default: %(default)s)",
    )
    parser.add_argument("--kubeconfig", type=Path, help="outside a cluster: which one to use")
    parser.add_argument(
        "--namespace", help="look after the jobs of one namespace only (default: all)"
    )
    parser.add_argument(
        "--lease-namespace",
        default=os.environ.get("POD_NAMESPACE", "default"),
        help="where the Lease of the leader lies (default: %(default)s)",
    )
    parser.add_argument(
        "--lease-name",
        default="tunefleet-controller",
        help="its name; of those that share it, one leads (default: %(default)s)",
    )
    parser.add_argument(
        "--no-election",
        action="store_true",
        help="lead at once; for one process only, such as on a developer's machine",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8080,
        help="where /healthz, /readyz and /metrics answer (default: %(default)s)",
    )
    parser.add_argument(
        "--writes-per-second",
        type=float,
        default=50.0,
        help="writes to the API server, on average; twice as many at once (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=16, help="jobs looked at at once (default: %(default)s)"
    )
    return parser


async def _run(options: argparse.Namespace) -> None:
    settings = Settings(
        image=options.image,
        ray_version=options.ray_version,
        pull_policy=options.pull_policy,
        grace_seconds=options.grace_seconds,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pace = options.writes_per_second
    async with await Client.connect(
        options.kubeconfig, writes_per_second=pace, burst=2 * pace
    ) as client:
        jobs = Jobs.of(client, settings, namespace=options.namespace)
        runtime = Runtime(
            jobs.reflectors,
            jobs.queue,
            jobs.reconcile,
            keys=jobs.keys,
            workers=options.workers,
        )
        election = None
        if not options.no_election:
            election = Election(
                client, options.lease_namespace, options.lease_name, identity=identity()
            )
            client.fence(election.holds)
        log.info("looking after %s at %s", options.namespace or "all namespaces", client.server)
        async with serving(options.port, ready=runtime.unready):
            await runtime.run(stop, election)
