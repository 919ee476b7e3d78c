"""Remote objects are fetched once, known by their version, and checked when reused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from tests.testbed.s3 import S3Server
from tunefleet.api.errors import StorageError
from tunefleet.storage import copies as module
from tunefleet.storage.connect import Patience
from tunefleet.storage.copies import Copies
from tunefleet.storage.listing import Entry
from tunefleet.storage.store import Store, open_store

_names = itertools.count()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is not there is given up after a second."""
    monkeypatch.setattr(Patience, "seconds", property(lambda self: 1))


@pytest.fixture
def store(s3_environment: S3Server) -> Store:
    return open_store(s3_environment.uri(f"copies/{next(_names)}"), Path.cwd())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were fetched."""
    seen: list[str] = []
    original = Store.fetch

    def fetch(self: Store, key: str, path: Path) -> tuple[int, str]:
        seen.append(key.rsplit("/", 1)[-1])
        return original(self, key, path)

    monkeypatch.setattr(Store, "fetch", fetch)
    return seen


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv", "b c%20.csv"]),
        ("?.csv", ["a.csv"]),
        ("[ab].csv", ["a.csv"]),
        ("**/*.csv", ["a.csv", "b c%20.csv", "deep/d.csv", "deep/er/e.csv"]),
        ("*/*.csv", ["deep/d.csv"]),
        ("**", ["a.csv", "b c%20.csv", "deep/d.csv", "deep/er/e.csv", "z.json"]),
        ("none-*.csv", []),
        ("none.csv", []),
        ("deep", []),
    ],
)
def test_a_pattern_names_objects_as_it_names_files(
    store: Store, tmp_path: Path, pattern: str, names: list[str]
) -> None:
    for name in ("a.csv", "b c%20.csv", "deep/d.csv", "deep/er/e.csv", "z.json", ".hidden.csv"):
        store.put(name, name.encode())
    found = Copies(tmp_path).files(f"{store.uri}/{pattern}")
    assert [copy.uri for copy in found] == [f"{store.uri}/{name}" for name in names]
    assert [copy.path.read_text() for copy in found] == names
    assert [copy.path.name for copy in found] == [name.rsplit("/", 1)[-1] for name in names]


def test_an_object_is_fetched_once_and_again_when_it_changed(
    store: Store, tmp_path: Path, fetched: list[str]
) -> None:
    store.put("a.csv", b"one")
    store.put("b.csv", b"two")
    uri = f"{store.uri}/*.csv"
    first = Copies(tmp_path).files(uri)
    assert sorted(fetched) == ["a.csv", "b.csv"]
    assert Copies(tmp_path).files(uri) == first
    assert len(fetched) == 2
    store.put("a.csv", b"eno")  # of the same size
    second = Copies(tmp_path).files(uri)
    assert fetched[2:] == ["a.csv"]
    assert [copy.path.read_bytes() for copy in second] == [b"eno", b"two"]
    assert first[0].path.read_bytes() == b"one"


@pytest.mark.parametrize("damage", [b"", b"xne", b"one more"], ids=["cut", "altered", "longer"])
def test_a_damaged_copy_is_fetched_again(store: Store, tmp_path: Path, damage: bytes) -> None:
    store.put("a.csv", b"one")
    (copy,) = Copies(tmp_path).files(f"{store.uri}/a.csv")
    copy.path.write_bytes(damage)
    (again,) = Copies(tmp_path).files(f"{store.uri}/a.csv")
    assert again.path.read_bytes() == b"one"


def test_a_copy_that_was_only_touched_is_kept(
    store: Store, tmp_path: Path, fetched: list[str]
) -> None:
    store.put("a.csv", b"one")
    (copy,) = Copies(tmp_path).files(f"{store.uri}/a.csv")
    os.utime(copy.path, (1, 1))
    assert Copies(tmp_path).files(f"{store.uri}/a.csv") == [copy]
    assert fetched == ["a.csv"]


def test_a_store_that_is_away_is_answered_from_the_copies_and_said_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a.csv", b"one")
    known = Copies(tmp_path).files(f"{store.uri}/*.csv")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    copies = Copies(tmp_path)
    assert copies.files(f"{store.uri}/*.csv") == known
    assert len(copies.notes) == 1
    assert "cannot be reached" in copies.notes[0]
    with pytest.raises(StorageError, match="other"):
        Copies(tmp_path).files(f"{store.uri}/other.csv")


def test_a_folder_comes_whole_or_without_what_is_skipped(store: Store, tmp_path: Path) -> None:
    for name in ("config.json", "pytorch_model.bin", "tunefleet/bundle.json"):
        store.put(f"model/{name}", name.encode())
    store.put("model-2/config.json", b"another")
    told: list[tuple[int, int]] = []
    copies = Copies(tmp_path, lambda stage, done, total: told.append((done, total)))
    folder = copies.folder(f"{store.uri}/model", skip=["*.bin"])
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"config.json", "tunefleet/bundle.json"}
    assert told[0] == (0, 1)
    assert copies.folder(f"{store.uri}/model/", skip=["*.bin"]) == folder
    copies.forget(folder)
    assert not folder.exists()
    with pytest.raises(StorageError, match="there is nothing in"):
        copies.folder(f"{store.uri}/mode")


def test_an_object_that_grows_while_it_is_fetched_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a.csv", b"one")
    original = module._matching

    def late(where: Store, pattern: str) -> list[Entry]:
        found = original(where, pattern)
        store.put("a.csv", b"longer")
        return found

    monkeypatch.setattr(module, "_matching", late)
    with pytest.raises(StorageError, match="changed while it was fetched"):
        Copies(tmp_path).files(f"{store.uri}/a.csv")


@pytest.mark.parametrize("key", ["../a.csv", "x/../../a.csv", "./a.csv"])
def test_a_key_that_leaves_the_bucket_is_refused(
    s3_environment: S3Server, tmp_path: Path, key: str
) -> None:
    with pytest.raises(StorageError, match="no key of a store"):
        Copies(tmp_path).files(s3_environment.uri(key))
