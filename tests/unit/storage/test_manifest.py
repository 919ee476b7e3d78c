"""A manifest is read only as it was written, and a file only as the manifest states it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.storage.harness import (
    DAMAGES,
    DATA_FILES,
    FILES,
    commit,
    damage,
    overwrite,
    remove,
    rewritten,
    writer_of,
)
from tunefleet.api.errors import StorageError
from tunefleet.storage.faults import MissingError
from tunefleet.storage.manifest import (
    DamagedError,
    Mark,
    check_file,
    checkpoint_name,
    load_manifest,
    local_copy,
    mark_of,
    mark_of_key,
    take_file,
    verify,
)
from tunefleet.storage.run import RunStore


@given(*[st.integers(0, 2**53)], *[st.integers(1, 10**9 - 1)] * 3)
def test_a_name_tells_its_step_and_writer(step: int, attempt: int, start: int, nth: int) -> None:
    name = checkpoint_name(step, attempt, start, nth, "ab12cd")
    assert mark_of(name) == Mark(attempt, start, nth, step, name)


@pytest.mark.parametrize(
    "name",
    ["", "best", "00000120-1.1-ab12cd", "120-1.1.1-ab12cd", "00000120-1.1.1-AB12CD", "..", "x/y"],
)
def test_other_names_are_none_of_ours(name: str) -> None:
    assert mark_of(name) is None
    assert mark_of_key(f"checkpoints/{name}/MANIFEST.json") is None


def test_a_whole_checkpoint_has_no_problems(run: RunStore) -> None:
    made = commit(writer_of(run), 10)
    assert load_manifest(run, made.key) == made
    assert verify(run, made) == []
    assert made.bytes == sum(len(body) + 2 for body in FILES.values())


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found_and_named(run: RunStore, kind: str, tmp_path: Path) -> None:
    made = commit(writer_of(run), 10)
    damage(run, made, kind)
    if "manifest" in kind:
        error = MissingError if "deleted" in kind else DamagedError
        with pytest.raises(error, match=made.name):
            load_manifest(run, made.key)
        return
    (problem,) = verify(run, made)
    assert problem.startswith(f"{made.name}/{DATA_FILES[0]} ")
    with pytest.raises(MissingError if "deleted" in kind else DamagedError):
        take_file(run, made, DATA_FILES[0], tmp_path)
        check_file(run, made, DATA_FILES[0], tmp_path)


def test_every_altered_byte_of_a_manifest_is_found(run: RunStore) -> None:
    made = commit(writer_of(run), 10, metric=0.5)
    text = run.store.get(run.key(made.key))
    passed = 0
    for place in range(0, len(text), 3):
        overwrite(run, made.key, text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        try:
            assert load_manifest(run, made.key) == made  # a changed blank changes nothing
            passed += 1
        except StorageError:
            continue
    assert passed < len(text) / 30


def test_a_manifest_of_a_newer_version_is_refused_and_not_passed_over(run: RunStore) -> None:
    made = commit(writer_of(run), 10)
    overwrite(run, made.key, b'{"version": 2, "shards": {}}')
    with pytest.raises(StorageError, match="newer tunefleet") as caught:
        load_manifest(run, made.key)
    assert not isinstance(caught.value, DamagedError)


@pytest.mark.parametrize("changes", [{"attempt": 2}, {"start": 2}, {"sequence": 5}], ids=str)
def test_a_manifest_that_contradicts_its_folder_is_damaged(
    run: RunStore, changes: dict[str, object]
) -> None:
    made = commit(writer_of(run), 10)
    rewritten(run, made, **changes)
    with pytest.raises(DamagedError, match="another start"):
        load_manifest(run, made.key)


def test_a_file_is_had_as_a_path_wherever_it_is_kept(run: RunStore, tmp_path: Path) -> None:
    made = commit(writer_of(run), 10)
    for name in DATA_FILES:
        body = FILES[name] + b"10"
        fetched = take_file(run, made, name, tmp_path / "scratch")
        assert fetched == (run.store.local_path("x") is None)
        assert local_copy(run, made, name, tmp_path / "scratch").read_bytes() == body
        check_file(run, made, name, tmp_path / "scratch")
    local = run.store.local_path("x") is not None
    assert (tmp_path / "scratch").exists() is not local


def test_a_file_the_checkpoint_never_had_is_named_with_those_it_has(
    run: RunStore, tmp_path: Path
) -> None:
    made = commit(writer_of(run), 10)
    with pytest.raises(MissingError, match=r"holds no optimizer\.bin") as caught:
        take_file(run, made, "optimizer.bin", tmp_path)
    assert "ADAM.safetensors" in caught.value.remedy


def test_all_problems_of_a_checkpoint_are_named_at_once(run: RunStore) -> None:
    made = commit(writer_of(run), 10)
    for name in DATA_FILES:
        remove(run, f"checkpoints/{made.name}/{name}")
    assert len(verify(run, made)) == len(DATA_FILES)
