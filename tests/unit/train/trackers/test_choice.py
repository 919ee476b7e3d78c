"""What trackers need is asked for before anything is spent, and a run keeps its identity."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.train.conftest import make_plan
from tunefleet.api.errors import MachineError
from tunefleet.api.job import MlflowSpec, TrackingSpec, WandbSpec
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store
from tunefleet.train.trackers import choice

WANDB = TrackingSpec(wandb=WandbSpec(project="reviews"))


def mlflow(uri: str) -> TrackingSpec:
    return TrackingSpec(mlflow=MlflowSpec(uri=uri, experiment="reviews"))


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    found = importlib.util.find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name in packages else found(name)

    monkeypatch.setattr(choice, "find_spec", find)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("tracking", "missing", "field"),
    [
        pytest.param(
            TrackingSpec(tensorboard=True), "tensorboard", "tensorboard", id="TensorBoard"
        ),
        pytest.param(mlflow("https://a"), "mlflow", "mlflow", id="MLflow"),
        pytest.param(
            mlflow("sqlite:///a.db"), "sqlalchemy", "mlflow", id="what a database of MLflow needs"
        ),
    ],
)
def test_a_missing_package_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tracking: TrackingSpec, missing: str, field: str
) -> None:
    without(monkeypatch, missing)
    with pytest.raises(MachineError) as caught:
        choice.require(tracking)
    (problem,) = caught.value.problems
    assert problem.where == f"spec.tracking.{field}"
    assert missing in problem.message
    assert problem.remedy == "pip install 'tunefleet[tracking]'"


def test_a_server_needs_no_database_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "sqlalchemy", "alembic")
    choice.require(mlflow("http://127.0.0.1:5000"))


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        pytest.param("PATH", "/bin", False, id="no key at all"),
        pytest.param("WANDB_API_KEY", "k" * 40, True, id="a key in the environment"),
        pytest.param("WANDB_MODE", "offline", True, id="offline"),
        pytest.param("WANDB_MODE", "online", False, id="online without a key"),
    ],
)
def test_weights_and_biases_wants_a_key_unless_offline(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: bool
) -> None:
    monkeypatch.setenv(name, value)
    if accepted:
        choice.require(WANDB)
        return
    with pytest.raises(MachineError, match="WANDB_API_KEY"):
        choice.require(WANDB)


def test_a_key_that_a_login_left_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai login user password secret\n")
    file.chmod(0o600)
    choice.require(WANDB)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com")
    with pytest.raises(MachineError):
        choice.require(WANDB)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:////jobs/mlflow.db"),
        ("sqlite:///../mlflow.db", "sqlite:////mlflow.db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_database_file_is_taken_from_the_jobs_folder(given: str, expected: str) -> None:
    found = choice.resolved(mlflow(given), Path("/jobs"))
    assert found is not None
    assert found.mlflow is not None
    assert found.mlflow.uri == expected


def test_runs_are_told_apart_and_known_again_after_a_move(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"), tmp_path)
    first, second = (RunStore.create(store, "default", "a") for _ in range(2))
    assert choice.identity(first) != choice.identity(second)
    again = RunStore.create(open_store(str(tmp_path / "others"), tmp_path), "default", "a")
    assert choice.identity(again) != choice.identity(first)
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    moved = RunStore(open_store(str(tmp_path / "moved"), tmp_path), "default", "a", first.run)
    assert choice.identity(moved) == choice.identity(
        RunStore(moved.store, "default", "a", "run-0001")
    )
    assert choice.identity(moved).startswith("a-run-0001-")


def test_files_of_a_remote_run_are_brought_to_its_store(tmp_path: Path) -> None:
    run = RunStore.create(open_store("memory://trackers", tmp_path), "default", "a")
    config = WorkerConfig(
        address=run.address(2),
        job={"spec": {}},
        plan=make_plan(),
        model_path="",
        labels=[],
        stores={},
        scratch=str(tmp_path),
    )
    told = choice.tracked(config, run, resumed_step=7)
    assert (told.attempt, told.since) == (2, 8)
    assert told.folder.is_relative_to(tmp_path)
    (told.folder / "tensorboard").mkdir(parents=True)
    file = told.folder / "tensorboard" / "events.1"
    for body in (b"first", b"first and second"):
        file.write_bytes(body)
        told.keep()
        assert run.store.get(run.key("tracking", "tensorboard", "events.1")) == body
