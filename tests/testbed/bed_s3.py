"""An S3 server that the pods of a bed and the tests beside it both reach.

Decides that the server runs on the node's address, inside the bed's namespace, and that the
same port of loopback leads to it, so that one pair of keys and one bucket serve both sides.
Imports the bed's own modules.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.bed import NODE_ADDRESS, Bed
from tests.testbed.network import forward
from tests.testbed.processes import Processes
from tests.testbed.s3 import BUCKET, S3Server, free_ports


@dataclass(frozen=True, slots=True)
class BedS3:
    """``server`` as a test sees it, and the same server as a pod sees it."""

    server: S3Server
    endpoint_for_pods: str

    def environment_for_pods(self) -> dict[str, str]:
        """What a pod needs in its environment to use the server."""
        return self.server.environment() | {"AWS_ENDPOINT_URL": self.endpoint_for_pods}


@contextlib.contextmanager
def bed_s3(bed: Bed, *, folder: Path | None = None, bucket: str = BUCKET) -> Iterator[BedS3]:
    """A running server with an empty bucket; its data goes away with it unless ``folder``."""
    place = folder or Path(tempfile.mkdtemp(prefix="bed-s3-"))
    [port] = free_ports(1)
    way_in = f"forward-s3-{port}"
    server = S3Server(place, bucket, address=NODE_ADDRESS, port=port, enter=bed.inside())
    try:
        forward(bed, way_in, port=port, host=NODE_ADDRESS, target=port)
        server.start()
        yield BedS3(server, f"http://{NODE_ADDRESS}:{port}")
    finally:
        server.stop()
        Processes(bed.run).stop(way_in)
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
