"""Numbers of runs, attempts and starts are taken once; the highest one owns the run."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.storage.harness import (
    Killed,
    MortalStore,
    begin,
    commit,
    mortal_memory,
    new_run,
    overwrite,
    writer_of,
)
from tunefleet.api.errors import StorageError
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest
from tunefleet.storage.records import ExitRecord, FailureRecord
from tunefleet.storage.run import FencedError, RunStore, Writer, jobs
from tunefleet.storage.store import Store


def failure(rank: int, message: str) -> FailureRecord:
    return FailureRecord(
        attempt=1,
        start=1,
        rank=rank,
        failure=FailureClass.UNKNOWN,
        message=message,
        traceback="",
        step=3,
    )


def leaving(attempt: int, step: int) -> ExitRecord:
    return ExitRecord(
        attempt=attempt,
        phase=Phase.STOPPED,
        failure=FailureClass.PREEMPTED,
        message="told to stop",
        step=step,
        seconds={Cause.TRAIN: 1.5, Cause.DATA_WAIT: 0.25},
        cost_microdollars=12,
    )


def at_once(act: Callable[[], int], many: int = 8) -> list[int]:
    gate, found = threading.Barrier(many), list[int]()

    def one() -> None:
        gate.wait()
        found.append(act())

    threads = [threading.Thread(target=one) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def test_runs_are_numbered_and_the_highest_number_is_the_newest(store: Store) -> None:
    assert RunStore.newest(store, "default", "reviews") is None
    made = [new_run(store) for _ in range(3)]
    assert [run.run for run in made] == ["run-0001", "run-0002", "run-0003"]
    assert RunStore.all(store, "default", "reviews") == made
    assert RunStore.newest(store, "default", "reviews") == made[-1]
    assert made[0].uri == f"{store.uri}/default/reviews/run-0001"


def test_numbers_go_on_beyond_four_digits(store: Store) -> None:
    for name in ("run-9999", "run-10000", "run-0002"):
        store.put(f"default/reviews/{name}/RUN.json", b"{}")
    assert [run.run for run in RunStore.all(store, "default", "reviews")] == [
        "run-0002",
        "run-9999",
        "run-10000",
    ]
    assert new_run(store).run == "run-10001"


def test_a_folder_without_its_record_is_no_run_and_its_number_is_not_given_again(
    store: Store,
) -> None:
    new_run(store)
    store.put("default/reviews/run-0007/report/report.html", b"x")
    store.put("default/reviews/notes/RUN.json", b"x")
    assert [run.run for run in RunStore.all(store, "default", "reviews")] == ["run-0001"]
    assert new_run(store).run == "run-0008"


def test_an_empty_folder_is_no_run(disk: Store) -> None:
    first = new_run(disk)
    folder = disk.local_path("default/reviews/run-0002")
    assert folder is not None
    folder.mkdir()
    assert RunStore.newest(disk, "default", "reviews") == first


def test_jobs_are_those_that_have_a_run_whatever_else_lies_there(store: Store) -> None:
    RunStore.create(store, "default", "reviews")
    RunStore.create(store, "team-a", "intents")
    store.put("team-a/notes/readme.md", b"")
    store.put("Some Folder/x#y/z", b"")
    assert jobs(store) == [("default", "reviews"), ("team-a", "intents")]
    assert RunStore.jobs(store) == jobs(store)


class Late(MortalStore):
    """A store that shows no folder of another writer yet."""

    def folders(self, prefix: str) -> list[str]:
        return []


def test_of_two_that_begin_a_job_at_the_same_moment_one_has_the_run() -> None:
    store = mortal_memory()
    late = Late(store.uri)
    assert RunStore.try_create(store, "default", "reviews") is not None
    assert RunStore.try_create(late, "default", "reviews") is None
    assert [run.run for run in RunStore.all(store, "default", "reviews")] == ["run-0001"]


def test_runs_attempts_and_starts_asked_for_at_once_get_a_number_each(store: Store) -> None:
    numbers = at_once(lambda: int(new_run(store).run.removeprefix("run-")))
    assert numbers == list(range(1, 9))
    run = RunStore(store, "default", "reviews", "run-0001")
    assert at_once(lambda: run.claim_attempt(Writer.here()).attempt) == list(range(1, 9))

    def start() -> int:
        try:
            return run.claim_start(8, 1).start
        except FencedError:
            return 0

    numbers = [number for number in at_once(start) if number]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == run.fenced_below()[1] == 8


def test_the_newest_claim_is_the_one_with_the_highest_number(run: RunStore) -> None:
    assert run.newest_claim() is None
    claims = [run.claim_attempt(Writer.here()) for _ in range(3)]
    assert [claim.attempt for claim in claims] == [1, 2, 3]
    assert run.newest_claim() == claims[-1]
    assert claims[0].writer == Writer.here()
    assert run.attempts() == [1, 2, 3]


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"\xff"], ids=["empty", "cut", "bare", "bytes"])
def test_a_torn_claim_still_counts_and_its_writer_is_not_alive(run: RunStore, body: bytes) -> None:
    run.claim_attempt(Writer.here())
    overwrite(run, "attempts/0002/CLAIM", body)
    claim = run.newest_claim()
    assert claim is not None
    assert claim.attempt == 2
    assert not claim.writer.alive()
    assert run.claim_attempt(Writer.here()).attempt == 3


def test_a_record_of_a_newer_version_is_refused_with_that_reason(run: RunStore) -> None:
    overwrite(run, "attempts/0001/CLAIM", b'{"version": 2, "attempt": 1, "lease": "x"}')
    with pytest.raises(StorageError, match="newer tunefleet") as caught:
        run.newest_claim()
    assert "--fresh" in caught.value.remedy


def test_a_start_goes_on_from_the_head(run: RunStore) -> None:
    first = begin(run)
    assert (first.attempt, first.start, first.workers) == (1, 1, 2)
    assert (first.resumed_from, first.resumed_step) == (None, 0)
    made = commit(CheckpointWriter(run, first), 40)
    second = begin(run, attempt=False, workers=3)
    assert (second.attempt, second.start, second.workers) == (1, 2, 3)
    assert (second.resumed_from, second.resumed_step) == (made.key, 40)
    assert run.starts(1) == [first, second]
    assert begin(run).resumed_step == 40


def test_a_start_needs_its_attempt_to_be_claimed_and_newest(run: RunStore) -> None:
    with pytest.raises(StorageError, match="claim of attempt 1 is gone"):
        run.claim_start(1, 2)
    begin(run)
    begin(run)
    with pytest.raises(FencedError, match="taken over by attempt 2"):
        run.claim_start(1, 2)
    assert run.start_numbers() == [(1, 1), (2, 1)]


def test_a_start_that_is_overtaken_while_it_looks_for_the_head_is_fenced() -> None:
    class Slow(MortalStore):
        def list(self, prefix: str) -> list[tuple[str, int]]:
            if prefix.endswith("/checkpoints") and not overtaken:
                overtaken.append(1)
                RunStore(Store(self.uri), run.namespace, run.job, run.run).claim_start(1, 2)
            return super().list(prefix)

    overtaken: list[int] = []
    run = new_run(Slow(mortal_memory().uri))
    run.claim_attempt(Writer.here())
    with pytest.raises(FencedError, match="taken over by attempt 1, start 2"):
        run.claim_start(1, 2)


def test_a_commit_reported_just_before_a_start_is_claimed_is_what_it_goes_on_from() -> None:
    class Racing(MortalStore):
        def create(self, key: str, body: bytes) -> bool:
            if key.endswith("/starts/0002/CLAIM") and not made:
                made.append(commit(writer, 20))
            return super().create(key, body)

    made: list[Manifest] = []
    run = new_run(Racing(mortal_memory().uri))
    writer = writer_of(run)
    commit(writer, 10)
    record = begin(run, attempt=False)
    assert record.resumed_from == made[0].key
    with pytest.raises(FencedError):
        commit(writer, 30)


@pytest.mark.parametrize("writes", [0, 1, 2], ids=["nothing", "its claim", "its marker"])
def test_a_start_killed_on_its_way_leaves_the_run_as_it_was(writes: int) -> None:
    store = mortal_memory()
    run = new_run(store)
    made = commit(writer_of(run), 10)
    store.fuse = writes
    with pytest.raises(Killed):
        begin(run)
    store.fuse = None
    after = begin(run)
    assert after.resumed_from == made.key
    assert after.attempt == 2 + (writes > 0)


@pytest.mark.parametrize("body", [b"", b"{"], ids=["empty", "cut"])
def test_a_torn_start_record_is_no_start(run: RunStore, body: bytes) -> None:
    made = commit(writer_of(run), 10)
    begin(run)
    overwrite(run, "attempts/0002/starts/0001/START.json", body)
    assert run.starts(2) == []
    assert begin(run, attempt=False).resumed_from == made.key
    assert [record.start for record in run.starts(2)] == [2]


def test_a_writer_whose_run_was_deleted_does_not_bring_it_back(run: RunStore) -> None:
    writer = writer_of(run)
    run.store.delete_folder(run.key("attempts"))
    with pytest.raises(StorageError, match="is gone"):
        commit(writer, 10)
    assert run.store.list(run.key("checkpoints")) == []


def test_every_failure_is_kept_by_rank_and_in_order(run: RunStore) -> None:
    begin(run)
    for rank, message in ((1, "peer died"), (0, "hung"), (0, "killed"), (-1, "driver")):
        run.record_failure(failure(rank, message))
    assert [found.message for found in run.failures(1, 1)] == [
        "driver",
        "hung",
        "killed",
        "peer died",
    ]
    assert run.failures(1, 2) == []


def test_exit_records_are_listed_by_attempt(run: RunStore) -> None:
    assert run.exit_record(1) is None
    run.write_exit(leaving(2, 20))
    run.write_exit(leaving(1, 5))
    run.write_exit(leaving(1, 10))
    assert run.exit_record(1) == leaving(1, 10)
    assert run.exit_records() == [leaving(1, 10), leaving(2, 20)]
    overwrite(run, "attempts/0001/EXIT.json", b"")
    assert run.exit_records() == [leaving(2, 20)]


def test_documents_and_plain_json_are_put_and_read_back(run: RunStore) -> None:
    assert run.get_json("plan.json") is None
    run.put_json("plan.json", {"steps": 3, "name": "é"})
    run.put_json("report/result.json", leaving(1, 2))
    assert run.get_json("plan.json") == {"steps": 3, "name": "é"}
    result = run.get_json("report/result.json")
    assert result is not None
    assert result["costMicrodollars"] == 12
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.put_json("plan.json", {"loss": float("nan")})
    assert run.get_json("plan.json") == {"steps": 3, "name": "é"}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]"], ids=["empty", "cut", "a list"])
def test_a_damaged_document_is_named(run: RunStore, body: bytes) -> None:
    overwrite(run, "plan.json", body)
    with pytest.raises(StorageError, match=r"run-0001/plan\.json is damaged"):
        run.get_json("plan.json")


def test_a_run_is_reopened_by_its_address_in_any_process(run: RunStore) -> None:
    begin(run)
    address = run.address(1)
    again = RunStore.at(type(address).from_json(address.to_json()))
    assert again.newest_claim() == run.newest_claim()
    assert pickle.loads(pickle.dumps(run)).newest_claim() == run.newest_claim()


def test_names_that_would_leave_the_store_are_refused(disk: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no key"):
        RunStore.create(disk, "..", "reviews")
    with pytest.raises(StorageError, match="no key"):
        new_run(disk).put_json("../../../../x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_run_killed_at_its_first_write_leaves_its_number(disk: Store) -> None:
    first = new_run(disk)
    folder = disk.local_path(first.key())
    assert folder is not None
    killed = folder.with_name("run-0002")
    killed.mkdir()
    (killed / "RUN.json#1").write_text("{")
    assert new_run(disk).run == "run-0002"
    assert new_run(disk).run == "run-0003"


class TestNumberedByACluster:
    """Where a cluster numbers the attempts, storage still says who may write."""

    def test_the_same_attempt_may_be_executed_again(self, store: Store) -> None:
        run = new_run(store)
        first = run.claim_numbered(1, "uid/a-1", Writer.here())
        assert run.claim_numbered(1, "uid/a-1", Writer.here()) == first
        run.claim_start(1, workers=2)
        assert run.claim_start(1, workers=2).start == 2, "starts fence one from the other"

    def test_numbers_may_be_left_out(self, store: Store) -> None:
        run = new_run(store)
        run.claim_numbered(1, "uid/a-1", Writer.here())
        assert run.claim_numbered(3, "uid/a-3", Writer.here()).attempt == 3

    def test_a_late_execution_of_an_older_attempt_takes_nothing_over(self, store: Store) -> None:
        run = new_run(store)
        run.claim_numbered(1, "uid/a-1", Writer.here())
        run.claim_numbered(2, "uid/a-2", Writer.here())
        with pytest.raises(FencedError, match="taken over by attempt 2"):
            run.claim_numbered(1, "uid/a-1", Writer.here())
        newest = run.newest_claim()
        assert newest is not None
        assert newest.owner == "uid/a-2"

    def test_a_number_that_a_laptop_took_is_somebody_elses(self, store: Store) -> None:
        run = new_run(store)
        run.claim_attempt(Writer.here())
        with pytest.raises(FencedError, match="somebody else"):
            run.claim_numbered(1, "uid/a-1", Writer.here())

    def test_a_run_is_found_again_by_the_object_it_was_made_for(self, store: Store) -> None:
        run = new_run(store)
        made = RunStore.of_owner(run.store, run.namespace, run.job, "uid-a")
        other = RunStore.of_owner(run.store, run.namespace, run.job, "uid-b")
        assert len({run.run, made.run, other.run}) == 3
        assert RunStore.of_owner(run.store, run.namespace, run.job, "uid-a") == made

    def test_of_several_that_make_a_run_at_once_all_get_the_same(self, store: Store) -> None:
        run = new_run(store)
        found = at_once(
            lambda: int(
                RunStore.of_owner(run.store, run.namespace, run.job, "uid").run.rpartition("-")[2]
            )
        )
        assert len(set(found)) == 1
