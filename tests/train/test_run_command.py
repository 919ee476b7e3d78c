"""``tunefleet run`` as a user types it: two Ray Train workers, interrupted in every way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.train.desk import WAIT_SECONDS, Desk, checkpoints, furnished, write_job
from tests.train.launching import launch
from tunefleet.data.order import Order
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train import ledger

UNSAFE = "training.optimizer.learningRate=0.5"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A fresh desk with a job of 40 steps."""
    with furnished(tmp_path) as desk:
        write_job(tmp_path, 40)
        yield desk


def without_ray(desk: Desk, name: str) -> WorkerConfig:
    """The same plan as the newest run's, for torchrun and in another store."""
    run = RunStore.newest(open_store("runs", desk.folder), "default", name)
    assert run is not None
    job, plan, facts = (run.get_json(f"{name}.json") for name in ("job", "plan", "facts"))
    assert job is not None
    read = Facts.from_json(json.dumps(facts))
    other = RunStore.create(open_store("torchrun", desk.folder), "default", name)
    assert read.data.test is not None
    return WorkerConfig(
        address=RunAddress(
            uri=other.store.uri,
            namespace="default",
            job=name,
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


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What a run has started: Ray's processes and the workers, while it goes on."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    assert found, "a run without a process below it proves nothing about leaving none"
    return found


def left(started: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there some seconds after the run has ended."""
    alive: list[psutil.Process] = psutil.wait_procs(started, timeout=10)[1]
    return alive


# -- a job of one's own, as the README says -----------------------------------------------


def typed(desk: Desk, *arguments: str) -> str:
    """What a command that ends well prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tunefleet.cli.main", *arguments],
        cwd=desk.folder,
        env=desk.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def own_data_commands() -> list[str]:
    """The commands of the README under *Your own data*, without its environment's folder."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = text.partition("## Your own data")[2].partition("```\n")[2].partition("```")[0]
    return re.findall(r"^\$ \.venv/bin/tunefleet (\w+)", block, re.MULTILINE)


def test_a_reader_of_the_readme_goes_from_a_table_to_answers(desk: Desk) -> None:
    """A run to its end, all it says to a script, the same by torchrun, and answers."""
    assert own_data_commands() == ["init", "check", "plan", "run", "predict", "serve"]
    (desk.folder / "job.yaml").unlink()
    (desk.folder / "rows.csv").rename(desk.folder / "reviews.csv")
    typed(desk, "init", "reviews.csv", "--model", "model")
    assert "nothing stands in the way" in typed(desk, "check", "job.yaml")
    planned = json.loads(typed(desk, "plan", "job.yaml", "--json", "--workers", "2"))
    run = ("--price-per-hour", "0.60", "--workers", "2", "--set", "data.test={fraction: 0.1}")
    code, result = desk.run(*run)
    assert code == 0, desk.said()
    says_everything_a_script_needs(desk, result, planned["totalSteps"])

    again, same = desk.run(*run)
    assert again == 0
    assert same == result, "a finished job is not trained twice"

    config = without_ray(desk, "reviews")
    done = launch(config, 2)
    assert done.returncode == 0, done.stderr
    theirs = desk.weights(desk.folder / "runs", "reviews")
    ours = desk.weights(desk.folder / "torchrun", "reviews")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs), "Ray adds no bit"

    answer = typed(desk, "predict", "job.yaml", "--text", "What a film!", "--json")
    (row,) = json.loads(answer)["rows"]
    assert row["prediction"]["label"] in ("bad", "good")


def says_everything_a_script_needs(desk: Desk, result: dict[str, object], steps: int) -> None:
    assert result["phase"] == "Succeeded"
    assert result["steps"] == steps
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
    assert steps in [json.loads(line)["value"].get("step") for line in desk.said().splitlines()]


# -- a worker that dies -------------------------------------------------------------------


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


# -- one long job, interrupted in every way; each start is looked at by several tests -----


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start of the long job ended. ``left``: its processes that were still there."""

    code: int
    said: str
    result: dict[str, object]
    left: list[psutil.Process]
    seconds: float = 0.0


@pytest.fixture(scope="module")
def long_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with a job that nobody waits for."""
    with furnished(tmp_path_factory.mktemp("long")) as desk:
        write_job(desk.folder, 4000)
        yield desk


@pytest.fixture(scope="module")
def killed(long_desk: Desk) -> subprocess.CompletedProcess[str]:
    """SIGKILL after step 6; what a second run was told while the first one went on."""
    desk = long_desk
    process = desk.start()
    desk.until(lambda: desk.step() >= 6)
    second = subprocess.run(
        [sys.executable, "-m", "tunefleet.cli.main", "run", "job.yaml", "--json"],
        cwd=desk.folder,
        env=desk.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return second


@pytest.fixture(scope="module")
def refused(
    long_desk: Desk, killed: subprocess.CompletedProcess[str]
) -> tuple[int, dict[str, object]]:
    """The job again with another learning rate."""
    return long_desk.run("--set", UNSAFE)


@pytest.fixture(scope="module")
def interrupted(long_desk: Desk, refused: tuple[int, dict[str, object]]) -> Ended:
    """The job again with another interval, until Ctrl-C."""
    desk = long_desk
    process = desk.start("--set", "checkpoints.every=7")
    desk.until(lambda: desk.step() >= 8)
    started = below(process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    return Ended(process.returncode, desk.said(), json.loads(printed), left(started))


@pytest.fixture(scope="module")
def gone_on(long_desk: Desk, interrupted: Ended) -> Ended:
    """The job again with one worker, until SIGTERM."""
    desk = long_desk
    process = desk.start("--workers", "1", "--set", "checkpoints.every=7")
    desk.until(lambda: desk.step() > int(str(interrupted.result["steps"])))
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    return Ended(process.returncode, desk.said(), json.loads(printed), [])


@pytest.fixture(scope="module")
def cut_off(long_desk: Desk, gone_on: Ended) -> Ended:
    """A run begun anew, until two signals that leave no time to save."""
    desk = long_desk
    process = desk.start("--fresh", "--set", UNSAFE)
    desk.until(lambda: desk.step() >= 12)
    started = below(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=60)
    took = time.monotonic() - began
    return Ended(process.returncode, desk.said(), {}, left(started), took)


def test_a_second_run_of_the_same_job_is_refused_while_the_first_goes_on(
    killed: subprocess.CompletedProcess[str],
) -> None:
    assert killed.returncode == 2
    assert "running already" in killed.stderr + killed.stdout


def test_a_changed_spec_is_told_and_only_gone_on_with_when_that_is_safe(
    refused: tuple[int, dict[str, object]], interrupted: Ended
) -> None:
    code, said = refused
    assert code == 2
    assert "learningRate" in json.dumps(said)
    assert "--fresh" in json.dumps(said)
    assert "resumed from checkpoint" in interrupted.said
    assert "checkpoints.every changed" in interrupted.said


def test_the_first_interrupt_saves(interrupted: Ended) -> None:
    assert interrupted.code == 130, interrupted.said
    assert interrupted.result["phase"] == "Stopped"
    steps = int(str(interrupted.result["steps"]))
    assert checkpoints(interrupted.result)[0]["step"] == steps >= 8
    assert not interrupted.left


def test_the_next_start_goes_on_with_another_number_of_workers_and_sigterm_saves(
    interrupted: Ended, gone_on: Ended
) -> None:
    assert gone_on.code == 143, gone_on.said
    assert gone_on.result["resumedFrom"] == interrupted.result["steps"]
    assert gone_on.result["workers"] == 1


def test_a_fresh_run_deletes_nothing(long_desk: Desk, cut_off: Ended) -> None:
    runs = long_desk.folder / "runs/default/tiny"
    assert (runs / "run-0001/plan.json").is_file()
    assert (runs / "run-0002/plan.json").is_file()
    assert "resumed from checkpoint" not in cut_off.said


def test_a_second_interrupt_stops_at_once(cut_off: Ended) -> None:
    assert cut_off.seconds < 30
    assert cut_off.code == 130, cut_off.said
    assert not cut_off.left
