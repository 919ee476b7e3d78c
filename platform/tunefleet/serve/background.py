"""A service in the background, for notebooks, tests and scripts.

Decides how it is started and stopped from Python: in a process of its own, so that the
caller's process has no Ray, no signal handlers and nothing left behind. Imports ``api`` and
this package; no ray, no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tunefleet.api.errors import RunError
from tunefleet.serve.launch import free_port, log_tail, rebuild
from tunefleet.serve.settings import Endpoint, ServiceSettings

_STOP_MARGIN = 30.0


@contextlib.contextmanager
def background(settings: ServiceSettings) -> Iterator[Endpoint]:
    """A running service for the duration of a block; port 0 takes any free one.

    Raises what the service's start raised: ``MachineError``, ``ModelError`` or ``RunError``.
    """
    if settings.port == 0:
        settings = settings.model_copy(update={"port": free_port(settings.host)})
    with TemporaryDirectory(prefix="tunefleet-serve-") as folder:
        log = Path(folder) / "service.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "tunefleet.serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                encoding="utf-8",
                env=os.environ | {"PYTHONPATH": _search_path()},
                # An interrupt at the terminal is the caller's to answer; the service follows.
                start_new_session=True,
            )
        try:
            yield _ready(process, settings, log)
        finally:
            _stop(process, settings.limits.drain_seconds + _STOP_MARGIN)


def _search_path() -> str:
    source = str(Path(__file__).parents[2])
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([source, *([given] if given else [])])


def _ready(process: subprocess.Popen[str], settings: ServiceSettings, log: Path) -> Endpoint:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings.to_json() + "\n")
    process.stdin.flush()
    # The service has its own deadline and says why; this one is for a service that cannot.
    alarm = threading.Timer(settings.start_seconds + _STOP_MARGIN, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
    finally:
        alarm.cancel()
    record = json.loads(line) if line.startswith("{") else {}
    if "ready" in record:
        return Endpoint.model_validate(record["ready"])
    if "failed" in record:
        raise rebuild(json.dumps(record["failed"]))
    tail = log_tail(log)
    raise RunError(f"the service ended before it was ready; the end of its log:\n{tail}")


def _stop(process: subprocess.Popen[str], patience: float) -> None:
    """Close its input, wait while it drains, and end by force what does not go."""
    family = _family(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, staying = psutil.wait_procs(family, timeout=5)
    for member in staying:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
