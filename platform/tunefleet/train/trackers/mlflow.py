"""MLflow: one run of theirs for one of ours, found again by a tag.

Decides the tags and parameters, and that a number which a run has of a step is not logged a
second time. Credentials come from the environment (``MLFLOW_TRACKING_USERNAME``,
``MLFLOW_TRACKING_PASSWORD``, ``MLFLOW_TRACKING_TOKEN``). The only file that imports mlflow.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.words import Phase
from tunefleet.train.trackers.contract import Ending, Point, TrackedRun

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

TAG = "tunefleet.run"
_STATUS = {Phase.SUCCEEDED: "FINISHED", Phase.STOPPED: "KILLED", Phase.FAILED: "FAILED"}
_MOST_METRICS = 1000
_MOST_PARAMETERS = 100
_LONGEST_VALUE = 500
_LONGEST_KEY = 250
_FORBIDDEN = re.compile(r"[^\w.-]")


class Mlflow:
    """Logs to an experiment of an MLflow server or database."""

    name = "MLflow"

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._id = ""
        self._is_new = True
        self._seen: dict[str, int] = {}

    def begin(self, run: TrackedRun) -> None:
        """Open the run, or the one that carries this run's tag already."""
        for quiet in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
            os.environ.setdefault(quiet, "true")
        from mlflow.entities import RunTag
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient(tracking_uri=self._uri)
        experiment = self._experiment_id(client)
        found = _runs(client, experiment, run.identity)
        self._is_new = not found
        tags = {
            TAG: run.identity,
            "tunefleet.job": f"{run.namespace}/{run.job}",
            "tunefleet.attempt": str(run.attempt),
            "tunefleet.state": Phase.RUNNING.value,
        }
        if found:
            self._id = found[0]
            client.update_run(self._id, status="RUNNING")
            client.log_batch(self._id, tags=[RunTag(*item) for item in tags.items()])
            return
        opened = client.create_run(experiment, run_name=f"{run.job} {run.run}", tags=tags)
        self._id = _runs(client, experiment, run.identity)[0]
        if self._id != opened.info.run_id:
            # A process that was believed dead has made it in between: there is to be one.
            client.delete_run(opened.info.run_id)
            self._is_new = False
        else:
            self._parameters(client, run.settings)

    def record(self, points: Sequence[Point]) -> None:
        """Log what is not there yet."""
        from mlflow.entities import Metric

        assert self._client is not None
        now = int(time.time() * 1000)
        new = []
        for point in points:
            for name, value in point.values.items():
                if point.step > self._last_step(name):
                    new.append(Metric(name, value, now, point.step))
                    self._seen[name] = point.step
        for first in range(0, len(new), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=new[first : first + _MOST_METRICS])

    def save(self) -> None:
        """Nothing: a batch is durable when it was taken."""

    def end(self, end: Ending | None) -> None:
        """Close the run with its summary; one that goes on stays open."""
        if end is None:
            return
        from mlflow.entities import Metric, RunTag

        assert self._client is not None
        last = max(self._seen.values(), default=0)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, last) for name, value in end.metrics.items()]
        facts = {"state": end.phase.value, "message": end.message, **end.facts}
        tags = [RunTag(f"tunefleet.{name}", value) for name, value in facts.items() if value]
        self._client.log_batch(self._id, metrics=metrics, tags=tags)
        self._client.set_terminated(self._id, _STATUS[end.phase])

    def _experiment_id(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(client.create_experiment(self._experiment, _artifacts(self._uri)))
            except MlflowException:
                # Another run has made it in between, or it cannot be made.
                found = client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _parameters(self, client: MlflowClient, settings: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        flat = [Param(name[:_LONGEST_KEY], value) for name, value in _flat(settings, "")]
        for first in range(0, len(flat), _MOST_PARAMETERS):
            client.log_batch(self._id, params=flat[first : first + _MOST_PARAMETERS])

    def _last_step(self, name: str) -> int:
        if name not in self._seen:
            assert self._client is not None
            known = [] if self._is_new else self._client.get_metric_history(self._id, name)
            self._seen[name] = max((metric.step for metric in known), default=-1)
        return self._seen[name]


def _runs(client: MlflowClient, experiment: str, identity: str) -> list[str]:
    """Ids of the runs that carry an identity, the first one made first."""
    found = client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{identity}'")
    return [run.info.run_id for run in sorted(found, key=_made)]


def _made(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _artifacts(uri: str) -> str | None:
    """Where a database file's experiments keep files: beside it; a server decides for itself."""
    scheme, _, path = uri.partition(":///")
    if not scheme.startswith("sqlite"):
        return None
    return (Path("/" + path.lstrip("/")).parent / "mlartifacts").as_uri()


def _flat(values: Mapping[str, object], under: str) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every leaf, in characters that MLflow takes."""
    for key, value in values.items():
        name = under + _FORBIDDEN.sub("_", str(key))
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield name, text[:_LONGEST_VALUE]
