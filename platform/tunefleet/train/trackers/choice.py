"""Which trackers a job asks for, what they need, and what identifies a run to them.

Decides what is refused before anything is spent (a package that is missing, a key that is not
set), where local files go, and what a tracker is told of the job. A run's identity comes from
the number drawn when its folder was made, so that every attempt finds the same tracker run.
Imports ``api``, ``plan`` and ``storage``; no tracker's package.
"""

from __future__ import annotations

import hashlib
import netrc
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tunefleet.api.errors import MachineError, Problem
from tunefleet.api.job import TrackingSpec
from tunefleet.api.version import VERSION
from tunefleet.plan.document import Plan
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import RunStore
from tunefleet.train.trackers.contract import TrackedRun, Tracker

REMEDY = "pip install 'tunefleet[tracking]'"
FOLDER = "tracking"
_OFFLINE = {"offline", "dryrun", "disabled"}


def require(tracking: TrackingSpec | None) -> None:
    """Raise ``MachineError`` with everything that the wanted trackers lack here."""
    problems = list(_lacking(tracking, os.environ)) if tracking else []
    if problems:
        raise MachineError("trackers cannot be used on this machine", problems=problems)


def resolved(tracking: TrackingSpec | None, base: Path) -> TrackingSpec | None:
    """The same with a relative SQLite file taken from the job file's folder."""
    if tracking is None or tracking.mlflow is None:
        return tracking
    uri = tracking.mlflow.uri
    scheme, mark, path = uri.partition(":///")
    if not mark or not scheme.startswith("sqlite") or path.startswith("/"):
        return tracking
    absolute = f"{scheme}:///{Path(os.path.abspath(base / path)).as_posix()}"
    mlflow = tracking.mlflow.model_copy(update={"uri": absolute})
    return tracking.model_copy(update={"mlflow": mlflow})


def trackers_of(tracking: TrackingSpec | None) -> list[Tracker]:
    """The trackers a job asks for, none of them begun."""
    found: list[Tracker] = []
    if tracking is None:
        return found
    if tracking.tensorboard:
        from tunefleet.train.trackers.tensorboard import TensorBoard

        found.append(TensorBoard())
    if tracking.wandb is not None:
        from tunefleet.train.trackers.wandb import Wandb

        found.append(Wandb(tracking.wandb.project))
    if tracking.mlflow is not None:
        from tunefleet.train.trackers.mlflow import Mlflow

        found.append(Mlflow(tracking.mlflow.uri, tracking.mlflow.experiment))
    return found


def tracked(config: WorkerConfig, run: RunStore, *, resumed_step: int | None) -> TrackedRun:
    """What trackers are told of a run; ``resumed_step`` is None where it begins."""
    local = run.store.local_path(run.key(FOLDER))
    folder = local or Path(config.scratch) / FOLDER
    return TrackedRun(
        identity=identity(run),
        namespace=run.namespace,
        job=run.job,
        run=run.run,
        attempt=config.address.attempt,
        since=0 if resumed_step is None else resumed_step + 1,
        settings=_settings(config.job, config.plan),
        folder=folder,
        keep=(lambda: None) if local else _Mirror(run, folder).keep,
    )


def identity(run: RunStore) -> str:
    """Letters and digits that name a run, whatever its folder is called and wherever it lies."""
    record = run.get_json("RUN.json") or {}
    text = "\0".join((run.namespace, run.job, run.run, str(record.get("nonce", ""))))
    return f"{run.job[:40]}-{run.run}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Mirror:
    """Files of a local folder, copied into the run's store when they have changed."""

    def __init__(self, run: RunStore, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._sizes: dict[str, int] = {}

    def keep(self) -> None:
        """Copy every file that has grown since it was copied last."""
        for path in sorted(self._folder.rglob("*")):
            if not path.is_file() or path.is_symlink():
                continue
            name, size = path.relative_to(self._folder).as_posix(), path.stat().st_size
            if self._sizes.get(name) != size:
                self._run.store.put(self._run.key(FOLDER, name), path)
                self._sizes[name] = size


def _settings(job: Mapping[str, object], plan: Plan) -> dict[str, object]:
    return {
        "job": dict(job),
        "plan": plan.model_dump(
            mode="json", by_alias=True, exclude={"memory", "warnings", "decisions"}
        ),
        "planDigest": "sha256:" + hashlib.sha256(plan.to_json().encode()).hexdigest(),
        "specDigest": plan.spec_digest,
        "dataDigest": plan.data_digest,
        "modelDigest": plan.model_digest,
        "tunefleet": VERSION,
    }


def _lacking(tracking: TrackingSpec, environment: Mapping[str, str]) -> Iterator[Problem]:
    needed = {
        "tensorboard": ["tensorboard"] if tracking.tensorboard else [],
        "wandb": ["wandb"] if tracking.wandb else [],
        "mlflow": _mlflow_packages(tracking.mlflow.uri) if tracking.mlflow else [],
    }
    for name, packages in needed.items():
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            yield Problem(
                f"the package {' and '.join(missing)} is not installed",
                f"spec.tracking.{name}",
                REMEDY,
            )
    if tracking.wandb and not _has_wandb_key(environment):
        yield Problem(
            "there is no Weights & Biases key in the environment",
            "spec.tracking.wandb",
            "set WANDB_API_KEY, or WANDB_MODE=offline to keep the numbers here",
        )


def _mlflow_packages(uri: str) -> list[str]:
    is_database = urlsplit(uri).scheme.partition("+")[0] not in {"http", "https"}
    return ["mlflow", "sqlalchemy", "alembic"] if is_database else ["mlflow"]


def _has_wandb_key(environment: Mapping[str, str]) -> bool:
    if environment.get("WANDB_MODE") in _OFFLINE or environment.get("WANDB_API_KEY"):
        return True
    host = urlsplit(environment.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(environment.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False  # not there or not readable: then the client cannot read it either
