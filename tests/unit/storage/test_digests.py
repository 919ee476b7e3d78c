"""A file hashed on its own, or beside what it is read for: the same digest."""

from __future__ import annotations

import errno
import hashlib
import io
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.api.errors import StorageError
from tunefleet.storage import digests
from tunefleet.storage.digests import HashedReader, digest_of_file

BODY = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digests") / "file"
    path.write_bytes(BODY)
    return path


@given(
    sizes=st.lists(st.integers(0, 30_000), max_size=8), piece=st.sampled_from([7, 4096, 1 << 20])
)
def test_however_it_is_read_the_whole_file_is_hashed(
    file: Path, sizes: list[int], piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patched, HashedReader(file) as reader:
        patched.setattr(digests, "_PIECE", piece)
        read = b""
        for size in sizes:
            buffer = bytearray(size)
            count = reader.readinto(buffer)
            assert count <= min(size, piece)
            read += buffer[:count]
        assert BODY.startswith(read)
        whole = (len(BODY), hashlib.sha256(BODY).hexdigest())
        assert reader.digest() == whole == digest_of_file(file)


def test_a_disk_that_fails_is_told_with_the_file_and_a_remedy(file: Path) -> None:
    class Failing(io.FileIO):
        def readinto(self, buffer: object, /) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with HashedReader(file) as reader:
        vars(reader)["_file"].close()
        vars(reader)["_file"] = Failing(file)
        with pytest.raises(StorageError, match="Input/output error") as told:
            reader.readall()
    assert str(file) in told.value.message
    assert told.value.remedy
    with pytest.raises(StorageError, match="none"):
        HashedReader(file.with_name("none"))


def test_what_is_still_hashed_can_be_read_past(file: Path) -> None:
    """A library that shortens the buffer it read into would fail while a thread hashes it."""
    with HashedReader(file) as reader:
        hold = threading.Event()
        reader._pool.submit(hold.wait)
        assert reader.read(100) == BODY[:100]
        assert reader.readall() == BODY[100:]
        hold.set()
        assert reader.digest() == digest_of_file(file)


def test_read_to_its_end_it_says_so(file: Path) -> None:
    with HashedReader(file) as reader:
        assert reader.readall() == BODY
        assert reader.read(1) == b""
        assert reader.name == str(file)
    assert reader.closed
