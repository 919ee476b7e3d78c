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

SignalHandler = Callable[[int, FrameType | None], object] | int | None

_MALLOC = {
    # 41,000 page faults a step become 190: gradients and activations are reused in place.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


def process_environment(threads: int) -> dict[str, str]:
    """The environment of a process that computes on a CPU, however it is started."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return environment | (_MALLOC if sys.platform == "linux" else {})


def ray_environment() -> dict[str, str]:
    """What a private Ray needs in the environment of the process that starts it."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_worker_niceness": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
    }


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
