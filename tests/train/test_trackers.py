"""Real runs with real trackers, read back by the trackers' own readers."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.train.conftest import Site
from tests.train.launching import free_port
from tests.train.test_exactness import succeeded
from tunefleet.api.job import MlflowSpec, TrackingSpec, WandbSpec
from tunefleet.api.rates import Rate
from tunefleet.api.words import Phase
from tunefleet.channel.folder import WatchEnd
from tunefleet.evaluate.result import Outcome
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import RunStore
from tunefleet.train.process import run_process
from tunefleet.train.trackers import choice, feed
from tunefleet.train.trackers.contract import Ending, Point, TrackedRun
from tunefleet.train.trackers.mlflow import Mlflow

STEPS = list(range(1, 11))
EVALUATIONS = [0, 5, 10]
PRICED = [Rate(since_ns=0, microdollars_per_hour=3_600_000_000)]


class Crashed(Exception):
    """What no code of ours expects."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A run that crashed, was stopped, and ended well; ``database`` is MLflow's."""

    run: RunStore
    database: Path
    outcome: Outcome
    events: list[str]

    @property
    def folder(self) -> Path:
        local = self.run.store.local_path(self.run.key("tracking"))
        assert local is not None
        return local


def go(config: WorkerConfig, *, crash_at: int = 99, stop_at: int = 99) -> None:
    """Train in this process; it crashes or is asked to stop once so many steps are told."""
    steps = Path(config.scratch) / "steps.jsonl"

    def asked() -> bool:
        told = steps.read_text().splitlines() if steps.exists() else []
        newest = json.loads(told[-1])["step"] if told else 0
        if newest >= crash_at:
            raise Crashed(f"after step {newest}")
        return bool(newest >= stop_at)

    run_process(config, local_rank=0, interrupted=asked)


@pytest.fixture(scope="module")
def tracked(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    """Checkpoints stand at 2, 4, 5, 6, 8, 10: after the crash, step 7 is done a second time."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking = TrackingSpec(
        tensorboard=True,
        wandb=WandbSpec(project="reviews"),
        mlflow=MlflowSpec(uri=f"sqlite:///{database}", experiment="tiny"),
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        # Packages are imported and the database is made before: here nobody waits for long.
        for waiting in ("END_SECONDS", "RESTART_SECONDS"):
            environment.setattr(feed, waiting, 100.0)
        import wandb  # noqa: F401
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{database}").search_experiments()
        configs = []
        for attempt in (1, 2):
            config = site.config("tracked").model_copy(
                update={"tracking": tracking, "rates": PRICED}
            )
            configs.append(config)
            if attempt == 1:
                with pytest.raises(Crashed):
                    go(config, crash_at=7)
                go(config, stop_at=8)
            else:
                go(config)
        run = succeeded(site, "tracked")
        assert [record.resumed_step for record in (*run.starts(1), *run.starts(2))] == [0, 6, 9]
        found = run.get_json("report/outcome.json")
        events = [e.message for c in configs for e in WatchEnd(Path(c.scratch)).events()]
        yield Tracked(run, database, Outcome.from_json(json.dumps(found)), events)


def test_no_tracker_was_dropped(tracked: Tracked) -> None:
    assert [message for message in tracked.events if "no more numbers" in message] == []


def test_tensorboard_shows_every_step_once(tracked: Tracked) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tracked.folder / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    assert len(list((tracked.folder / "tensorboard").iterdir())) == 3
    for name in ("train/loss", "train/learning_rate", "train/grad_norm"):
        assert [event.step for event in found.Scalars(name)] == STEPS
    assert [event.step for event in found.Scalars("validation/accuracy")] == EVALUATIONS
    rates = set(found.Tags()["scalars"])
    assert {"train/samples_per_second", "train/tokens_per_second", "cost/dollars"} <= rates
    (final,) = found.Scalars("final/test/accuracy")
    assert final.value == pytest.approx(tracked.outcome.splits["test"].after["accuracy"])
    texts = {
        name: found.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode()
        for name in ("settings", "end")
    }
    assert tracked.outcome.bundle.digest in texts["end"]
    assert '"specDigest": "spec"' in texts["settings"]


@dataclass(slots=True)
class WandbFile:
    """What an offline file of Weights & Biases holds."""

    id: str = ""
    history: list[tuple[int, str]] = field(default_factory=list)
    summary: dict[str, object] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)


def _leveldb_log(data: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format, which the client writes behind seven bytes of its own."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in {1, 4}:  # whole, or the last part
            yield parts
            parts = b""


def read_wandb(path: Path) -> WandbFile:
    from wandb.proto import wandb_internal_pb2

    found = WandbFile()
    for data in _leveldb_log(path.read_bytes()):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made when imported
        record.ParseFromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                found.id = record.run.run_id
                found.config |= {
                    item.key: json.loads(item.value_json) for item in record.run.config.update
                }
            case "history":
                names = ("/".join(item.nested_key) or item.key for item in record.history.item)
                found.history += [(record.history.step.num, name) for name in names]
            case "summary":
                found.summary |= {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.summary.update
                }
    return found


def test_weights_and_biases_keeps_one_run_with_every_step_once(tracked: Tracked) -> None:
    paths = sorted((tracked.folder / "wandb").glob("offline-run-*/run-*.wandb"))
    files = [read_wandb(path) for path in paths]
    assert len(files) == 3
    assert {file.id for file in files} == {choice.identity(tracked.run)}
    steps: dict[str, list[int]] = {}
    for file in files:
        for step, name in file.history:
            steps.setdefault(name, []).append(step)
    assert steps["train/loss"] == STEPS
    assert steps["train/grad_norm"] == STEPS
    assert steps["validation/accuracy"] == EVALUATIONS
    summary = files[-1].summary
    assert summary["state"] == "Succeeded"
    assert summary["bundle_digest"] == tracked.outcome.bundle.digest
    assert files[-1].config["planDigest"]


def test_mlflow_keeps_one_run_with_every_step_once(tracked: Tracked) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked.database}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    for name, expected in {
        "train/loss": STEPS,
        "train/grad_norm": STEPS,
        "validation/accuracy": EVALUATIONS,
    }.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted(metric.step for metric in history) == expected
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunefleet.attempt"] == "2"
    assert run.data.tags["tunefleet.bundle_digest"] == tracked.outcome.bundle.digest
    assert run.data.params["job.spec.task"] == "text-classification"
    assert run.data.params["planDigest"].startswith("sha256:")
    assert run.data.metrics["cost/dollars"] > 0


@pytest.fixture
def server(tracked: Tracked, tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on a copy of the run's database."""
    port = free_port()
    database = tmp_path / "mlflow.db"
    shutil.copy(tracked.database, database)
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    command += [f"--backend-store-uri=sqlite:///{database}", "--workers=1"]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not _answers(url):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_server_finds_the_run_again_and_takes_no_step_twice(
    tracked: Tracked, server: str
) -> None:
    """The same run goes on over HTTP: another attempt, which did the last steps again."""
    from mlflow.tracking import MlflowClient

    again = TrackedRun(
        choice.identity(tracked.run), "default", "tiny", "run-0001", 3, 9, {}, tracked.folder
    )
    tracker = Mlflow(server, "tiny")
    tracker.begin(again)
    tracker.record([Point(step, {"train/loss": 0.5}) for step in range(9, 13)])
    tracker.end(Ending(Phase.STOPPED, "stopped at step 12"))
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(metric.step for metric in history) == list(range(1, 13))
    assert run.info.status == "KILLED"


def test_a_server_that_is_away_is_said_once_and_training_ends_well(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = MlflowSpec(uri=f"http://127.0.0.1:{free_port()}", experiment="tiny")
    config = site.config("away").model_copy(update={"tracking": TrackingSpec(mlflow=away)})
    go(config)
    succeeded(site, "away")
    said = [event.message for event in WatchEnd(Path(config.scratch)).events()]
    assert len([message for message in said if message.startswith("MLflow gets no more")]) == 1
