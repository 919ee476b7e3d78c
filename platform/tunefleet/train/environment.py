"""Ray on this machine: every trap of starting it, settled in one place.

Decides the environment of Ray's processes and how a private Ray is started and stopped:
never another Ray of the host is joined or stopped, token authentication is on with a token
of our own, workers are not niced, glibc keeps big blocks instead of returning them to the
kernel at every step, and usage reports are off.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from tunefleet.api.errors import MachineError
from tunefleet.plan import processes

SignalHandler = Callable[[int, FrameType | None], object] | int | None


def process_environment(threads: int) -> dict[str, str]:
    """The environment of a process that computes on a CPU, however it is started."""
    return processes.computing(threads) | (processes.MALLOC if sys.platform == "linux" else {})


def ray_environment() -> dict[str, str]:
    """What a private Ray needs in the environment of the process that starts it."""
    return processes.RAY | {"RAY_AUTH_MODE": "token"}


@dataclass(frozen=True, slots=True)
class LocalRay:
    """A running private Ray: its dashboard's address ("" without one) and token."""

    dashboard: str
    token: str


@contextmanager
def local_ray(
    *,
    cpus: int,
    gpus: int = 0,
    dashboard: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[LocalRay]:
    """A private Ray for the duration of a block; gone with everything it started after it.

    ``environment`` is added to that of Ray's workers. Raises ``MachineError`` when Ray is
    not installed or does not start.
    """
    token = _process_token()
    # Ray's processes inherit it. (As a runtime environment it would cost one process more for
    # each worker, and the workers that Ray starts ahead would not fit.)
    settings = ray_environment() | {"RAY_AUTH_TOKEN": token} | dict(environment or {})
    before = {name: os.environ.get(name) for name in (*settings, "RAY_ADDRESS")}
    os.environ.update(settings)
    os.environ.pop("RAY_ADDRESS", None)
    # Ray reads its settings when it is imported: first the environment, then the import; and
    # where somebody imported it before us, once more.
    imported_before = "ray" in sys.modules
    try:
        import ray
    except ImportError as error:
        _restore(before)
        raise MachineError(
            "Ray is not installed", remedy="pip install 'tunefleet[train]'"
        ) from error
    if imported_before:
        from ray._raylet import Config  # type: ignore[attr-defined]  # compiled

        Config.initialize("")
    # Unix sockets below it must stay under 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="tf-", dir=_short_folder()))
    try:
        handlers = _signal_handlers()
        # Ray's processes take seconds to start; this one imports torch meanwhile.
        ahead = threading.Thread(target=_import_trainer, name="import-ahead", daemon=True)
        ahead.start()
        context = ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(folder),
        )
        # Ray takes SIGTERM for itself and exits on it; how a run ends is not Ray's to say.
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ahead.join()
        url = str(context.dashboard_url or "")
        yield LocalRay(f"http://{url}" if url else "", token)
    finally:
        ray.shutdown()
        _restore(before)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def joined_ray(environment: Mapping[str, str]) -> Iterator[LocalRay]:
    """The Ray that this pod's cluster runs, for the duration of a block.

    ``environment`` is added to that of Ray's workers, on whichever node they are. Raises
    ``MachineError`` when no Ray runs here.
    """
    # Train's controller reads its settings where it runs, not where it was asked for.
    settings = {name: value for name, value in processes.RAY.items() if "TRAIN" in name}
    os.environ.update(settings)
    import ray

    try:
        context = ray.init(
            address="auto",
            runtime_env={"env_vars": settings | dict(environment)},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise MachineError(
            "no Ray runs in this pod", remedy="`tunefleet pod train` is what a RayJob runs"
        ) from error
    try:
        yield LocalRay(f"http://{context.dashboard_url}" if context.dashboard_url else "", "")
    finally:
        ray.shutdown()


def _import_trainer() -> None:
    # What is missing is told where it is used, by the import that needs it.
    with suppress(ImportError):
        import ray.train.torch  # noqa: F401


def _signal_handlers() -> dict[int, SignalHandler]:
    """What this process does on SIGTERM and SIGINT; nothing off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


@cache
def _process_token() -> str:
    """One token for the life of this process: Ray keeps the first one it has seen."""
    return secrets.token_hex(16)


def _short_folder() -> str:
    default = tempfile.gettempdir()
    return default if len(default) <= 24 else "/tmp"


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
