"""A job that lives in a bucket: data, model, checkpoints, report and bundle, on a real S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.s3 import S3Server
from tests.tiny_models import tiny_bert
from tests.train.conftest import rows_of
from tests.train.desk import WAIT_SECONDS, Desk
from tests.train.launching import command, environment
from tunefleet.api.errors import ModelError
from tunefleet.api.words import Phase
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.storage.store import Store, open_store
from tunefleet.train import driver
from tunefleet.verbs.run import run
from tunefleet.verbs.target import find_bundle

JOB = """
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: tiny}}
spec:
  task: text-classification
  model: {{uri: {bucket}/models/tiny}}
  data:
    train: {{uri: "{bucket}/reviews/train-*.csv"}}
    validation: {{uri: {bucket}/reviews/held-out.jsonl}}
    labels: [bad, good]
  training: {{maxSteps: 60, batchSize: 64, microBatch: 4, maxLength: 48}}
  evaluation: {{every: 30, metric: accuracy}}
  workers: {{count: 1}}
  checkpoints: {{every: 10, uri: {bucket}/runs}}
"""


@pytest.fixture
def bucket(s3_environment: S3Server, tmp_path: Path) -> Store:
    """A model and rows in a bucket, and nothing of them on this machine."""
    store = open_store(s3_environment.uri("whole-job"), Path.cwd())
    for path in tiny_bert(tmp_path / "made").iterdir():
        store.put(f"models/tiny/{path.name}", path)
    store.put("models/tiny/pytorch_model.bin", b"never fetched")
    rows = rows_of(140)
    cells = list(zip(rows.columns["text"], rows.columns["label"], strict=True))
    for name, part in (("train-0.csv", cells[:60]), ("train-1.csv", cells[60:120])):
        lines = [f'"{text}",{("bad", "good")[label]}' for text, label in part]
        store.put(f"reviews/{name}", "\n".join(["text,label", *lines]).encode())
    records = [json.dumps({"text": t, "label": ("bad", "good")[c]}) for t, c in cells[120:]]
    store.put("reviews/held-out.jsonl", "\n".join(records).encode())
    return store


@pytest.fixture
def desk(bucket: Store, tmp_path: Path) -> Iterator[Desk]:
    """A folder with nothing in it but the job."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB.format(bucket=bucket.uri))
    desk = Desk(folder)
    yield desk
    desk.stop()


def tunefleet(desk: Desk, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tunefleet.cli.main", *arguments],
        cwd=desk.folder,
        env=os.environ | {"TUNEFLEET_CACHE": str(desk.folder / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def stopped_by_hand(
    config: WorkerConfig, run: RunStore, *others: object, dashboard: bool
) -> ExitRecord:
    """One worker without Ray (whose start takes long), asked to stop after a checkpoint."""
    with subprocess.Popen(
        command(config, 1), env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        while not any(key.endswith("MANIFEST.json") for key, _ in run.store.list(run.key())):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=WAIT_SECONDS)
    ended = run.exit_record(config.address.attempt)
    assert ended is not None, said
    return ended


def everything(folder: Path, store: Store) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder and every object of a store, by name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
    for entry in store.entries(""):
        yield entry.key, store.get(entry.key)


def test_a_job_in_a_bucket_is_trained_stopped_gone_on_with_and_asked(
    s3_environment: S3Server, bucket: Store, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(desk.folder / "cache"))
    with monkeypatch.context() as patched:
        patched.setattr(driver, "drive", stopped_by_hand)
        stopped = run(desk.folder / "job.yaml")
    assert stopped.phase is Phase.STOPPED
    assert stopped.run_uri == f"{bucket.uri}/runs/default/tiny/run-0001"

    code, result = desk.run()
    told = [stopped.to_json(), desk.said(), json.dumps(result)]
    assert code == 0, told
    assert result["phase"] == "Succeeded"
    assert result["resumedFrom"] == stopped.steps > 0
    assert result["run"] == "run-0001"
    assert result["report"] == f"{bucket.uri}/runs/default/tiny/run-0001/report/report.html"
    assert Path(str(result["reportCopy"])).read_text().startswith("<!doctype html>")
    made = result["bundle"]
    assert isinstance(made, dict)
    assert made["uri"].startswith(f"{bucket.uri}/runs/default/tiny/run-0001/bundle/")

    for words, answer in (
        (("runs", "list", "--store", f"{bucket.uri}/runs", "--json"), "run-0001"),
        (("runs", "show", "tiny", "--store", f"{bucket.uri}/runs", "--json"), made["uri"]),
        (("predict", made["uri"], "--text", "a wonderful film"), "a wonderful film"),
    ):
        done = tunefleet(desk, *words)
        told += [done.stdout, done.stderr]
        assert done.returncode == 0, done.stderr
        assert answer in done.stdout

    # A second look takes the copy; a bundle that was edited in the bucket is refused.
    for target in (made["uri"], result["runUri"], desk.folder / "job.yaml"):
        found = find_bundle(str(target))
        assert found.result is not None
        assert found.folder.is_relative_to(desk.folder / "cache")
    key = f"{made['uri'].removeprefix(bucket.uri + '/')}/config.json"
    bucket.put(key, bucket.get(key) + b" ")
    with pytest.raises(ModelError, match=r"config\.json") as caught:
        find_bundle(made["uri"])
    assert made["uri"] in caught.value.message

    kept = list(everything(desk.folder, bucket))
    assert not list(desk.folder.rglob("pytorch_model.bin"))
    secret = s3_environment.keys.secret.encode()
    assert [name for name, body in kept if secret in body] == []
    assert s3_environment.keys.secret not in "".join(told)
