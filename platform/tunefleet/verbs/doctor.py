"""``tunefleet doctor``: what this machine has, what is missing, and the remedy.

Decides what is required (a missing part makes the exit code 2) and what is only worth
knowing. Looks, and changes nothing: no network unless asked, no secret's value, no import
of torch unless a GPU driver is there. Imports ``api``, ``storage``, ``train.machine``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.errors import MachineError, TunefleetError
from tunefleet.api.words import DeviceType
from tunefleet.verbs import sections
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console

    from tunefleet.plan.facts import StorageFacts

PYTHON = (3, 11)

# Lower bounds of pyproject.toml by extra; a test holds the two together.
NEEDED: dict[str, dict[str, str]] = {
    "": {
        "click": "8.2",
        "jinja2": "3.1",
        "numpy": "2.1",
        "obstore": "0.9",
        "psutil": "6",
        "pydantic": "2.12",
        "rich": "13.9",
        "ruamel.yaml": "0.18.15",
    },
    "train": {
        "datasets": "4.4",
        "peft": "0.18",
        "pyarrow": "20",
        "ray": "2.60",
        "safetensors": "0.6",
        "scikit-learn": "1.7",
        "scipy": "1.15",
        "tokenizers": "0.22",
        "torch": "2.9",
        "transformers": "5.0",
    },
    "serve": {"fastapi": "0.118", "ray": "2.60"},
}
REQUIRED_EXTRAS = frozenset({"", "train"})

PORTS = {8265: "Ray's dashboard", 8000: "tunefleet serve"}
GIB = 1 << 30
LOW_MEMORY, LOW_DISK, LOW_SHM = 4 * GIB, 5 * GIB, GIB

# Names only: a value is never read into a result.
CREDENTIALS = (
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "WANDB_API_KEY",
)
CREDENTIAL_FILES = (
    ".cache/huggingface/token",
    ".aws/credentials",
    ".config/gcloud/application_default_credentials.json",
)


class State(StrEnum):
    """How a check came out. Only ``missing`` makes a machine unfit."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """Everything that was looked at."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """2 when something required is missing."""
        return MachineError.exit_code if any(c.state is State.MISSING for c in self.checks) else 0

    def to_json(self, *, indent: int | None = None) -> str:
        """The checks as JSON."""
        checks = [asdict(check) for check in self.checks]
        return json.dumps({"ok": self.exit_code == 0, "checks": checks}, indent=indent)

    def render(self, console: Console) -> None:
        """Print the checks."""
        sections.render([self._section()], console)

    def _repr_html_(self) -> str:
        return sections.to_html("tunefleet doctor", [self._section()])

    def _section(self) -> Section:
        rows = []
        for check in self.checks:
            remedy = f" → {check.remedy}" if check.remedy else ""
            rows.append((check.state.value, check.name, f"{check.detail}{remedy}"))
        styles = {State.OK: "green", State.WARN: "yellow", State.MISSING: "bold red"}
        missing = sum(check.state is State.MISSING for check in self.checks)
        title = f"{missing} of what is needed is missing" if missing else "ready to train"
        return Section(title, rows, styles=tuple(styles[check.state] for check in self.checks))


def doctor(
    *, base: Path | str = ".", store: str | None = None, contact_hub: bool = False
) -> DoctorResult:
    """Look at this machine. ``base`` is the folder whose ``runs`` would be written.

    ``store`` is a job's ``checkpoints.uri``: it is tried in their place, and has to work.
    """
    folder = Path(base).absolute()
    found: list[Check] = []
    looks: list[Callable[[], Iterator[Check]]] = [
        _python,
        _packages,
        _device,
        _memory,
        lambda: _disk(folder),
        _ray,
        _ports,
        lambda: _storage(folder) if store is None else _store(store, folder),
        lambda: _hub(contact_hub),
        _credentials,
        _cluster,
    ]
    for look in looks:
        found.extend(look())
    return DoctorResult(tuple(found))


def _python() -> Iterator[Check]:
    version = platform.python_version()
    fine = sys.version_info[:2] >= PYTHON
    needed = ".".join(map(str, PYTHON))
    remedy = "" if fine else f"tunefleet needs Python {needed} or newer"
    yield Check(
        "Python", State.OK if fine else State.MISSING, f"{version} ({sys.executable})", remedy
    )


def _packages() -> Iterator[Check]:
    for extra, needed in NEEDED.items():
        versions = {name: _installed(name) for name in needed}
        absent = sorted(name for name, version in versions.items() if version is None)
        old = sorted(
            f"{name} {version} < {needed[name]}"
            for name, version in versions.items()
            if version is not None and _numbers(version) < _numbers(needed[name])
        )
        target = f"tunefleet[{extra}]" if extra else "tunefleet"
        label = f"packages of {target}"
        if absent or old:
            state = State.MISSING if extra in REQUIRED_EXTRAS else State.WARN
            lack = "; ".join([f"not installed: {', '.join(absent)}"] * bool(absent) + old)
            yield Check(label, state, lack, f"pip install '{target}'")
        else:
            here = ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Check(label, State.OK, here)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at its end (2.13.0+cpu → 2, 13)."""
    found = []
    for part in version.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def _device() -> Iterator[Check]:
    from tunefleet.train import machine

    facts = machine.machine_facts()
    device = facts.device
    if device.type is DeviceType.CPU and machine.nvidia_driver_present():
        detail = (
            "an NVIDIA driver is loaded, but torch cannot use it: training would run on the CPU"
        )
        yield Check("device", State.WARN, detail, "install a CUDA build of torch; check nvidia-smi")
        return
    detail = f"{device.name} ({device.type}), {facts.cpus} cores"
    if device.type is not DeviceType.CPU:
        detail = (
            f"{device.count} × {device.name} ({device.type}, {_gib(device.memory)}"
            f"{', bf16' if device.bf16 else ''}), {facts.cpus} cores"
        )
    yield Check("device", State.OK, detail)


def _memory() -> Iterator[Check]:
    import psutil

    from tunefleet.train.machine import memory_bytes

    total = memory_bytes()
    free = min(total, int(psutil.virtual_memory().available))
    detail = f"{_gib(free)} free of {_gib(total)}"
    if free < LOW_MEMORY:
        remedy = "close something, use one worker, or a smaller model"
        yield Check("memory", State.WARN, detail, remedy)
    else:
        yield Check("memory", State.OK, detail)


def _disk(base: Path) -> Iterator[Check]:
    from tunefleet.data.cache import cache_root

    for label, folder in (("disk for runs", base), ("disk for the cache", cache_root())):
        there = next(part for part in (folder, *folder.parents) if part.exists())
        free = shutil.disk_usage(there).free
        low = free < LOW_DISK
        remedy = "free some space: a checkpoint is three times the model" if low else ""
        detail = f"{_gib(free)} free in {folder}"
        yield Check(label, State.WARN if low else State.OK, detail, remedy)
    shm = Path("/dev/shm")
    if shm.exists():
        size = shutil.disk_usage(shm)
        low = size.total < LOW_SHM
        remedy = "start the container with --shm-size=2g; Ray falls back to the disk" if low else ""
        detail = f"{_gib(size.free)} free of {_gib(size.total)}"
        yield Check("shared memory", State.WARN if low else State.OK, detail, remedy)


def _ray() -> Iterator[Check]:
    import psutil

    version = _installed("ray")
    if version is None:
        # Told by the packages already.
        return
    other = sum(
        process.info["name"] in {"raylet", "gcs_server"}
        for process in psutil.process_iter(["name"])
    )
    address = "RAY_ADDRESS" in os.environ
    detail = f"{version}; " + ("another Ray runs on this host" if other else "none runs here")
    if address:
        detail += "; RAY_ADDRESS is set"
    remedy = ""
    if other or address:
        remedy = "nothing to do: a run starts its own Ray beside it and never stops another"
    yield Check("Ray", State.OK, detail, remedy)


def _ports() -> Iterator[Check]:
    for port, user in PORTS.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                yield Check(f"port {port}", State.OK, f"free ({user})")
            except OSError:
                remedy = "give serve another --port" if port == 8000 else "Ray takes the next one"
                yield Check(f"port {port}", State.WARN, f"in use ({user} asks for it)", remedy)


def _storage(base: Path) -> Iterator[Check]:
    from tunefleet.storage.probe import probe
    from tunefleet.storage.store import open_store

    runs = base / "runs"
    name = f"storage {runs}"
    try:
        if runs.is_dir():
            facts = probe(open_store(str(runs), base))
        else:
            # The folder is a run's to make: its parent is tried, and nothing stays.
            with tempfile.TemporaryDirectory(dir=base, prefix=".tunefleet-doctor-") as draft:
                facts = probe(open_store(draft, base))
    except (TunefleetError, OSError) as error:
        message = error.message if isinstance(error, TunefleetError) else str(error)
        remedy = error.remedy if isinstance(error, TunefleetError) else ""
        fallback = "set checkpoints.uri to a folder that can be written"
        yield Check(name, State.WARN, message, remedy or fallback)
        return
    yield Check(name, State.OK, _told(facts))


def _told(facts: StorageFacts) -> str:
    speed = (facts.write_bytes_per_second or 0) / 1e6
    return f"written at {speed:,.0f} MB/s; a second conditional create is refused, as it must be"


def _store(uri: str, base: Path) -> Iterator[Check]:
    from tunefleet.api.support import in_store
    from tunefleet.storage.connect import credentials_source
    from tunefleet.storage.probe import probe
    from tunefleet.storage.store import open_store

    source = ""
    try:
        store = open_store(uri, base)
        source = f"; credentials: {credentials_source(store.uri)}" if in_store(store.uri) else ""
        detail = _told(probe(store))
    except TunefleetError as error:
        yield Check("storage", State.MISSING, f"{error.message}{source}", error.remedy)
        return
    yield Check(f"storage {store.uri}", State.OK, f"{detail}{source}")


def _hub(contact: bool) -> Iterator[Check]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        detail = "HF_HUB_OFFLINE is set: only models and data that are cached or in folders"
        yield Check("Hugging Face hub", State.OK, detail)
        return
    if not contact:
        yield Check("Hugging Face hub", State.OK, "not contacted")
        return
    import urllib.error
    import urllib.request

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(address, timeout=5):
            yield Check("Hugging Face hub", State.OK, "reachable")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = "use folders (model.uri, data uri), or set HF_ENDPOINT to a mirror"
        yield Check("Hugging Face hub", State.WARN, f"not reachable: {reason}", remedy)


def _credentials() -> Iterator[Check]:
    names = [name for name in CREDENTIALS if os.environ.get(name)]
    names += [f"~/{name}" for name in CREDENTIAL_FILES if (Path.home() / name).is_file()]
    detail = ", ".join(names) if names else "none found; public models and local folders need none"
    yield Check("credentials", State.OK, detail)


def _cluster() -> Iterator[Check]:
    named = os.environ.get("KUBECONFIG", "")
    places = [Path(part) for part in named.split(os.pathsep) if part]
    places.append(Path.home() / ".kube" / "config")
    found = next((place for place in places if place.is_file()), None)
    detail = (
        f"kubeconfig {found}" if found else "no kubeconfig; training on this machine needs none"
    )
    yield Check("cluster", State.OK, detail)


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB"
