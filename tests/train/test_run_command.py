"""``tunefleet run`` as a user types it: two Ray Train workers, interrupted in every way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from tests.tiny_models import tiny_bert
from tests.train.conftest import rows_of
from tests.train.launching import launch
from tests.train.test_exactness import newest
from tunefleet.data.order import Order
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train import ledger

WAIT_SECONDS = 150
JOB = """
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: tiny}}
spec:
  task: text-classification
  model: {{uri: model}}
  data:
    train: {{uri: rows.csv}}
    validation: {{fraction: 0.2}}
    test: {{fraction: 0.1}}
    labels: [bad, good]
  training: {{maxSteps: {steps}, batchSize: 16, microBatch: 4, maxLength: 48,
             optimizer: {{learningRate: 1.0e-3}}}}
  evaluation: {{every: 20, metric: accuracy}}
  workers: {{count: 2}}
  checkpoints: {{every: 5}}
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with a job, its model and its rows."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin ``tunefleet run`` in a session of its own."""
        with (self.folder / "said.jsonl").open("w") as said:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tunefleet.cli.main",
                    "run",
                    "job.yaml",
                    "--json",
                    "--no-dashboard",
                    *arguments,
                ],
                cwd=self.folder,
                env=os.environ
                | {"TUNEFLEET_CACHE": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """End what a failed test has left running, with Ray's processes below it."""
        for process in self.started:
            if process.poll() is None:
                below = psutil.Process(process.pid).children(recursive=True)
                for one in [*below, process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def run(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Run to the end: (exit code, the object on standard output, {} when there is none)."""
        process = self.start(*arguments)
        printed, _ = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, json.loads(printed) if printed.strip() else {}

    def said(self) -> str:
        """Everything on standard error so far."""
        return (self.folder / "said.jsonl").read_text()

    def step(self) -> int:
        """The newest step that was reported."""
        steps = [0]
        for line in self.said().splitlines():
            if line.startswith('{"type":"progress"'):
                steps.append(int(json.loads(line)["value"]["step"]))
        return max(steps)

    def weights(self, runs: Path) -> dict[str, npt.NDArray[np.float32]]:
        """The weights of the newest checkpoint below ``runs``."""
        run = RunStore.newest(open_store(str(runs), self.folder), "default", "tiny")
        assert run is not None
        return newest(run)[1]

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not reached():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)


def write_job(folder: Path, steps: int) -> None:
    """The job file with another length."""
    (folder / "job.yaml").write_text(JOB.format(steps=steps))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A fresh folder."""
    tiny_bert(tmp_path / "model")
    rows = rows_of(120)
    lines = ["text,label"]
    for text, label in zip(rows.columns["text"], rows.columns["label"], strict=True):
        lines.append(f'"{text}",{("bad", "good")[label]}')
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    write_job(tmp_path, 40)
    desk = Desk(tmp_path)
    yield desk
    desk.stop()


def without_ray(desk: Desk) -> WorkerConfig:
    """The same plan as the newest run's, for torchrun and in another store."""
    run = RunStore.newest(open_store("runs", desk.folder), "default", "tiny")
    assert run is not None
    job, plan, facts = (run.get_json(f"{name}.json") for name in ("job", "plan", "facts"))
    assert job is not None
    read = Facts.from_json(json.dumps(facts))
    other = RunStore.create(open_store("torchrun", desk.folder), "default", "tiny")
    assert read.data.test is not None
    return WorkerConfig(
        address=RunAddress(
            uri=other.store.uri,
            namespace="default",
            job="tiny",
            run=other.run,
            attempt=other.claim_attempt(Writer.here()).attempt,
        ),
        job=job,
        plan=Plan.from_json(json.dumps(plan)),
        model_path=read.model.path,
        labels=read.data.labels,
        stores={
            "train": read.data.train.store,
            "validation": read.data.validation.store,
            "test": read.data.test.store,
        },
        scratch=str(desk.folder / "scratch"),
    )


def planned_chain(desk: Desk) -> str:
    """The chain that every sample exactly once per epoch, in the planned order, must give."""
    run = RunStore.newest(open_store("runs", desk.folder), "default", "tiny")
    assert run is not None
    plan = Plan.from_json(json.dumps(run.get_json("plan.json")))
    store = TokenStore(
        Path(Facts.from_json(json.dumps(run.get_json("facts.json"))).data.train.store)
    )
    order = Order(
        store.lengths,
        seed=plan.seed,
        batch_size=plan.batch_size,
        micro_batch=plan.micro_batch,
        window_steps=plan.window_steps,
    )
    chain = ""
    for number in range(plan.total_steps):
        step = order.step(number)
        ids = store.ids[np.concatenate(step.micro_batches)]
        chain = ledger.extend(chain, number + 1, ledger.digest_of(ids, step.epoch))
    return chain


def checkpoints(result: dict[str, object]) -> list[dict[str, object]]:
    """The checkpoints of a result."""
    found = result["checkpoints"]
    assert isinstance(found, list)
    return found


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What a run has started: Ray's processes and the workers, while it goes on."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    assert found, "a run without a process below it proves nothing about leaving none"
    return found


def left(started: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there some seconds after the run has ended."""
    alive: list[psutil.Process] = psutil.wait_procs(started, timeout=10)[1]
    return alive


def test_a_run_finishes_and_says_everything_a_script_needs(desk: Desk) -> None:
    code, result = desk.run("--price-per-hour", "0.60")
    assert code == 0, desk.said()
    assert result["phase"] == "Succeeded"
    assert result["steps"] == 40
    assert result["resumedFrom"] == 0
    assert result["workers"] == 2
    bundle, seconds, splits = result["bundle"], result["seconds"], result["splits"]
    assert isinstance(bundle, dict)
    assert isinstance(seconds, dict)
    assert isinstance(splits, dict)
    assert bundle["digest"].startswith("sha256:")
    assert Path(bundle["path"], "model.safetensors").is_file()
    assert Path(str(result["report"])).read_text().startswith("<!doctype html>")
    assert splits.keys() == {"validation", "test"}
    assert checkpoints(result)
    spent = sum(seconds.values())
    assert result["costMicrodollars"] == round(spent * 600_000 / 3600)
    assert 40 in [json.loads(line)["value"].get("step") for line in desk.said().splitlines()]

    again, same = desk.run("--price-per-hour", "0.60")
    assert again == 0
    assert same == result, "a finished job is not trained twice"

    config = without_ray(desk)
    done = launch(config, 2)
    assert done.returncode == 0, done.stderr
    theirs = desk.weights(desk.folder / "runs")
    ours = desk.weights(desk.folder / "torchrun")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), "Ray adds no bit"


def test_the_first_interrupt_saves_and_the_next_start_goes_on(desk: Desk) -> None:
    write_job(desk.folder, 4000)
    process = desk.start()
    desk.until(lambda: desk.step() >= 3)
    started = below(process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, desk.said()
    stopped = json.loads(printed)
    assert stopped["phase"] == "Stopped"
    assert checkpoints(stopped)[0]["step"] == stopped["steps"] > 0
    assert not left(started)

    write_job(desk.folder, 4000)
    process = desk.start("--workers", "1")
    desk.until(lambda: desk.step() > stopped["steps"])
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 143, desk.said()
    assert json.loads(printed)["resumedFrom"] == stopped["steps"]
    assert json.loads(printed)["workers"] == 1


def test_a_second_interrupt_stops_at_once_and_loses_only_uncommitted_work(desk: Desk) -> None:
    write_job(desk.folder, 4000)
    process = desk.start()
    desk.until(lambda: desk.step() >= 12)
    started = below(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 130, desk.said()
    assert not left(started)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(desk: Desk) -> None:
    (desk.folder / "prices.yaml").write_text(
        'asOf: "2026-11-01"\nprices: [{machine: "*", perMachineHour: "3600"}]\n'
    )
    process = desk.start(
        *("--set", "training.maxSteps=400", "--set", "checkpoints.every=10"),
        *("--price-sheet", "prices.yaml", "--set", "budget.maxDuration=1h"),
    )
    desk.until(lambda: desk.step() >= 25)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "TrainWorker" in " ".join(child.cmdline())
    ]
    assert len(workers) == 2, [child.cmdline() for child in workers]
    workers[1].kill()
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, desk.said()
    result = json.loads(printed)
    assert result["phase"] == "Succeeded"
    assert result["steps"] == 400
    assert "resumed from checkpoint" in desk.said()
    assert result["digestChain"] == planned_chain(desk)

    # From the command's start to the end of its workers: two of them, a dollar a second.
    seconds, metered = result["seconds"], result["meteredSeconds"]
    assert abs(sum(seconds.values()) - 2 * metered) < 0.001
    assert 0 < metered < result["wallSeconds"]
    assert seconds["recovery"] > 0
    assert abs(result["costMicrodollars"] - metered * 1e6) <= 1
    assert sum(result["money"].values()) == result["costMicrodollars"]
    assert '"budgetLeftSeconds":' in desk.said()
    code, refused = desk.run("--fresh", "--set", "budget.maxDuration=5s")
    assert code == 2
    assert "5s is not enough: a start takes about" in json.dumps(refused)


def test_a_second_run_of_the_same_job_is_refused_while_the_first_goes_on(desk: Desk) -> None:
    write_job(desk.folder, 4000)
    first = desk.start()
    desk.until(lambda: desk.step() >= 1)
    second = subprocess.run(
        [sys.executable, "-m", "tunefleet.cli.main", "run", "job.yaml", "--json"],
        cwd=desk.folder,
        env=os.environ | {"TUNEFLEET_CACHE": str(desk.folder / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert "running already" in second.stderr + second.stdout
    first.kill()
    first.communicate(timeout=60)


def test_a_changed_spec_is_told_and_only_gone_on_with_when_that_is_safe(desk: Desk) -> None:
    process = desk.start("--set", "training.maxSteps=4000")
    desk.until(lambda: desk.step() >= 6)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    unsafe = "training.optimizer.learningRate=0.5"
    code, refused = desk.run("--set", "training.maxSteps=4000", "--set", unsafe)
    assert code == 2
    assert "learningRate" in json.dumps(refused)
    assert "--fresh" in json.dumps(refused)

    process = desk.start("--set", "training.maxSteps=4000", "--set", "checkpoints.every=7")
    desk.until(lambda: "resumed from checkpoint" in desk.said())
    assert "checkpoints.every changed" in desk.said()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_SECONDS)

    code, result = desk.run("--fresh", "--set", unsafe, "--set", "training.maxSteps=2")
    assert code == 0, desk.said()
    assert result["run"] == "run-0002"
    assert (desk.folder / "runs/default/tiny/run-0001/plan.json").is_file(), "nothing is deleted"
