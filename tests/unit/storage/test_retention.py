"""What nobody asked to keep goes; what could still be needed never does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.checkpoints import head
from tests.unit.storage.harness import (
    Killed,
    MortalStore,
    begin,
    commit,
    damage,
    mortal_memory,
    new_run,
    overwrite,
    remove,
    writer_of,
)
from tunefleet.api.words import Phase
from tunefleet.storage.chain import chain
from tunefleet.storage.checkpoints import (
    CheckpointWriter,
    Manifest,
    collect,
    keep_bundle,
    retain,
    sweep,
    verify,
)
from tunefleet.storage.records import ExitRecord
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store
from tunefleet.storage.writer import Writer


def commits(run: RunStore, metrics: Sequence[float | None]) -> list[Manifest]:
    writer = writer_of(run)
    return [commit(writer, 10 * n, metric) for n, metric in enumerate(metrics, 1)]


def folders(run: RunStore) -> list[str]:
    return run.store.folders(run.key("checkpoints"))


def half_written(run: RunStore, writer: CheckpointWriter, step: int) -> str:
    """A writer dies, or stands still, before its manifest; the name of what it left."""
    store = run.store
    assert isinstance(store, MortalStore)
    before = set(folders(run))
    store.fuse = 1
    with pytest.raises(Killed):
        commit(writer, step)
    store.fuse = None
    (name,) = set(folders(run)) - before
    return name


@pytest.fixture
def mortal() -> RunStore:
    return new_run(mortal_memory())


@pytest.mark.parametrize(
    "metrics, last, best, higher, kept",
    [
        ([None] * 4, 1, 0, True, [40]),
        ([None] * 4, 2, 1, True, [30, 40]),
        ([None] * 2, 5, 0, True, [10, 20]),
        ([0.1, 0.9, 0.5, 0.2], 1, 1, True, [20, 40]),
        ([0.1, 0.9, 0.5, 0.2], 1, 1, False, [10, 40]),
        ([0.1, 0.9, 0.5, 0.2], 1, 2, True, [20, 30, 40]),
        ([0.1, 0.2, 0.3, 0.9], 1, 1, True, [40]),
        ([0.5, 0.5, 0.5, 0.1], 1, 1, True, [10, 40]),
        ([0.5, None, 0.7, None], 1, 1, True, [30, 40]),
        ([0.5, 0.6], 0, 0, True, [20]),
    ],
)
def test_the_last_and_the_best_are_kept(
    run: RunStore,
    metrics: list[float | None],
    last: int,
    best: int,
    higher: bool,
    kept: list[int],
) -> None:
    made = commits(run, metrics)
    gone = retain(run, keep_last=last, keep_best=best, higher_is_better=higher)
    assert [manifest.step for manifest in chain(run)] == kept[::-1]
    assert sorted(gone) == sorted(m.name for m in made if m.step not in kept)
    assert folders(run) == sorted(m.name for m in made if m.step in kept)
    assert retain(run, keep_last=last, keep_best=best, higher_is_better=higher) == []


def test_the_best_is_kept_across_starts_and_gaps(run: RunStore) -> None:
    for metrics in ([0.2, 0.9], [0.3, 0.4], [0.5]):
        writer = writer_of(run)
        step = (head(run) or commit(writer, 1, 0.0)).step
        for metric in metrics:
            step += 10
            commit(writer, step, metric)
            retain(run, keep_last=1, keep_best=1, higher_is_better=True)
            assert collect(run) == []
    assert [manifest.metric for manifest in chain(run)] == [0.5, 0.9]


def test_the_parent_outlives_a_head_that_cannot_be_used(run: RunStore) -> None:
    made = commits(run, [None, None, None])
    damage(run, made[2], "a bit flipped in a data file")
    assert retain(run, keep_last=1, keep_best=0, higher_is_better=True) == [made[0].name]
    assert head(run) == made[1]


def test_a_kill_between_any_two_deletes_leaves_the_head_and_the_best_whole() -> None:
    for fuse in range(1, 20):
        store = mortal_memory()
        run = new_run(store)
        made = commits(run, [0.1, 0.9, 0.2, 0.3, 0.4])
        store.fuse = fuse
        try:
            retain(run, keep_last=1, keep_best=1, higher_is_better=True)
            survived = True
        except Killed:
            survived = False
        store.fuse = None
        assert head(run) == made[-1]
        history = chain(run)
        assert made[1] in history
        # Whatever still has its manifest still has its files.
        assert [verify(run, manifest) for manifest in history] == [[]] * len(history)
        begin(run)
        collect(run)
        retain(run, keep_last=1, keep_best=1, higher_is_better=True)
        assert folders(run) == sorted(m.name for m in (made[1], made[-1]))
        if survived:
            return
    raise AssertionError("retention never came to its end")


def test_what_a_dead_writer_left_is_collected_once_a_successor_has_started(
    mortal: RunStore,
) -> None:
    writer = writer_of(mortal)
    made = commit(writer, 10)
    left = half_written(mortal, writer, 20)
    assert collect(mortal) == []
    begin(mortal, attempt=False)
    assert collect(mortal) == [left]
    assert folders(mortal) == [made.name]
    assert collect(mortal) == []


def test_what_a_live_writer_is_writing_is_never_collected(mortal: RunStore) -> None:
    writer_of(mortal)
    writer = writer_of(mortal)
    commit(writer, 10)
    left = half_written(mortal, writer, 20)
    assert collect(mortal) == []
    assert left in folders(mortal)


def test_what_a_writer_gave_up_before_its_next_commit_is_collected(mortal: RunStore) -> None:
    writer = writer_of(mortal)
    left = half_written(mortal, writer, 10)
    made = commit(writer, 20)
    assert collect(mortal) == [left]
    assert chain(mortal) == [made]


def test_what_an_ended_attempt_left_is_collected(mortal: RunStore) -> None:
    writer = writer_of(mortal)
    made = commit(writer, 10)
    left = half_written(mortal, writer, 20)
    mortal.write_exit(
        ExitRecord(attempt=1, phase=Phase.FAILED, message="killed", step=10, seconds={})
    )
    assert collect(mortal) == [left]
    assert chain(mortal) == [made]


def test_a_claim_without_a_start_lets_nothing_be_collected(mortal: RunStore) -> None:
    writer = writer_of(mortal)
    left = half_written(mortal, writer, 10)
    mortal.claim_attempt(Writer.here())
    assert collect(mortal) == []
    assert left in folders(mortal)


def test_the_late_write_of_a_fenced_writer_is_collected(mortal: RunStore) -> None:
    store = mortal.store
    assert isinstance(store, MortalStore)
    writer = writer_of(mortal)
    made = commit(writer, 10)
    store.hold_manifests = True
    with pytest.raises(Killed):
        commit(writer, 20)
    store.hold_manifests = False
    begin(mortal)
    assert store.held is not None
    Store(store.uri).create(*store.held)
    (late,) = set(folders(mortal)) - {made.name}
    assert collect(mortal) == [late]
    assert folders(mortal) == [made.name]


def test_a_late_manifest_over_collected_data_is_passed_over(mortal: RunStore) -> None:
    store = mortal.store
    assert isinstance(store, MortalStore)
    writer = writer_of(mortal)
    made = commit(writer, 10)
    store.hold_manifests = True
    with pytest.raises(Killed):
        commit(writer, 20)
    store.hold_manifests = False
    begin(mortal, attempt=False)
    assert len(collect(mortal)) == 1
    assert store.held is not None
    Store(store.uri).create(*store.held)
    assert head(mortal) == made
    assert len(collect(mortal)) == 1
    assert folders(mortal) == [made.name]


def test_damaged_manifests_above_the_head_stay_until_a_start_passed_them_over(
    run: RunStore,
) -> None:
    first, second, third = commits(run, [None, None, None])
    overwrite(run, second.key, b"")
    overwrite(run, third.key, b"")
    assert head(run) == first
    assert collect(run) == []
    writer = writer_of(run)
    assert sorted(collect(run)) == [second.name, third.name]
    made = commit(writer, 40)
    assert chain(run) == [made, first]


def test_a_damaged_manifest_below_the_head_is_collected(run: RunStore) -> None:
    first, second, third = commits(run, [None, None, None])
    overwrite(run, second.key, b"{")
    assert collect(run) == [second.name]
    assert chain(run) == [third, first]


def test_folders_that_are_none_of_ours_are_left_alone(run: RunStore) -> None:
    made = commits(run, [None])
    run.store.put(run.key("checkpoints", "my-notes", "readme.md"), b"mine")
    begin(run)
    assert collect(run) == []
    assert retain(run, keep_last=1, keep_best=0, higher_is_better=True) == []
    assert folders(run) == sorted(["my-notes", made[0].name])


def test_empty_folders_and_half_written_files_are_collected_from_a_disk(disk: Store) -> None:
    run = new_run(disk)
    writer_of(run)
    folder = disk.local_path(run.key("checkpoints"))
    assert folder is not None
    (folder / "00000010-1.1.1-aaaaaa").mkdir(parents=True)
    (folder / "00000010-1.1.2-bbbbbb").mkdir()
    (folder / "00000010-1.1.2-bbbbbb" / "model.safetensors#1").write_bytes(b"half")
    assert collect(run) == []
    begin(run)
    assert collect(run) == ["00000010-1.1.1-aaaaaa", "00000010-1.1.2-bbbbbb"]
    assert list(folder.iterdir()) == []


def test_a_commit_between_the_two_looks_of_a_collection_is_not_debris() -> None:
    class Interleaved(MortalStore):
        """After the starts have been read, a writer commits and a successor starts."""

        def list(self, prefix: str) -> list[tuple[str, int]]:
            found = super().list(prefix)
            if armed and prefix.endswith("/attempts"):
                armed.clear()
                made.append(commit(writer, 20))
                begin(run)
            return found

    armed: list[int] = []
    made: list[Manifest] = []
    run = new_run(Interleaved(mortal_memory().uri))
    writer = writer_of(run)
    commit(writer, 10)
    armed.append(1)
    assert collect(run) == []
    assert head(run) == made[0]


def test_retention_and_collection_of_an_empty_run_do_nothing(run: RunStore) -> None:
    assert retain(run, keep_last=1, keep_best=1, higher_is_better=True) == []
    assert collect(run) == []
    made = commits(run, [0.5])
    remove(run, made[0].key)
    assert retain(run, keep_last=1, keep_best=1, higher_is_better=True) == []


def test_half_written_records_are_swept_from_a_disk(disk: Store) -> None:
    run = new_run(disk)
    folder = disk.local_path(run.key())
    assert folder is not None
    run.put_json("plan.json", {"a": 1})
    run.put_json("issue #1 notes.json", {})
    for name in ("plan.json#1", "attempts/0001/CLAIM#12", "report/report.html#1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("half")
    sweep(run)
    left = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert left == ["RUN.json", "issue #1 notes.json", "plan.json"]


def test_one_bundle_is_kept_and_what_a_kill_left_of_others_goes(run: RunStore) -> None:
    for name in ("aaaa/config.json", "aaaa/tunefleet/bundle.json", "bbbb/config.json"):
        run.store.put(run.key("bundle", name), b"{}")
    assert keep_bundle(run, "aaaa") == ["bbbb"]
    assert run.store.folders(run.key("bundle")) == ["aaaa"]
    assert len(run.store.list(run.key("bundle"))) == 2
