"""A run's checkpoints in a bucket: what holds on disk holds there, damage included."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.checkpoints import head, read_file
from tests.testbed.s3 import S3Server
from tests.unit.storage.harness import (
    DAMAGES,
    begin,
    commit,
    damage,
    new_run,
    overwrite,
    rewritten,
    writer_of,
)
from tunefleet.api.errors import StorageError
from tunefleet.storage.bundle import publish, seal
from tunefleet.storage.chain import chain, find_head
from tunefleet.storage.checkpoints import check_file, local_copy, take_file
from tunefleet.storage.copies import Copies
from tunefleet.storage.faults import FencedError
from tunefleet.storage.retention import collect, retain
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store

_names = itertools.count()


@pytest.fixture
def run(s3_environment: S3Server) -> RunStore:
    return new_run(open_store(s3_environment.uri(f"runs/{next(_names)}"), Path.cwd()))


def test_a_checkpoint_in_a_bucket_is_read_back_checked(run: RunStore, tmp_path: Path) -> None:
    made = commit(writer_of(run), 10)
    assert head(run) == made
    for name, entry in made.files.items():
        assert take_file(run, made, name, tmp_path), "it was hashed on its way"
        check_file(run, made, name, tmp_path)
        path = local_copy(run, made, name, tmp_path)
        assert path.read_bytes() == read_file(run, made, name)
        assert path.stat().st_size == entry.size
    assert RunStore.newest(run.store, "default", "reviews") == run


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_head_in_a_bucket_is_passed_over(run: RunStore, kind: str) -> None:
    writer = writer_of(run)
    parent, newest = commit(writer, 10), commit(writer, 20)
    damage(run, newest, kind)
    search = find_head(run)
    assert search.head == parent
    assert bool(search.passed_over) == (kind != "the manifest deleted")


def test_an_older_writer_is_fenced_in_a_bucket_and_its_debris_collected(run: RunStore) -> None:
    zombie = writer_of(run)
    first = commit(zombie, 10)
    second = writer_of(run)
    with pytest.raises(FencedError, match="taken over by attempt 2"):
        commit(zombie, 20)
    third = commit(second, 30)
    retain(run, keep_last=1, keep_best=0, higher_is_better=True)
    collect(run)
    assert head(run) == third
    names = {
        key.split("/checkpoints/")[1].split("/")[0]
        for key, _ in run.store.list("")
        if "/checkpoints/" in key
    }
    assert names == {third.name}
    assert first.name not in names


def test_a_manifest_of_a_newer_version_in_a_bucket_is_refused(run: RunStore) -> None:
    writer = writer_of(run)
    commit(writer, 10)
    overwrite(run, commit(writer, 20).key, json.dumps({"version": 2}).encode())
    for act in (lambda: head(run), lambda: begin(run)):
        with pytest.raises(StorageError, match="newer tunefleet") as caught:
            act()
        assert caught.value.exit_code == 2
        assert "upgrade tunefleet" in caught.value.remedy


@pytest.mark.parametrize("to", ["itself", "the next"])
def test_a_loop_of_parents_in_a_bucket_is_an_error(run: RunStore, to: str) -> None:
    writer = writer_of(run)
    first, second = commit(writer, 10), commit(writer, 20)
    rewritten(run, first, parent=first.key if to == "itself" else second.key)
    with pytest.raises(StorageError, match="the history is a loop") as caught:
        chain(run)
    assert caught.value.exit_code == 2
    assert "--fresh" in caught.value.remedy


def test_a_bundle_published_to_a_bucket_comes_back_the_same(run: RunStore, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / "tunefleet").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    digest = seal(folder, {})
    made = publish(run, folder)
    assert made.path == ""
    assert made.digest == digest
    copy = Copies(tmp_path / "cache").folder(made.uri)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(folder)).read_bytes() == path.read_bytes()
