"""Stopped, killed, failed: what the next start makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.train.conftest import Site
from tests.train.forking import launch_forks
from tests.train.launching import command, environment, launch
from tests.train.test_exactness import losses, newest, succeeded
from tunefleet.api.words import FailureClass, Phase
from tunefleet.plan.document import EvaluationPlan, OptimizerPlan
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.checkpoints import chain
from tunefleet.storage.run import RunStore
from tunefleet.train.process import run_process


def run_here(config: WorkerConfig, stop_after: int | None = None) -> None:
    """Run the process inside the test; with ``stop_after`` it is asked to stop at that step."""
    steps = Path(config.scratch) / "steps.jsonl"

    def asked() -> bool:
        done = len(steps.read_text().splitlines()) if steps.exists() else 0
        return stop_after is not None and done >= stop_after

    run_process(config, local_rank=0, interrupted=asked)


@pytest.fixture(scope="module")
def whole(site: Site) -> WorkerConfig:
    """A run that nothing disturbed."""
    config = site.config("whole")
    run_here(config)
    return config


@pytest.mark.parametrize("step", [1, 4, 5, 8])
def test_a_stopped_run_goes_on_to_the_same_bits(site: Site, whole: WorkerConfig, step: int) -> None:
    runs = f"stopped at {step}"
    first = site.config(runs)
    run_here(first, stop_after=step)
    run = site.run_store(runs)
    ended = run.exit_record(1)
    assert ended is not None
    assert ended.phase is Phase.STOPPED
    stopped_at = ended.step
    assert step <= stopped_at < 10

    second = site.config(runs)
    run_here(second)
    assert run.starts(2)[0].resumed_step == stopped_at
    assert losses(first) + losses(second) == losses(whole)
    manifest, weights = newest(succeeded(site, runs))
    expected, expected_weights = newest(site.run_store("whole"))
    assert manifest.chain == expected.chain
    assert all(np.array_equal(weights[name], expected_weights[name]) for name in weights)
    assert evaluations(run) == evaluations(site.run_store("whole"))


def evaluations(run: RunStore) -> list[tuple[object, object]]:
    """Step and metrics of each, as the outcome tells them."""
    outcome = run.get_json("report/outcome.json")
    assert outcome is not None
    history = outcome["history"]
    assert isinstance(history, dict)
    return [(record["step"], record["metrics"]) for record in history["evaluations"]]


def test_who_has_to_stop_saves_before_it_evaluates(site: Site) -> None:
    every = site.plan.evaluation.every_steps
    config = site.config("stopped where it is evaluated")
    run_here(config, stop_after=every - 1)
    run = site.run_store("stopped where it is evaluated")
    ended = run.exit_record(1)
    assert ended is not None and ended.step == every
    assert newest(run)[0].metric is None, "it was not evaluated"
    run_here(site.config("stopped where it is evaluated"))
    succeeded(site, "stopped where it is evaluated")
    assert every in [step for step, _ in evaluations(run)]


def test_a_run_goes_on_with_another_number_of_workers(site: Site, whole: WorkerConfig) -> None:
    first = site.config("grown")
    run_here(first, stop_after=3)
    done = launch_forks(site.config("grown"), 2)
    assert done.returncode == 0, done.stderr
    manifest, weights = newest(succeeded(site, "grown"))
    expected, expected_weights = newest(site.run_store("whole"))
    assert manifest.chain == expected.chain
    for name in weights:
        np.testing.assert_allclose(weights[name], expected_weights[name], atol=1e-5, err_msg=name)


def test_a_killed_process_loses_no_more_than_one_interval(site: Site, whole: WorkerConfig) -> None:
    """SIGKILL in the middle of a step, then the same job again."""
    config = site.config("killed")
    process = subprocess.Popen(
        command(config, 1),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    steps = Path(config.scratch) / "steps.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if steps.exists() and len(steps.read_text().splitlines()) >= 6:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    done = len(steps.read_text().splitlines())
    run = site.run_store("killed")
    assert run.exit_record(1) is None, "the process ended before it could be killed"

    run_here(site.config("killed"))
    resumed = run.starts(2)[0].resumed_step
    assert resumed > 0
    assert done - resumed <= 2 * (site.plan.checkpoints.every_steps or 0)
    assert newest(succeeded(site, "killed"))[0].chain == newest(site.run_store("whole"))[0].chain


def test_sigterm_saves_and_stops(site: Site) -> None:
    config = site.config("terminated", total_steps=2000, epochs=400)
    process = subprocess.Popen(
        command(config, 1), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    steps = Path(config.scratch) / "steps.jsonl"
    deadline = time.monotonic() + 120
    while not steps.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    ended = site.run_store("terminated").exit_record(1)
    assert process.returncode == 0, said
    assert ended is not None
    assert ended.phase is Phase.STOPPED
    assert newest(site.run_store("terminated"))[0].step == ended.step


def test_patience_ends_a_run_and_the_best_checkpoint_is_kept(site: Site) -> None:
    plan = EvaluationPlan(
        every_steps=1,
        micro_batch=8,
        metric="loss",
        higher_is_better=False,
        patience=2,
        min_delta=10.0,
    )
    config = site.config("patience", evaluation=plan)
    run_here(config)
    run = succeeded(site, "patience")
    outcome = run.get_json("report/outcome.json")
    assert outcome is not None
    assert outcome["stoppedEarly"] is True
    # Nothing improves by 10: the first evaluation counts as the best, two more use up patience.
    assert outcome["steps"] == 3
    assert outcome["bestStep"] in [manifest.step for manifest in chain(run)]


@pytest.mark.parametrize(
    ("every", "skips", "said"),
    [
        pytest.param(100, 5, "5 steps in a row", id="noticed by its steps"),
        pytest.param(5, 4, "on validation is not finite", id="noticed by an evaluation"),
    ],
)
def test_a_diverging_run_fails_with_the_remedy_and_keeps_its_checkpoints(
    site: Site, every: int, skips: int, said: str
) -> None:
    wild = OptimizerPlan(
        name="sgd",
        learning_rate=1e30,
        weight_decay=0.0,
        schedule="constant",
        warmup_steps=0,
        clip_norm=None,
    )
    looks = site.plan.evaluation.model_copy(update={"every_steps": every})
    runs = f"diverging, {every}"
    config = site.config(runs, optimizer=wild, evaluation=looks)
    done = launch_forks(config, 2)
    assert done.returncode == 1
    ended = site.run_store(runs).exit_record(1)
    assert ended is not None
    assert ended.failure is FailureClass.USER
    assert said in ended.message
    assert "learningRate" in ended.message
    assert newest(site.run_store(runs))[0].step > 0
    skipped = [line for line in _steps(config) if line["loss"] is None]
    assert len(skipped) == skips


def _steps(config: WorkerConfig) -> list[dict[str, object]]:
    lines = (Path(config.scratch) / "steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_missing_model_ends_the_attempt_at_its_first_start(site: Site) -> None:
    """A user's error, which no restart can mend."""
    config = site.config("broken").model_copy(update={"model_path": str(site.folder / "nowhere")})
    done = launch_forks(config, 1)
    assert done.returncode == 1
    ended = site.run_store("broken").exit_record(1)
    assert ended is not None
    assert ended.phase is Phase.FAILED
    assert "nowhere" in ended.message


def test_one_failing_worker_does_not_leave_the_others_waiting(site: Site, tmp_path: Path) -> None:
    """Rank 1 cannot read its data; rank 0 sees a lost connection and learns the reason."""
    config = site.config("one rank")
    sabotage = tmp_path / "sitecustomize.py"
    sabotage.write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import tunefleet.train.step as step\n"
        "    def broken(self, work, votes):\n"
        "        raise ValueError('row 7 is broken')\n"
        "    step.ExactStep.run = broken\n"
    )
    began = time.monotonic()
    path = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    done = launch(config, 2, PYTHONPATH=path)
    assert done.returncode == 1
    assert time.monotonic() - began < 90
    ended = site.run_store("one rank").exit_record(1)
    assert ended is not None
    assert "row 7 is broken" in ended.message
