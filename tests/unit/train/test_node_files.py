"""A checkpoint's files are read from a store once, whoever asks first."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from tunefleet.storage.checkpoints import (
    CheckpointWriter,
    DamagedError,
    Manifest,
    load_manifest,
    local_copy,
)
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import Store, open_store
from tunefleet.train.failures import classify
from tunefleet.train.group import Group
from tunefleet.train.node_files import NodeFiles
from tunefleet.train.starts import begin

FILES = {"weights": b"w" * 100, "moments": b"m" * 200}
_names = itertools.count()


class Counting(Store):
    """A store that notes which objects are read."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.read: list[str] = []

    def fetch(self, key: str, path: Path) -> tuple[int, str]:
        self.read.append(key.rsplit("/", 1)[-1])
        return super().fetch(key, path)

    def digest(self, key: str) -> tuple[int, str]:
        self.read.append(key.rsplit("/", 1)[-1])
        return super().digest(key)


def committed(store: Store) -> tuple[RunStore, Manifest]:
    run = RunStore.create(store, "default", "job")
    claim = run.claim_attempt(Writer.here())
    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    return run, writer.commit(4, FILES, metric=None, chain="", digests={})


def test_a_remote_checkpoint_is_read_once_to_claim_and_to_restore(tmp_path: Path) -> None:
    store = Counting(f"memory://node-files-{next(_names)}")
    run, _ = committed(store)
    files = NodeFiles(run, Group(), 0, tmp_path)
    store.read.clear()
    start = begin(run, 1, workers=1, max_failures=3, scratch=files.folder)
    assert not hasattr(start, "message"), "it goes on"
    manifest = load_manifest(run, getattr(start, "resumed_from", ""))
    with files.of(manifest, *FILES) as opened:
        assert {name: opened(name).readall() for name in FILES} == FILES
    assert sorted(store.read) == sorted(FILES)
    assert not files.folder.exists(), "nothing is left on the node"


def test_files_of_this_machine_are_used_where_they_lie(tmp_path: Path) -> None:
    run, manifest = committed(open_store(str(tmp_path / "runs"), tmp_path))
    with NodeFiles(run, Group(), 0, tmp_path / "scratch").of(manifest, "weights") as opened:
        assert Path(str(opened("weights").name)).is_relative_to(tmp_path / "runs")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_an_altered_file_is_refused(tmp_path: Path, where: str) -> None:
    uri = f"memory://node-files-{next(_names)}" if where == "memory" else str(tmp_path / "runs")
    run, manifest = committed(open_store(uri, tmp_path))
    run.store.put(run.key("checkpoints", manifest.name, "weights"), b"v" * 100)
    files = NodeFiles(run, Group(), 0, tmp_path / "scratch")
    with pytest.raises(DamagedError, match="altered"), files.of(manifest, *FILES) as opened:
        opened("weights")


def test_what_an_altered_file_leads_to_is_told_as_its_cause(tmp_path: Path) -> None:
    run, manifest = committed(open_store(str(tmp_path / "runs"), tmp_path))
    run.store.put(run.key("checkpoints", manifest.name, "weights"), b"v" * 100)
    files = NodeFiles(run, Group(), 0, tmp_path / "scratch")
    with pytest.raises(DamagedError, match="altered"), files.of(manifest, *FILES) as opened:
        raise KeyError(opened("weights").readall())


@pytest.mark.parametrize("body", [b"w" * 99, b"w" * 101], ids=["shorter", "longer"])
def test_a_file_of_another_size_is_never_given(tmp_path: Path, body: bytes) -> None:
    run, manifest = committed(open_store(str(tmp_path / "runs"), tmp_path))
    run.store.put(run.key("checkpoints", manifest.name, "weights"), body)
    files = NodeFiles(run, Group(), 0, tmp_path / "scratch")
    with pytest.raises(DamagedError, match="altered"), files.of(manifest, *FILES) as opened:
        pytest.fail(f"{opened('weights')} was given")


@pytest.mark.parametrize(
    "led_to",
    [
        pytest.param(ValueError("it is no safetensors file"), id="a header that does not read"),
        pytest.param(KeyError("the checkpoint is of another model"), id="a name that differs"),
        pytest.param(OSError(errno.EIO, "Input/output error"), id="a disk that fails"),
    ],
)
def test_what_a_later_process_of_the_node_cannot_read_is_no_fault_of_the_user(
    tmp_path: Path, led_to: Exception
) -> None:
    run, manifest = committed(open_store(str(tmp_path / "runs"), tmp_path))
    files = NodeFiles(run, Group(), 1, tmp_path / "scratch")
    with (
        pytest.raises(DamagedError, match="first process of this node says why") as told,
        files.of(manifest, *FILES),
    ):
        raise led_to
    assert classify(told.value).retryable


def test_what_has_nothing_to_do_with_reading_stays_what_it_is(tmp_path: Path) -> None:
    run, manifest = committed(open_store(str(tmp_path / "runs"), tmp_path))
    files = NodeFiles(run, Group(), 1, tmp_path / "scratch")
    with pytest.raises(MemoryError), files.of(manifest, *FILES):
        raise MemoryError


@pytest.mark.parametrize("body", [b"v" * 100, b"w" * 99], ids=["altered", "cut off"])
def test_a_copy_that_was_damaged_on_the_node_is_fetched_anew_by_the_next_start(
    tmp_path: Path, body: bytes
) -> None:
    run, manifest = committed(open_store(f"memory://node-files-{next(_names)}", tmp_path))
    files = NodeFiles(run, Group(), 0, tmp_path / "scratch")
    copy = local_copy(run, manifest, "weights", files.folder)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(body)
    with pytest.raises(DamagedError), files.of(manifest, *FILES) as opened:
        opened("weights")
    with files.of(manifest, *FILES) as opened:
        assert {name: opened(name).readall() for name in FILES} == FILES
