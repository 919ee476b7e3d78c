"""Starting a service on this machine, waiting for it, and leaving nothing behind.

Decides the order: the port and the bundle's digest are looked at before Ray is started; a
replica that cannot start ends the service with its reason; a stop drains, then ends every
process that was started. Imports ray (inside functions), ``train.environment``, ``storage``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType

import psutil

from tunefleet.api import errors
from tunefleet.api.errors import MachineError, RunError, TunefleetError
from tunefleet.api.words import DeviceType
from tunefleet.serve.settings import APPLICATION, FAILURE_FILE, Endpoint, ServiceSettings

_POLL_SECONDS = 0.2
_LOST_SECONDS = 60.0
_WATCH_SECONDS = 5.0
_REAP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Shares:
    """What one replica gets of the machine, and how many GPUs there are to share."""

    threads: int
    devices: int
    gpu: float


def run_service(
    settings: ServiceSettings, stop: threading.Event, ready: Callable[[Endpoint], None]
) -> None:
    """Serve until ``stop`` or a signal; ``ready`` is called once when answers can be had.

    Raises ``MachineError`` (the port), ``ModelError`` (the bundle) or ``RunError`` (a replica
    that cannot start, or a service that was lost), after everything was taken down again.
    """
    from tunefleet.evaluate.bundle import read_task
    from tunefleet.storage.bundle import open_bundle

    began = time.monotonic()
    check_address(settings.host, settings.port)
    folder = open_bundle(settings.bundle)
    facts = read_task(folder)
    settings = settings.model_copy(update={"bundle": str(folder)})
    scratch = Path(mkdtemp(prefix="tunefleet-serve-"))
    try:
        shares = _shares(settings)
        with (
            _signals(stop) as listen,
            _ray(settings, shares),
            _application(settings, shares, scratch),
        ):
            # Ray's start has put its own handler for SIGTERM in place of ours.
            listen()
            digest = _wait_until_ready(settings, scratch, stop)
            if digest is None:
                return
            seconds = time.monotonic() - began
            url = url_of(settings.host, settings.port)
            ready(
                Endpoint(
                    url=url,
                    task=facts.task,
                    digest=digest,
                    replicas=settings.replicas,
                    seconds=round(seconds, 3),
                )
            )
            _watch(url, stop)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM ask for a stop, a second one raises ``KeyboardInterrupt``.

    Yields what sets the handlers again. Does nothing outside the main thread, where Python
    takes no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    def listen() -> None:
        for number in before:
            signal.signal(number, note)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    listen()
    try:
        yield listen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_address(host: str, port: int) -> None:
    """Raise ``MachineError`` when nobody could listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise MachineError(
            f"--host {host}: {error.strerror or error}", remedy="use 127.0.0.1 or 0.0.0.0"
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise MachineError(*_why_not(error, host, port)) from error


def _why_not(error: OSError, host: str, port: int) -> tuple[str]:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program; "
            f"choose another with --port {port + 1}, or --port 0 for any free one",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (f"port {port} needs rights this user does not have; choose one above 1023",)
    return (f"cannot listen on {host}:{port}: {error.strerror}",)


def free_port(host: str) -> int:
    """A port that is free right now."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.bind(address)
        return int(probe.getsockname()[1])


def url_of(host: str, port: int) -> str:
    """Where a person on this machine finds the service."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextlib.contextmanager
def _ray(settings: ServiceSettings, shares: _Shares) -> Iterator[None]:
    """A Ray of our own, and none of its processes left when it is over."""
    from tunefleet.train.environment import local_ray, process_environment

    ours = psutil.Process()
    before = {child.pid for child in ours.children(recursive=True)}
    started: list[psutil.Process] = []
    try:
        with local_ray(
            cpus=settings.replicas * shares.threads,
            gpus=shares.devices,
            dashboard=False,
            environment=process_environment(shares.threads),
        ):
            try:
                yield
            finally:
                now = ours.children(recursive=True)
                started += [child for child in now if child.pid not in before]
    finally:
        _reap(started)


@contextlib.contextmanager
def _application(settings: ServiceSettings, shares: _Shares, scratch: Path) -> Iterator[None]:
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from tunefleet.serve.app import build_application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Texts are not ours to log; what a replica refuses it says to its client.
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    http = HTTPOptions(
        host=settings.host,
        port=settings.port,
        # The replica's own deadline answers first, as JSON; this one is for a replica that hangs.
        request_timeout_s=settings.limits.timeout_seconds + 10,
    )
    serve.start(proxy_location="HeadOnly", http_options=http, logging_config=quiet)
    application = build_application(settings, shares.threads, shares.gpu, scratch)
    target = serve.RunTarget(application, name=APPLICATION, route_prefix="/", logging_config=quiet)
    serve.run_many([target], wait_for_applications_running=False)
    yield
    # Deleting lets replicas finish while the proxy still carries their answers out; Serve's
    # own shutdown would end the proxy first. What is left goes with this Ray.
    serve.delete(APPLICATION)


def _shares(settings: ServiceSettings) -> _Shares:
    from tunefleet.train.machine import cpu_count, machine_facts, nvidia_driver_present

    threads = settings.threads or max(1, cpu_count() // settings.replicas)
    gpus = 0
    if settings.device != "cpu" and nvidia_driver_present():
        device = machine_facts().device
        gpus = device.count if device.type is DeviceType.CUDA else 0
    # Whole replicas on each device: three on two GPUs are two and one, half a GPU each.
    share = 1 / ceil(settings.replicas / gpus) if gpus else 0.0
    return _Shares(threads, gpus, share)


def _wait_until_ready(
    settings: ServiceSettings, scratch: Path, stop: threading.Event
) -> str | None:
    """The digest once a replica answers; None when a stop came first."""
    from ray import serve

    deadline = time.monotonic() + settings.start_seconds
    url = url_of(settings.host, settings.port)
    while time.monotonic() < deadline:
        if stop.is_set():
            return None
        _raise_failure(scratch)
        status = serve.status().applications.get(APPLICATION)
        if status is not None and status.status == "DEPLOY_FAILED":
            _raise_failure(scratch)
            raise RunError(f"no replica could be started: {status.message}")
        if status is not None and status.status == "RUNNING":
            digest = health(url)
            if digest is not None:
                return digest
        time.sleep(_POLL_SECONDS)
    raise RunError(
        f"the service was not ready within {settings.start_seconds:g} s",
        remedy="`tunefleet predict` with the same bundle shows whether the model loads here",
    )


def health(url: str, *, timeout: float = 5.0) -> str | None:
    """The digest of the model that answers at ``url``; None when nobody is ready there."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=timeout) as reply:
            return str(json.load(reply)["model"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _raise_failure(scratch: Path) -> None:
    """Raise what a replica's constructor raised, if it left a word about it."""
    path = scratch / FAILURE_FILE
    if not path.exists():
        return
    raise rebuild(path.read_text(encoding="utf-8"))


def rebuild(text: str) -> TunefleetError:
    """The error that another process wrote down as JSON: kind, message and remedy."""
    record = json.loads(text)
    kind = getattr(errors, str(record["kind"]), None)
    message, remedy = str(record["message"]), str(record["remedy"])
    if isinstance(kind, type) and issubclass(kind, TunefleetError):
        return kind(message, remedy=remedy)
    return RunError(f"the model could not be started: {record['kind']}: {message}", remedy=remedy)


def _watch(url: str, stop: threading.Event) -> None:
    """Wait for a stop; raise ``RunError`` when the service has been gone for a while."""
    seen = time.monotonic()
    while not stop.wait(_WATCH_SECONDS):
        if health(url) is not None:
            seen = time.monotonic()
        elif time.monotonic() - seen > _LOST_SECONDS:
            raise RunError(
                f"{url} has not answered for {_LOST_SECONDS:g} s",
                remedy="start it again; the log of its replicas is in Ray's session folder",
            )


def _reap(processes: list[psutil.Process]) -> None:
    """Wait for processes that were told to go; end those that stay."""
    _, staying = psutil.wait_procs(processes, timeout=_REAP_SECONDS)
    for process in staying:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(staying, timeout=_REAP_SECONDS)


def log_tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message."""
    try:
        return os.linesep.join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
