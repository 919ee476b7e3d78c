"""Where the time of a run went, and where its budget ends, with real processes and kills."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.train.conftest import Site
from tests.train.forking import launch_forks
from tests.train.launching import command, environment, launch
from tests.train.test_exactness import newest, succeeded
from tunefleet.api.rates import Rate
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.channel.folder import WatchEnd
from tunefleet.cost.ledger import Account, account_of
from tunefleet.plan.document import BudgetPlan, Estimate
from tunefleet.plan.worker import WorkerConfig
from tunefleet.train import process
from tunefleet.train.conclude import conclude
from tunefleet.train.process import run_process

SECOND = 1_000_000_000
# A dollar per worker-second, so that amounts can be read off.
DOLLAR = [Rate(since_ns=0, microdollars_per_hour=3_600_000_000)]


def spent(site: Site, runs: str) -> Account:
    return account_of(site.run_store(runs).spent())


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the launcher and its workers, which are in sessions of their own."""
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    for one in [process, *workers]:
        one.kill()
    process.wait(timeout=30)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_the_causes_of_a_killed_group_add_up_to_the_wall_measured_outside(site: Site) -> None:
    """Two workers are killed in the middle; two others finish the same attempt.

    The interval is from ``began``, read here before the first process is made, to ``ended``,
    read here after the last one is gone, both by the machine's monotonic clock.
    """
    began = time.monotonic_ns()
    config = site.config("killed group").model_copy(update={"started_ns": began, "rates": DOLLAR})
    process = subprocess.Popen(
        command(config, 2),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    steps = Path(config.scratch) / "steps.jsonl"
    until(lambda: steps.exists() and len(steps.read_text().splitlines()) >= 6)
    heard = WatchEnd(Path(config.scratch)).spent()
    kill_group(process)
    killed = time.monotonic_ns()
    run = site.run_store("killed group")
    assert run.exit_record(1) is None, "the group ended before it could be killed"

    time.sleep(0.3)
    again = time.monotonic_ns()
    done = launch(config, 2)
    assert done.returncode == 0, done.stderr
    ended = time.monotonic_ns()
    record = conclude(run, config, unsaid="", now_ns=ended)

    assert record.phase is Phase.SUCCEEDED
    assert [start.start for start in run.starts(1)] == [1, 2]
    assert run.starts(1)[1].resumed_step > 0
    account = account_of(run.spent())
    assert account.total == 2 * (ended - began), "to the nanosecond"
    assert account.wall == ended - began
    first, second, tail = run.spent()
    assert (first.start, second.start, tail.start) == (1, 2, 0)
    assert first.until_ns == second.begun_ns
    assert second.until_ns == tail.begun_ns
    assert heard is None or first.until_ns >= heard.until_ns, "the record is no shorter than told"
    assert account.causes[Cause.RECOVERY] >= 2 * (again - killed)
    assert second.causes[Cause.RECOVERY] >= 2 * (again - first.until_ns - began)
    other = {Cause.STARTUP, Cause.INIT, Cause.RESTORE} & second.causes.keys()
    assert not other, "what follows a kill is recovery until the first new step"
    assert sum(account.money.values()) == account.microdollars
    assert abs((account.microdollars or 0) - account.total / 1000) <= 1
    assert record.seconds == account.seconds
    assert record.cost_microdollars == account.microdollars


def up_longer(rank: int) -> None:
    """A worker on a node that has been up thirty days longer than that of the one before it."""
    by = rank * 30 * 24 * 3600 * SECOND
    clock = partial(run_process, now_ns=lambda: time.monotonic_ns() + by)
    vars(process).update(run_process=clock)


def test_nodes_that_have_been_up_for_other_times_make_no_other_bill(site: Site) -> None:
    """The budget is an hour."""
    runs = "up longer"
    config = site.config(runs, budget=budget(max_seconds=3600)).model_copy(update={"rates": DOLLAR})
    began = time.monotonic_ns()
    done = launch_forks(config, 2, up_longer)
    wall = time.monotonic_ns() - began
    assert done.returncode == 0, done.stderr
    succeeded(site, runs)
    account = spent(site, runs)
    assert 0 < account.wall < wall
    assert account.total == 2 * account.wall
    assert account.causes[Cause.TRAIN] > 0


class Hands:
    """A clock of which every step takes a second, and nothing else takes any time."""

    def __init__(self) -> None:
        self.at = 7 * SECOND

    def __call__(self) -> int:
        return self.at

    def asked(self) -> bool:
        """What the loop asks once before every step."""
        self.at += SECOND
        return False


def run_by(hands: Hands, config: WorkerConfig) -> None:
    run_process(config, local_rank=0, interrupted=hands.asked, now_ns=hands)


def budget(**limits: object) -> BudgetPlan:
    """Stops at the limit unless told otherwise, three seconds before it."""
    return BudgetPlan(
        on_exceeded="CheckpointAndStop",
        reserve=Estimate(value=3.0, basis="a test"),
        ending_seconds=2.0,
        start_seconds=0.0,
    ).model_copy(update=limits)


def test_steps_that_are_done_again_are_recovery(site: Site) -> None:
    """Killed after step 5 with the last checkpoint at 4: the second start's step 5 is no train."""
    config = site.config("again")
    first = Hands()

    class Killed(BaseException):
        """Passes through everything, as SIGKILL does."""

    def killed() -> bool:
        first.at += SECOND
        if first.at == 13 * SECOND:
            raise Killed
        return False

    with pytest.raises(Killed):
        run_process(
            config.model_copy(
                update={
                    "plan": site.plan.model_copy(
                        update={
                            "evaluation": site.plan.evaluation.model_copy(
                                update={"every_steps": 10}
                            )
                        }
                    )
                }
            ),
            local_rank=0,
            interrupted=killed,
            now_ns=first,
        )
    before = spent(site, "again")
    assert before.causes[Cause.TRAIN] == 6 * SECOND, "the sixth step was begun"
    run_by(Hands(), site.config("again"))
    run = succeeded(site, "again")
    assert run.starts(2)[0].resumed_step == 4
    after = spent(site, "again")
    assert after.causes[Cause.RECOVERY] == SECOND
    assert after.causes[Cause.TRAIN] == (6 + 5) * SECOND
    assert after.total == after.wall == 12 * SECOND


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"max_seconds": 8}, id="by time"),
        pytest.param({"max_microdollars": 8_000_000}, id="by cost"),
    ],
)
def test_a_budget_stops_with_a_checkpoint_inside_the_limit_and_goes_on_when_raised(
    site: Site, limits: dict[str, object]
) -> None:
    runs = f"budget {limits}"
    config = site.config(runs, budget=budget(**limits)).model_copy(update={"rates": DOLLAR})
    run_by(Hands(), config)
    run = site.run_store(runs)
    ended = run.exit_record(1)
    assert ended is not None
    assert (ended.phase, ended.failure) == (Phase.STOPPED, FailureClass.BUDGET)
    assert "budget" in ended.message
    assert ended.step == 5
    assert newest(run)[0].step == 5
    account = spent(site, runs)
    assert account.wall == 5 * SECOND
    assert account.microdollars == 5_000_000, "three seconds were kept back"

    # The same budget again: nothing is left but a step, and earlier attempts count.
    run_by(Hands(), site.config(runs, budget=budget(**limits)).model_copy(update={"rates": DOLLAR}))
    ended = run.exit_record(2)
    assert ended is not None
    assert (ended.failure, ended.step) == (FailureClass.BUDGET, 6)
    assert spent(site, runs).wall <= 8 * SECOND

    raised = budget(**{name: 20 * int(str(value)) for name, value in limits.items()})
    run_by(Hands(), site.config(runs, budget=raised).model_copy(update={"rates": DOLLAR}))
    whole = site.config(f"no {runs}")
    run_by(Hands(), whole)
    manifest, weights = newest(succeeded(site, runs))
    expected, expected_weights = newest(succeeded(site, f"no {runs}"))
    assert manifest.chain == expected.chain
    assert all(np.array_equal(weights[name], expected_weights[name]) for name in weights)
    assert spent(site, runs).wall == 10 * SECOND
    assert spent(site, f"no {runs}").microdollars is None, "unpriced is not free"


def test_a_warning_only_warns(site: Site) -> None:
    config = site.config("warned", budget=budget(max_seconds=4, on_exceeded="Warn"))
    run_by(Hands(), config)
    succeeded(site, "warned")
    told = [event.message for event in WatchEnd(Path(config.scratch)).events()]
    assert len([message for message in told if "budget: 4.0 s of 4 s are spent" in message]) == 1
