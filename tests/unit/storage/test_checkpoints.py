"""A commit is all or nothing, and only the newest start can make one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.checkpoints import head, read_file
from tests.unit.storage.harness import (
    FILES,
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
from tunefleet.storage.chain import chain
from tunefleet.storage.checkpoints import (
    CheckpointWriter,
    FencedError,
    Manifest,
    collect,
    verify,
)
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store
from tunefleet.storage.writer import Writer


def data_keys(run: RunStore) -> list[str]:
    return [key for key, _ in run.store.list(run.key("checkpoints"))]


def test_a_manifest_says_what_was_given(run: RunStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"0" * 1000)
    record = begin(run)
    made = CheckpointWriter(run, record).commit(
        120,
        {"a": b"bytes", "deep/b": memoryview(b"view"), "c.safetensors": tmp_path / "big"},
        metric=0.875,
        chain="f00d",
        digests={"code": "c", "data": "d"},
    )
    assert made.name.startswith("00000120-1.1.1-")
    assert (made.step, made.attempt, made.start, made.sequence) == (120, 1, 1, 1)
    assert (made.metric, made.chain, made.digests) == (0.875, "f00d", {"code": "c", "data": "d"})
    assert (made.parent, made.parent_step) == (None, None)
    assert {name: entry.size for name, entry in made.files.items()} == {
        "a": 5,
        "deep/b": 4,
        "c.safetensors": 1000,
    }
    assert Manifest.from_json(run.store.get(run.key(made.key))) == made
    assert read_file(run, made, "deep/b") == b"view"


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), None], ids=str)
def test_a_metric_that_is_no_number_is_recorded_as_none(
    run: RunStore, metric: float | None
) -> None:
    assert commit(writer_of(run), 10, metric).metric is None


@pytest.mark.parametrize("successor", ["attempt", "start"])
def test_a_writer_that_was_taken_over_cannot_commit_and_leaves_nothing(
    run: RunStore, successor: str
) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    before = data_keys(run)
    begin(run, attempt=successor == "attempt")
    with pytest.raises(FencedError, match=r"attempt 1, start 1 .* was taken over by attempt"):
        commit(writer, 20)
    assert data_keys(run) == before


def test_a_claim_alone_fences_before_the_successor_has_started(run: RunStore) -> None:
    writer = writer_of(run)
    run.claim_attempt(Writer.here())
    with pytest.raises(FencedError, match="taken over by attempt 2"):
        commit(writer, 10)
    assert head(run) is None


def test_a_commit_is_not_reported_as_done_when_a_successor_came_while_it_was_written() -> None:
    class Late(MortalStore):
        def create(self, key: str, body: bytes) -> bool:
            if key.endswith("/MANIFEST.json") and self.fuse is None:
                self.fuse = 1_000_000
                begin(RunStore(Store(self.uri), run.namespace, run.job, run.run))
            return super().create(key, body)

    run = new_run(Late(mortal_memory().uri))
    writer = writer_of(run)
    with pytest.raises(FencedError):
        commit(writer, 10)
    assert head(run) is None


@pytest.mark.parametrize("writes", range(len(FILES) + 1))
def test_a_kill_at_any_write_leaves_the_last_checkpoint_the_head(writes: int) -> None:
    store = mortal_memory()
    run = new_run(store)
    writer = writer_of(run)
    made = commit(writer, 10)
    store.fuse = writes
    with pytest.raises(Killed):
        commit(writer, 20)
    store.fuse = None
    assert head(run) == made
    assert begin(run).resumed_from == made.key


def test_a_store_that_fails_leaves_no_half_checkpoint_and_the_writer_can_go_on() -> None:
    class Full(MortalStore):
        full = False

        def write(self, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
            if self.full and key.endswith("rank/0.json"):
                raise StorageError("no space left", remedy="free some space")
            return super().write(key, body)

    store = Full(mortal_memory().uri)
    run = new_run(store)
    writer = writer_of(run)
    first = commit(writer, 10)
    before = data_keys(run)
    store.full = True
    with pytest.raises(StorageError, match="no space left"):
        commit(writer, 20)
    assert data_keys(run) == before
    store.full = False
    second = commit(writer, 20)
    assert second.parent == first.key
    assert chain(run) == [second, first]


def test_data_that_vanished_before_the_manifest_is_no_checkpoint() -> None:
    class Swept(MortalStore):
        def flush(self, keys: object) -> None:
            for key, _ in self.list(run.key("checkpoints")):
                if key.endswith("rank/0.json"):
                    self.delete([key])

    run = new_run(mortal_memory())
    record = begin(run)
    run = RunStore(Swept(run.store.uri), run.namespace, run.job, run.run)
    with pytest.raises(StorageError, match=r"rank/0\.json is missing"):
        commit(CheckpointWriter(run, record), 10)
    assert head(run) is None


@pytest.mark.parametrize("arrived", [True, False], ids=["arrived", "did not arrive"])
def test_a_lost_reply_to_the_manifest_is_settled_by_reading_back(arrived: bool) -> None:
    class Cut(MortalStore):
        cut = False

        def create(self, key: str, body: bytes) -> bool:
            if self.cut and key.endswith("/MANIFEST.json"):
                self.cut = False
                if arrived:
                    super().create(key, body)
                raise StorageError("connection reset")
            return super().create(key, body)

    store = Cut(mortal_memory().uri)
    run = new_run(store)
    writer = writer_of(run)
    first = commit(writer, 10)
    store.cut = True
    if arrived:
        assert head(run) == first
        assert commit(writer, 20) == head(run)
        return
    with pytest.raises(StorageError, match="connection reset"):
        commit(writer, 20)
    assert head(run) == first
    assert commit(writer, 20).parent == first.key


def test_a_retried_create_that_finds_its_own_first_write_counts() -> None:
    class Retrying(MortalStore):
        def create(self, key: str, body: bytes) -> bool:
            return super().create(key, body) and super().create(key, body)

    run = new_run(Retrying(mortal_memory().uri))
    assert run.run == "run-0001"
    writer = writer_of(run)
    made = commit(writer, 10)
    assert made.attempt == made.start == 1
    assert head(run) == made


def test_a_manifest_of_somebody_else_in_our_place_is_never_overwritten() -> None:
    class Raced(MortalStore):
        def create(self, key: str, body: bytes) -> bool:
            if key.endswith("/MANIFEST.json"):
                super().create(key, b"another")
            return super().create(key, body)

    run = new_run(Raced(mortal_memory().uri))
    with pytest.raises(FencedError, match="two processes write as one start"):
        commit(writer_of(run), 10)
    assert head(run) is None


def test_a_second_writer_of_the_same_start_goes_on_after_the_first(run: RunStore) -> None:
    record = begin(run)
    first = commit(CheckpointWriter(run, record), 10)
    second = commit(CheckpointWriter(run, record), 20)
    overwrite(run, second.key, b"")
    third = commit(CheckpointWriter(run, record), 30)
    assert (second.parent, second.sequence) == (first.key, 2)
    assert (third.parent, third.parent_step, third.sequence) == (first.key, 10, 3)
    assert chain(run) == [third, first]


def test_the_same_step_may_be_committed_again_and_an_older_one_may_not(run: RunStore) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    again = commit(writer, 10, metric=0.5)
    assert head(run) == again
    with pytest.raises(ValueError, match="step 9 is older"):
        commit(writer, 9)
    resumed = writer_of(run)
    with pytest.raises(ValueError, match="step 9 is older"):
        commit(resumed, 9)


@pytest.mark.parametrize(
    "files", [{}, {"MANIFEST.json": b"{}"}], ids=["no file", "a file named as the manifest"]
)
def test_files_that_make_no_checkpoint_are_refused(run: RunStore, files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="a checkpoint needs files"):
        writer_of(run).commit(1, files, metric=None, chain="", digests={})


def test_a_file_that_would_leave_the_checkpoint_is_refused(run: RunStore) -> None:
    with pytest.raises(StorageError, match="no key"):
        writer_of(run).commit(1, {"../../x": b"1"}, metric=None, chain="", digests={})
    assert data_keys(run) == []


def test_commits_asked_for_at_once_are_made_one_after_the_other(run: RunStore) -> None:
    writer = writer_of(run)
    threads = [threading.Thread(target=commit, args=(writer, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = chain(run)
    assert [manifest.sequence for manifest in history] == [4, 3, 2, 1]
    assert [manifest.parent for manifest in history] == [*(m.key for m in history[1:]), None]
    assert all(verify(run, manifest) == [] for manifest in history)


def test_a_sleeper_whose_files_were_collected_is_told_that_it_is_fenced(disk: Store) -> None:
    class Sleepy(Store):
        """Sleeps before it makes its files durable; a successor begins and collects them."""

        asleep = True

        def flush(self, keys: Iterable[str]) -> None:
            wanted = list(keys)
            if self.asleep and any("/checkpoints/" in key for key in wanted):
                self.asleep = False
                assert begin(RunStore(disk, run.namespace, run.job, run.run)).attempt == 2
                collect(run)
            super().flush(wanted)

    run = new_run(Sleepy(disk.uri))
    with pytest.raises(FencedError, match="taken over by attempt 2"):
        commit(writer_of(run), 1)
