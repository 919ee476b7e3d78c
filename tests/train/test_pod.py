"""What a job's pods do, without a cluster: an API server of one object, a store, two caches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import tiny_bert
from tests.unit.channel.server import OneObject, a_spec, one_object
from tunefleet.api.digest import job_values
from tunefleet.api.errors import ModelError, StorageError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import FailureClass, Phase
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.facts import Facts
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.planner import make_plan
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store
from tunefleet.train.carry import arrived
from tunefleet.verbs.pod import prepare
from tunefleet.verbs.run import Silent
from tunefleet.verbs.transcript import kept

ROWS = "text,label\n" + "".join(
    f"a {('dull', 'charming')[i % 2]} film number {i},{('bad', 'good')[i % 2]}\n" for i in range(80)
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneObject]:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "first-machine"))
    (tmp_path / "account").mkdir()
    (tmp_path / "rows.csv").write_text(ROWS)
    tiny_bert(tmp_path / "model")
    with one_object(tmp_path / "account") as found:
        found.spec = a_spec(number=0, stage="Prepare", manifest=job_values(a_job(tmp_path)))
        yield found


def a_job(folder: Path) -> FineTuneJob:
    return FineTuneJob.model_validate_json(
        json.dumps(
            {
                "apiVersion": "tunefleet.dev/v1alpha1",
                "kind": "FineTuneJob",
                "metadata": {"name": "reviews"},
                "spec": {
                    "task": "text-classification",
                    "model": {"uri": str(folder / "model")},
                    "data": {
                        "train": {"uri": str(folder / "rows.csv")},
                        "columns": {"text": "text", "label": "label"},
                    },
                    "training": {"maxSteps": 4, "batchSize": 8},
                    "checkpoints": {"uri": str(folder / "runs")},
                },
            }
        )
    )


def test_preparing_publishes_facts_and_leaves_what_another_machine_needs(
    server: OneObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(server.attempt, Silent()).phase is Phase.SUCCEEDED
    assert server.status["run"] == "run-0001"
    assert server.status["result"]["phase"] == "Succeeded"
    facts = Facts.from_json(json.dumps(server.status["facts"]))
    job = a_job(tmp_path)
    config = WorkerConfig(
        address=RunAddress(
            uri=str(tmp_path / "runs"),
            namespace="default",
            job="reviews",
            run="run-0001",
            attempt=1,
        ),
        job=job_values(job),
        plan=make_plan(job, facts, machine_of(job)),
        model_path="elsewhere",
        labels=facts.data.labels,
        stores={"train": "elsewhere"},
        scratch=str(tmp_path / "scratch"),
        carried=True,
    )
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "second-machine"))
    (tmp_path / "rows.csv").unlink()  # nothing is read or tokenised again
    there = arrived(config)
    assert set(there.stores) == {"train", "validation"}
    before = TokenStore(Path(facts.data.train.store))
    after = TokenStore(Path(there.stores["train"]))
    assert Path(there.stores["train"]).is_relative_to(tmp_path / "second-machine")
    assert (before.ragged["input_ids"] == after.ragged["input_ids"]).all()
    assert arrived(config) == there, "the second process of a machine finds it there"


def test_what_preparing_said_is_kept_beside_the_run(server: OneObject, tmp_path: Path) -> None:
    prepare(server.attempt, Silent())
    run = RunStore(open_store(str(tmp_path / "runs"), tmp_path), "default", "reviews", "run-0001")
    lines = [json.loads(line) for who, line in kept(run, 0) if who == "prepare"]
    assert [line["type"] for line in lines] == ["writer", "note", "note", "result"]
    assert lines[-1]["value"]["phase"] == "Succeeded"


def test_a_pod_that_prepares_again_finds_the_run_that_it_made(server: OneObject) -> None:
    prepare(server.attempt, Silent())
    prepare(server.attempt, Silent())
    assert server.status["run"] == "run-0001"
    server.spec = {**server.spec, "owner": "another uid"}
    prepare(server.attempt, Silent())
    assert server.status["run"] == "run-0002", "a job that was made anew has a run of its own"


def test_wrong_rows_are_told_with_file_and_line(server: OneObject, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS + "a film without a verdict,\n")
    result = prepare(server.attempt, Silent())
    assert (result.phase, result.failure) == (Phase.FAILED, FailureClass.DATA)
    (problem,) = server.status["result"]["problems"]
    assert problem["file"].endswith("rows.csv")
    assert problem["line"] == 82


def test_a_store_that_cannot_be_written_is_tried_again_by_the_job(
    server: OneObject, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file stands where the folder should be")
    with pytest.raises(StorageError):
        prepare(server.attempt, Silent())
    assert "result" not in server.status


def test_a_model_that_changed_since_is_refused_where_it_arrives(
    server: OneObject, tmp_path: Path
) -> None:
    prepare(server.attempt, Silent())
    facts = Facts.from_json(json.dumps(server.status["facts"]))
    tiny_bert(tmp_path / "model", seed=1)
    job = a_job(tmp_path)
    run = RunStore.at(
        RunAddress(
            uri=str(tmp_path / "runs"),
            namespace="default",
            job="reviews",
            run="run-0001",
            attempt=1,
        )
    )
    config = WorkerConfig(
        address=run.address(1),
        job=job_values(job),
        plan=make_plan(job, facts, machine_of(job)),
        model_path="",
        labels=facts.data.labels,
        stores={},
        scratch=str(tmp_path / "scratch"),
        carried=True,
    )
    with pytest.raises(ModelError, match="not the model that was prepared"):
        arrived(config)
