"""An S3 server that the pods of a bed and the tests beside it both reach.

Decides that the server runs on the node's address, inside the bed's namespace, and that the
same port of loopback leads to it, so that one pair of keys and one bucket serve both sides. A
test has its own (:func:`bed_s3`); the bed can have one that lives as long as the bed
(:func:`ensure_lasting`). Imports the bed's own modules.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.testbed.bed import NODE_ADDRESS, Bed
from tests.testbed.network import forward
from tests.testbed.processes import Processes
from tests.testbed.s3 import BUCKET, S3Server, free_ports

_LASTING = "s3"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class BedS3:
    """``server`` as a test sees it, and the same server as a pod sees it."""

    server: S3Server
    endpoint_for_pods: str

    def environment_for_pods(self) -> dict[str, str]:
        """What a pod needs in its environment to use the server."""
        return self.server.environment() | {"AWS_ENDPOINT_URL": self.endpoint_for_pods}


@dataclass(frozen=True, slots=True)
class Lasting:
    """Where the bed's own server is, and the environments that lead to it."""

    bucket: str
    environment: dict[str, str]
    environment_for_pods: dict[str, str]

    def secret(self, name: str) -> dict[str, object]:
        """A Secret for the environment of pods."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": self.environment_for_pods,
        }


def ensure_lasting(bed: Bed) -> Lasting:
    """Start the bed's own server, unless it runs; ``down`` ends it with its data."""
    processes = Processes(bed.run)
    record = _record(bed)
    if processes.pid(_LASTING) is None:
        record.unlink(missing_ok=True)
        command = [sys.executable, "-m", __name__, bed.name]
        processes.start(_LASTING, command, environment={"PYTHONPATH": str(_ROOT)})
        processes.wait(_LASTING, record.exists, seconds=90)
    return Lasting(**json.loads(record.read_text()))


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


def _record(bed: Bed) -> Path:
    return bed.run / "s3.json"


def _serve(bed: Bed) -> None:
    """Hold a server open until this process is asked to end."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with bed_s3(bed, folder=bed.run / "s3") as s3:
        found = Lasting(s3.server.bucket, s3.server.environment(), s3.environment_for_pods())
        unfinished = _record(bed).with_suffix(".part")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(found)))
        unfinished.rename(_record(bed))
        while True:
            signal.pause()


if __name__ == "__main__":
    _serve(Bed(sys.argv[1]))
