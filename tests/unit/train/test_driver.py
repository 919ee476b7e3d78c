"""What the one who watches an attempt decides by itself."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.train.conftest import empty_config
from tunefleet.api.errors import RunError
from tunefleet.api.words import FailureClass, Phase
from tunefleet.channel.schema import Event, EventKind
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import ExitRecord, FailureRecord, RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train import driver
from tunefleet.train.driver import Interrupts, VainStarts, Watcher, drive
from tunefleet.train.environment import LocalRay

AWAY = "cannot read the claim: the store does not answer"


def heard(*kinds: EventKind) -> VainStarts:
    vain = VainStarts(allowed=2)
    for kind in kinds:
        vain.hear(Event(kind=kind, message=AWAY))
    return vain


def test_starts_that_nobody_can_write_down_come_to_an_end() -> None:
    with pytest.raises(RunError, match="3 starts in a row could not be claimed") as raised:
        heard("unclaimed", "unclaimed", "warning", "unclaimed")
    assert AWAY in raised.value.message
    assert "run the same command" in raised.value.remedy


@pytest.mark.parametrize("sign", ["resumed", "checkpoint", "evaluation"])
def test_a_sign_of_life_starts_the_count_anew(sign: EventKind) -> None:
    assert heard("unclaimed", "unclaimed", sign, "unclaimed").count == 1


@pytest.mark.parametrize("again", [True, False], ids=["executed again", "executed once"])
def test_how_an_earlier_execution_ended_says_nothing_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Stopped to give way, executed again, and ended by an error of the user's."""
    run = RunStore.create(open_store(str(tmp_path / "runs"), tmp_path), "default", "tiny")
    attempt = run.claim_attempt(Writer.here()).attempt
    config = empty_config(run, attempt, tmp_path / "scratch")
    if again:
        gave_way = ExitRecord(
            attempt=attempt, phase=Phase.STOPPED, message="gave way", step=4, seconds={}
        )
        run.write_exit(gave_way)

    def fit(config: WorkerConfig, scratch: Path, failure: list[BaseException]) -> None:
        run.record_failure(
            FailureRecord(
                attempt=attempt,
                start=run.claim_start(attempt, 1).start,
                rank=0,
                failure=FailureClass.USER,
                message="the label is unknown",
                traceback="",
            )
        )

    monkeypatch.setattr(driver, "_fit", fit)
    monkeypatch.setattr(driver, "_ray", lambda *args, **named: nullcontext(LocalRay("", "")))
    ended = drive(config, run, Watcher(), Interrupts(), dashboard=False)
    assert (ended.phase, ended.failure) == (Phase.FAILED, FailureClass.USER)
    assert ended.message == "the label is unknown"
    assert run.exit_record(attempt) == ended
