"""Restarts have one owner: when a group of processes goes on, and when it gives up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunefleet.api.words import FailureClass
from tunefleet.storage.checkpoints import CheckpointWriter
from tunefleet.storage.run import FailureRecord, RunStore, StartRecord, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.starts import GiveUp, begin

ALLOWED = 2


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """A run with its first attempt claimed."""
    made = RunStore.create(open_store(str(tmp_path), tmp_path), "default", "job")
    made.claim_attempt(Writer.here())
    return made


def start(run: RunStore) -> StartRecord | GiveUp:
    """The next start of the first attempt, or why there is none."""
    return begin(run, 1, workers=2, max_failures=ALLOWED)


def fail(run: RunStore, begun: StartRecord | GiveUp, kind: FailureClass, rank: int = 0) -> None:
    """Record that a start ended early."""
    assert isinstance(begun, StartRecord)
    run.record_failure(
        FailureRecord(
            attempt=1,
            start=begun.start,
            rank=rank,
            failure=kind,
            message=f"rank {rank}: {kind}",
            traceback="",
        )
    )


def commit(run: RunStore, begun: StartRecord | GiveUp, step: int) -> None:
    """Commit a checkpoint."""
    assert isinstance(begun, StartRecord)
    writer = CheckpointWriter(run, begun)
    writer.commit(step, {"weights": b"w"}, metric=None, chain="", digests={})


def test_more_vain_starts_than_allowed_end_the_attempt(run: RunStore) -> None:
    for _ in range(1 + ALLOWED):
        fail(run, start(run), FailureClass.INFRASTRUCTURE)
    given_up = start(run)
    assert isinstance(given_up, GiveUp)
    assert given_up.failure is FailureClass.INFRASTRUCTURE
    assert "3 starts from step 0" in given_up.message
    assert [s.resumed_step for s in run.starts(1)] == [0] * (2 + ALLOWED)


def test_processes_that_vanish_without_a_word_count_too(run: RunStore) -> None:
    for _ in range(1 + ALLOWED):
        assert isinstance(start(run), StartRecord)
    given_up = start(run)
    assert isinstance(given_up, GiveUp)
    assert "without a word" in given_up.message


def test_a_new_checkpoint_starts_the_count_anew(run: RunStore) -> None:
    for step in range(1, 8):
        begun = start(run)
        commit(run, begun, step)
        fail(run, begun, FailureClass.INFRASTRUCTURE)
    assert isinstance(start(run), StartRecord)


@pytest.mark.parametrize("kind", [k for k in FailureClass if not k.retryable])
def test_what_no_restart_can_mend_ends_the_attempt_at_once(
    run: RunStore, kind: FailureClass
) -> None:
    begun = start(run)
    fail(run, begun, FailureClass.INFRASTRUCTURE, rank=0)
    fail(run, begun, kind, rank=1)
    assert start(run) == GiveUp(kind, f"rank 1: {kind}")


def test_an_attempt_that_was_taken_over_makes_no_further_start(run: RunStore) -> None:
    start(run)
    run.claim_attempt(Writer.here())
    given_up = start(run)
    assert isinstance(given_up, GiveUp)
    assert given_up.failure is FailureClass.FENCED
    assert "taken over by" in given_up.message
