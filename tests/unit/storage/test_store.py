"""A store keeps bytes under keys: atomically, once where asked, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.storage.harness import mortal_memory
from tunefleet.api.errors import StorageError
from tunefleet.storage.probe import probe
from tunefleet.storage.store import MissingError, Store, open_store


def test_what_was_put_is_read_back(store: Store) -> None:
    store.put("a/b.bin", b"one")
    store.put("a/b.bin", b"two")
    assert store.get("a/b.bin") == b"two"
    assert store.exists("a/b.bin")
    assert not store.exists("a")
    assert not store.exists("a/b.bin/c")


@pytest.mark.parametrize("size", [0, 1, (8 << 20) + 1], ids=["empty", "a byte", "two chunks"])
@pytest.mark.parametrize("kind", ["bytes", "memoryview", "file"])
def test_size_and_sha256_are_those_of_the_bytes_sent(
    store: Store, tmp_path: Path, kind: str, size: int
) -> None:
    body = os.urandom(size)
    (tmp_path / "source").write_bytes(body)
    kinds: dict[str, bytes | memoryview | Path] = {
        "bytes": body,
        "memoryview": memoryview(body),
        "file": tmp_path / "source",
    }
    sent = kinds[kind]
    assert store.write("x", sent) == (size, hashlib.sha256(body).hexdigest())
    assert store.digest("x") == (size, hashlib.sha256(body).hexdigest())
    assert store.get("x") == body


def test_a_view_of_numbers_is_written_as_its_bytes(store: Store) -> None:
    store.put("x", memoryview(bytes(range(24))).cast("B", (2, 3, 4)))
    assert store.get("x") == bytes(range(24))
    store.put("x", memoryview(b"").cast("I"))
    assert store.get("x") == b""


def test_create_succeeds_once(store: Store) -> None:
    assert store.create("claim", b"one")
    assert not store.create("claim", b"two")
    assert store.get("claim") == b"one"


def test_of_many_threads_that_create_one_key_one_succeeds(store: Store) -> None:
    won: list[int] = []
    gate = threading.Barrier(8)

    def attempt(me: int) -> None:
        gate.wait()
        if store.create("claim", str(me).encode()):
            won.append(me)

    threads = [threading.Thread(target=attempt, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.get("claim")] == [str(me).encode() for me in won]


def test_listing_is_sorted_recursive_and_by_whole_folder_names(store: Store) -> None:
    for key in ("run/b", "run/a/z", "run-2/a", "other"):
        store.put(key, b"12")
    assert store.list("run") == [("run/a/z", 2), ("run/b", 2)]
    assert [key for key, _ in store.list("")] == ["other", "run-2/a", "run/a/z", "run/b"]
    assert store.folders("") == ["run", "run-2"]
    assert store.folders("run") == ["a"]
    assert store.list("nowhere") == []
    assert store.folders("nowhere") == []


def test_deleting_what_is_missing_is_fine(store: Store) -> None:
    store.put("a/x", b"1")
    store.delete(["a/y", "a/x", "a/x", "b/c/d"])
    assert store.list("") == []
    store.delete([])


def test_deleting_a_folder_takes_half_written_files_and_empty_folders_along(disk: Store) -> None:
    disk.put("c/one/data", b"1")
    folder = disk.local_path("c/one")
    assert folder is not None
    (folder / "data#1").write_bytes(b"half")
    (folder / "empty").mkdir()
    disk.delete_folder("c/one")
    assert disk.folders("c") == []
    assert disk.local_path("c/one") == folder
    assert not folder.exists()


def test_a_missing_object_is_a_missing_error(store: Store) -> None:
    with pytest.raises(MissingError, match="nothing/here"):
        store.get("nothing/here")
    store.put("x", b"")
    with pytest.raises(MissingError, match="nothing/here"):
        store.digest("nothing/here")


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = open_store("deep/runs", tmp_path)
    assert store.list("") == []
    assert store.folders("") == []
    assert not store.exists("x")
    store.delete(["x"])
    store.delete_folder("x")
    assert not (tmp_path / "deep").exists()
    store.put("x", b"1")
    assert (tmp_path / "deep" / "runs" / "x").read_bytes() == b"1"


def test_a_store_is_the_same_after_pickling_and_by_its_uri(store: Store) -> None:
    store.put("x", b"1")
    assert pickle.loads(pickle.dumps(store)).get("x") == b"1"
    assert open_store(store.uri, Path("/nowhere")).get("x") == b"1"


def test_memory_stores_of_two_names_share_nothing() -> None:
    one, other = mortal_memory(), mortal_memory()
    one.put("x", b"1")
    assert not other.exists("x")
    assert one.local_path("x") is None


@pytest.mark.parametrize(
    "uri, where",
    [
        ("runs", "base/runs"),
        ("./a/../runs", "base/runs"),
        ("../runs", "runs"),
        ("with space & 100%", "base/with space & 100%"),
    ],
)
def test_a_path_is_taken_relative_to_its_base(uri: str, where: str, tmp_path: Path) -> None:
    store = open_store(uri, tmp_path / "base")
    store.put("x", b"1")
    assert (tmp_path / where / "x").is_file()
    assert store.uri == (tmp_path / where).as_uri()
    assert open_store(store.uri, tmp_path).local_path("x") == tmp_path / where / "x"


@pytest.mark.parametrize(
    "uri, says",
    [
        ("ftp://host/x", "there is no store for ftp://"),
        ("file://host/x", "is no local folder"),
        ("file:/x", "two slashes"),
        ("s3:bucket", "two slashes"),
        ("", "no place"),
        ("a\nb", "no place"),
    ],
)
def test_a_uri_that_names_no_store_is_refused(uri: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        open_store(uri, tmp_path)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["file", "memory", "s3", "gs", "az"])
def test_a_folder_may_be_called_like_a_kind_of_store(name: str, tmp_path: Path) -> None:
    assert open_store(name, tmp_path).uri == (tmp_path / name).as_uri()


@pytest.mark.parametrize("uri", ["s3://bucket/models", "gs://bucket", "az://container/x"])
def test_remote_stores_are_known_and_not_contacted_when_opened(uri: str, tmp_path: Path) -> None:
    store = open_store(uri + "/", tmp_path)
    assert store.uri == uri
    assert store.local_path("x") is None
    store.flush(["x"])


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/x",
        "x/",
        "a//b",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a\nb",
        "a\\b",
        "a\0b",
        "w#1",
    ],
)
def test_a_key_that_could_leave_the_store_is_refused(key: str, disk: Store, tmp_path: Path) -> None:
    for act in (
        lambda: disk.put(key, b"1"),
        lambda: disk.create(key, b"1"),
        lambda: disk.get(key),
        lambda: disk.exists(key),
        lambda: disk.delete([key]),
        lambda: disk.local_path(key),
        lambda: disk.flush([key]),
    ):
        with pytest.raises(StorageError, match="no key of a store"):
            act()
    assert list(tmp_path.iterdir()) == []


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(NAMES, min_size=1, max_size=3))
def test_every_key_is_refused_or_listed_as_it_was_put(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = "/".join(parts)
    for store in (open_store("s", tmp_path_factory.mktemp("keys")), mortal_memory()):
        try:
            store.put(key, b"1")
        except StorageError:
            continue
        assert store.list("") == [(key, 1)]
        assert store.get(key) == b"1"
        path = store.local_path(key)
        assert path is None or path.read_bytes() == b"1"
        store.delete([key])
        assert store.list("") == []


def test_a_download_is_a_copy_of_the_folder(store: Store, tmp_path: Path) -> None:
    store.put("b/1/config.json", b"{}")
    store.put("b/1/deep/weights", b"w" * 1000)
    store.put("b/12/config.json", b"not this one")
    store.download("b/1", tmp_path / "copy")
    found = sorted(path for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert [path.relative_to(tmp_path / "copy").as_posix() for path in found] == [
        "config.json",
        "deep/weights",
    ]
    assert found[1].read_bytes() == b"w" * 1000


def test_a_large_file_or_view_is_not_held_in_memory_twice(disk: Store, tmp_path: Path) -> None:
    size = 160 << 20
    unit = 1 if sys.platform == "darwin" else 1024

    def grown(act: Callable[[], object]) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        act()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit

    with (tmp_path / "source").open("wb") as file:
        file.truncate(size)
    assert grown(lambda: disk.put("file", tmp_path / "source")) < size - (32 << 20)
    assert grown(lambda: disk.digest("file")) < size - (32 << 20)
    view = memoryview(b"1" * size)
    assert grown(lambda: disk.put("view", view)) < size - (32 << 20)
    assert disk.list("") == [("file", size), ("view", size)]


def test_a_probe_measures_and_leaves_nothing(store: Store) -> None:
    facts = probe(store)
    assert facts.conditional_put
    assert facts.write_bytes_per_second is not None
    assert facts.write_bytes_per_second > 0
    assert facts.uri == store.uri
    assert store.list("") == []


def test_a_probe_does_not_leave_the_folder_it_made(disk: Store, tmp_path: Path) -> None:
    probe(disk)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_probe_left_goes_with_the_next_one(tmp_path: Path) -> None:
    _in_another_process(
        tmp_path,
        """
        from tunefleet.storage.probe import probe
        store.flush = lambda keys: os._exit(0)
        probe(store)
        """,
    )
    disk = open_store("runs", tmp_path)
    assert [size for _, size in disk.list("")] == [1, 8 << 20]
    disk.put(".tunefleet-probe/another-machine_1_1.0_ab/once", b"1")
    probe(disk)
    assert [key for key, _ in disk.list("")] == [".tunefleet-probe/another-machine_1_1.0_ab/once"]


def test_a_store_that_does_not_refuse_a_second_conditional_write_is_refused() -> None:
    class Careless(Store):
        def create(self, key: str, body: bytes) -> bool:
            self.put(key, body)
            return True

    store = Careless(mortal_memory().uri)
    with pytest.raises(StorageError, match="second conditional write"):
        probe(store)
    assert store.list("") == []


def test_a_file_where_a_folder_is_needed_is_named_when_the_store_is_opened(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(StorageError, match="is a file"):
        open_store("runs", tmp_path)
    with pytest.raises(StorageError, match="is a file"):
        open_store("runs/below", tmp_path)
    assert (tmp_path / "runs").read_text() == "mine"


def _in_another_process(base: Path, code: str) -> str:
    head = """
        import os, resource, sys
        from pathlib import Path
        from tunefleet.api.errors import StorageError
        from tunefleet.storage.store import open_store
        store = open_store("runs", Path(sys.argv[1]))
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", text, str(base)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_without_room_is_a_storage_error_that_says_what_to_do(tmp_path: Path) -> None:
    # A limit on the size of files fails in the same place as a full disk and needs no rights.
    said = _in_another_process(
        tmp_path,
        """
        store.put("kept", b"1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for body in (bytes(2 << 20), memoryview(bytes(20 << 20))):
            try:
                store.put("large", body)
            except StorageError as error:
                print(error)
        print(store.list(""), os.listdir(store.local_path("x").parent))
        """,
    )
    assert said.count("free some space") == 2
    assert "[('kept', 1)] ['kept']" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stop being root")
def test_a_folder_of_somebody_else_is_a_storage_error_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    said = _in_another_process(
        tmp_path,
        """
        os.setgid(65534); os.setuid(65534)
        try:
            store.put("x", b"1")
        except StorageError as error:
            print(error)
        """,
    )
    assert "mend the rights" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_storage_error_that_says_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StorageError, match="mend the rights"):
            open_store("runs", tmp_path).put("x", b"1")
    finally:
        tmp_path.chmod(0o755)
