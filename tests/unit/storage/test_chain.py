"""The head is the newest whole checkpoint of the history, whatever else lies about."""

from __future__ import annotations

import json

import pytest

from tests.checkpoints import head
from tests.unit.storage.harness import (
    DAMAGES,
    Killed,
    MortalStore,
    begin,
    commit,
    damage,
    mortal_memory,
    new_run,
    overwrite,
    remove,
    rewritten,
    writer_of,
)
from tunefleet.api.errors import StorageError
from tunefleet.storage.chain import chain, find_head
from tunefleet.storage.checkpoints import CheckpointWriter
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store


def held_write(run: RunStore, writer: CheckpointWriter, step: int) -> tuple[str, bytes]:
    """A commit that sleeps between its last look at the claims and its manifest."""
    store = run.store
    assert isinstance(store, MortalStore)
    store.hold_manifests = True
    with pytest.raises(Killed):
        commit(writer, step)
    store.hold_manifests = False
    assert store.held is not None
    return store.held


@pytest.fixture
def mortal() -> RunStore:
    return new_run(mortal_memory())


def test_a_run_without_checkpoints_has_no_head(run: RunStore) -> None:
    assert head(run) is None
    assert chain(run) == []
    begin(run)
    assert head(run) is None


def test_the_chain_goes_through_starts_and_attempts(run: RunStore) -> None:
    made = []
    for attempt in range(1, 4):
        for start in range(1, 3):
            writer = writer_of(run, attempt=start == 1)
            made += [commit(writer, 100 * attempt + 10 * start + n) for n in range(2)]
    assert head(run) == made[-1]
    assert chain(run) == made[::-1]
    assert [manifest.parent for manifest in made] == [None, *(m.key for m in made[:-1])]
    assert [manifest.parent_step for manifest in made] == [None, *(m.step for m in made[:-1])]


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("next_start", [False, True], ids=["same start", "next start"])
def test_a_damaged_head_is_passed_over_for_its_parent(
    run: RunStore, kind: str, next_start: bool
) -> None:
    writer = writer_of(run)
    parent = commit(writer, 10)
    newest = commit(writer_of(run) if next_start else writer, 20)
    damage(run, newest, kind)
    search = find_head(run)
    assert search.head == parent
    assert bool(search.passed_over) == (kind != "the manifest deleted")
    assert all(newest.name in problem for problem in search.passed_over)


def test_a_start_says_which_checkpoints_it_passed_over(run: RunStore) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    newest = commit(writer, 20)
    damage(run, newest, "a data file cut short")
    record = begin(run)
    assert record.resumed_step == 10
    (problem,) = record.passed_over
    assert newest.name in problem


def test_nothing_whole_left_is_no_head(run: RunStore) -> None:
    writer = writer_of(run)
    for step in (10, 20):
        damage(run, commit(writer, step), "a bit flipped in a data file")
    search = find_head(run)
    assert search.head is None
    assert len(search.passed_over) == 2


def test_what_was_passed_over_stays_out_of_the_history_when_it_is_mended(run: RunStore) -> None:
    writer = writer_of(run)
    old = commit(writer, 10)
    newest = commit(writer, 20)
    text = run.store.get(run.key(newest.key))
    overwrite(run, newest.key, b"")
    record = begin(run)
    assert record.resumed_from == old.key
    overwrite(run, newest.key, text)
    assert head(run) == old
    made = commit(CheckpointWriter(run, record), 15)
    assert chain(run) == [made, old]


def test_a_gap_in_the_middle_does_not_end_the_chain(run: RunStore) -> None:
    writer = writer_of(run)
    made = [commit(writer, step) for step in (10, 20, 30, 40)]
    remove(run, made[2].key)
    overwrite(run, made[1].key, b"{")
    later = commit(writer_of(run), 50)
    assert chain(run) == [later, made[3], made[0]]
    damage(run, later, "a data file deleted")
    damage(run, made[3], "an empty manifest")
    assert head(run) == made[0]


def test_a_late_write_of_a_fenced_writer_does_not_exist(mortal: RunStore) -> None:
    zombie = writer_of(mortal)
    old = commit(zombie, 10)
    late = held_write(mortal, zombie, 20)
    begin(mortal)
    assert Store(mortal.store.uri).create(*late)
    assert head(mortal) == old
    record = begin(mortal)
    assert record.resumed_from == old.key
    made = commit(CheckpointWriter(mortal, record), 12)
    assert chain(mortal) == [made, old]
    damage(mortal, made, "a data file deleted")
    assert head(mortal) == old


def test_a_write_that_lands_before_any_start_of_the_successor_is_not_lost(
    mortal: RunStore,
) -> None:
    writer = writer_of(mortal)
    commit(writer, 10)
    late = held_write(mortal, writer, 20)
    Store(mortal.store.uri).create(*late)
    assert begin(mortal).resumed_step == 20


def test_a_late_first_write_is_not_taken_by_a_successor_that_began_anew(mortal: RunStore) -> None:
    late = held_write(mortal, writer_of(mortal), 5)
    record = begin(mortal)
    Store(mortal.store.uri).create(*late)
    assert record.resumed_from is None
    assert head(mortal) is None
    made = commit(CheckpointWriter(mortal, record), 3)
    assert chain(mortal) == [made]


def test_the_order_is_by_number_and_never_by_step_or_time(run: RunStore) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    far = commit(writer, 1000)
    damage(run, far, "a data file deleted")
    record = begin(run)
    made = commit(CheckpointWriter(run, record), 20)
    rewritten(run, made, created="1970-01-01T00:00:00+00:00")
    start = f"attempts/{record.attempt:04d}/starts/0001/START.json"
    old = record.model_copy(update={"created": "1970-01-01T00:00:00+00:00"})
    overwrite(run, start, old.to_json().encode())
    found = head(run)
    assert found is not None
    assert found.name == made.name


def test_attempts_beyond_four_digits_are_still_ordered_by_number(run: RunStore) -> None:
    for attempt in (9, 10, 9999, 10000):
        overwrite(run, f"attempts/{attempt:04d}/CLAIM", b"{}")
        commit(CheckpointWriter(run, run.claim_start(attempt, 1)), attempt)
    assert [manifest.step for manifest in chain(run)] == [10000, 9999, 10, 9]


@pytest.mark.parametrize("damaged", [b"", b"{"], ids=["empty", "cut"])
def test_a_lost_start_record_is_bridged_by_the_parents(run: RunStore, damaged: bytes) -> None:
    first = commit(writer_of(run), 10)
    second = [commit(writer := writer_of(run), 20), commit(writer, 30)]
    overwrite(run, "attempts/0002/starts/0001/START.json", damaged)
    assert chain(run) == [*second[::-1], first]
    overwrite(run, second[0].key, b"")
    assert chain(run) == [second[1], first]
    overwrite(run, second[1].key, b"")
    assert head(run) == first


def test_without_any_record_of_attempts_the_names_still_tell(run: RunStore) -> None:
    made = [commit(writer_of(run), step) for step in (10, 20)]
    run.store.delete_folder(run.key("attempts"))
    assert chain(run) == made[::-1]


def test_empty_folders_and_foreign_files_are_passed_by(disk: Store) -> None:
    run = new_run(disk)
    made = commit(writer_of(run), 10)
    folder = disk.local_path(run.key("checkpoints"))
    assert folder is not None
    (folder / "00000099-9.9.9-ffffff").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "MANIFEST.json").write_text("mine")
    (folder / "MANIFEST.json").write_text("mine")
    (folder / made.name / "MANIFEST.json#1").write_text("half")
    assert head(run) == made


@pytest.mark.parametrize("to", ["itself", "a later one"])
def test_a_loop_of_parents_is_an_error(run: RunStore, to: str) -> None:
    writer = writer_of(run)
    first, second = commit(writer, 10), commit(writer, 20)
    rewritten(run, first, parent=first.key if to == "itself" else second.key)
    with pytest.raises(StorageError, match="the history is a loop") as caught:
        chain(run)
    assert "--fresh" in caught.value.remedy


def test_a_loop_of_starts_is_an_error(run: RunStore) -> None:
    made = commit(writer_of(run), 10)
    record = begin(run)
    later = commit(CheckpointWriter(run, record), 20)
    path = "attempts/0001/starts/0001/START.json"
    (first,) = run.starts(1)
    overwrite(run, path, first.model_copy(update={"resumed_from": later.key}).to_json().encode())
    with pytest.raises(StorageError, match=r"start 1\.1 names .*the history is a loop"):
        head(run)
    assert made.parent is None


@pytest.mark.parametrize("key", ["checkpoints/x/MANIFEST.json", "../other/MANIFEST.json", ""])
def test_a_start_that_names_no_checkpoint_is_an_error(run: RunStore, key: str) -> None:
    record = begin(run)
    changed = json.loads(record.to_json()) | {"resumedFrom": key}
    overwrite(run, "attempts/0001/starts/0001/START.json", json.dumps(changed).encode())
    with pytest.raises(StorageError, match="which is none"):
        head(run)


def test_a_newer_version_on_the_way_is_an_error_and_no_reason_to_fall_back(run: RunStore) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    newest = commit(writer, 20)
    overwrite(run, newest.key, b'{"version": 2}')
    with pytest.raises(StorageError, match="newer tunefleet"):
        head(run)
    with pytest.raises(StorageError, match="newer tunefleet"):
        begin(run)


def test_a_store_that_cannot_be_read_is_an_error_and_no_reason_to_fall_back() -> None:
    class Cut(MortalStore):
        cut = False

        def digest(self, key: str) -> tuple[int, str]:
            if self.cut:
                raise StorageError("connection reset")
            return super().digest(key)

    store = Cut(mortal_memory().uri)
    run = new_run(store)
    made = commit(writer_of(run), 10)
    store.cut = True
    with pytest.raises(StorageError, match="connection reset"):
        head(run)
    store.cut = False
    assert head(run) == made


def test_a_run_moved_elsewhere_is_still_whole(disk: Store) -> None:
    run = new_run(disk)
    made = [commit(writer_of(run), step) for step in (10, 20)]
    here, there = disk.local_path(run.key("x")), disk.local_path("team/other/run-0009")
    assert here is not None
    assert there is not None
    there.parent.mkdir(parents=True)
    here.parent.rename(there)
    moved = RunStore(disk, "team", "other", "run-0009")
    assert chain(moved) == made[::-1]
    assert begin(moved).resumed_step == 20
