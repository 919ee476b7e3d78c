"""Which run is gone on with, from what stands in its folder."""

from __future__ import annotations

from pathlib import Path

from tunefleet.api.words import Phase
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.storage.store import open_store
from tunefleet.storage.writer import Writer
from tunefleet.verbs.going_on import begun_for_nothing, finished


def ended(run: RunStore, attempt: int, phase: Phase) -> None:
    record = ExitRecord(attempt=attempt, phase=phase, message="", step=7, seconds={})
    run.write_exit(record)


def new_run(folder: Path) -> RunStore:
    return RunStore.create(open_store("runs", folder), "default", "tiny")


def test_a_run_is_finished_when_any_of_its_attempts_ended_well(tmp_path: Path) -> None:
    """A driver was killed, a second attempt began, and the first one's workers came to the end."""
    run = new_run(tmp_path)
    run.claim_attempt(Writer.here())
    run.claim_attempt(Writer.here())
    assert finished(run) is None
    ended(run, 2, Phase.FAILED)
    assert finished(run) is None
    ended(run, 1, Phase.SUCCEEDED)
    found = finished(run)
    assert found is not None
    assert found.attempt == 1


def test_a_run_without_plan_and_owner_was_begun_for_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.put_json("job.json", {})
    assert begun_for_nothing(run)
    run.put_json("plan.json", {})
    assert not begun_for_nothing(run)


def test_a_run_that_somebody_owns_was_not_begun_for_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.claim_attempt(Writer.here())
    assert not begun_for_nothing(run)
