"""Object storage behind one small type: a text key leads to bytes.

Decides how a URI becomes a store, which keys are allowed, what is atomic and what is
durable. The only importer of obstore in this package; imports ``api`` and ``plan.facts``.

What holds on every store: ``put`` and ``create`` are atomic (a reader sees all of an object
or none of it) and ``create`` succeeds for one writer only. On ``file://`` obstore stages
``<name>#<n>`` beside the target and renames (``put``) or hard-links (``create``) it, and
never calls fsync: after a power cut a renamed file may be short or empty. Call ``flush``
where that matters (checkpoints do); on macOS fsync leaves the drive's own cache, so there
the checksums in manifests are what finds a torn file.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as refused
from obstore.store import LocalStore, MemoryStore, from_url

from tunefleet.api.errors import StorageError
from tunefleet.plan.facts import StorageFacts
from tunefleet.storage.faults import MissingError, translate
from tunefleet.storage.keys import CONTROL, checked, local_root, root_path

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["MissingError", "Store", "open_store", "probe"]

CHUNK = 8 << 20
_MOST_PARTS = 9_000  # of one multipart upload; S3 takes 10,000
_PROBE_BYTES = 8 << 20
_REMOTE = ("s3", "gs", "az", "abfs", "abfss", "adl")
_SCHEMES = ("file", "memory", *_REMOTE)
_FAULTS = (refused.BaseError, OSError, ValueError)

_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()


class Store:
    """A place for objects, known by its URI.

    Pickles as its URI, so every process opens its own connection; ``memory://<name>`` is
    shared by all stores of that name within one process.
    """

    uri: str

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._root = local_root(uri)
        self._inner: ObjectStore | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (Store, (self.uri,))

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    # -- writing -----------------------------------------------------------------------

    def put(self, key: str, body: bytes | memoryview | Path) -> None:
        """Write an object, replacing what is there; atomic."""
        self.write(key, body)

    def write(self, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
        """As :meth:`put`; returns size and sha256 of exactly the bytes that were sent.

        A memoryview is sent from where it lies; a file is read once, in chunks, and hashed
        on its way.
        """
        checked(key)
        with self._faults("write", key):
            inner = self._open(writing=True)
            if isinstance(body, Path):
                stream = _HashedFile(body)
                # A small file goes as one piece: an empty or tiny multipart upload is
                # refused by some stores.
                size = body.stat().st_size
                if size <= CHUNK:
                    obstore.put(inner, key, b"".join(stream))
                else:
                    obstore.put(inner, key, iter(stream), chunk_size=_part_size(size))
                return stream.size, stream.hexdigest()
            # (A view of several dimensions cannot be cast when it is empty.)
            view = memoryview(body).cast("B") if memoryview(body).nbytes else memoryview(b"")
            obstore.put(inner, key, view, chunk_size=_part_size(view.nbytes))
            return view.nbytes, hashlib.sha256(view).hexdigest()

    def create(self, key: str, body: bytes) -> bool:
        """Write an object only if there is none (conditional PUT); False if there is one."""
        checked(key)
        with self._faults("create", key):
            try:
                obstore.put(self._open(writing=True), key, body, mode="create")
            except (refused.AlreadyExistsError, refused.PreconditionError):
                return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are fine. Remote stores keep no order within a call."""
        wanted = [checked(key) for key in keys]
        if not wanted or self._absent():
            return
        if self._root is None:
            with self._faults("delete", wanted[0]):
                obstore.delete(self._open(), wanted)
            return
        for key in wanted:
            with self._faults("delete", key), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._open(), key)

    def delete_folder(self, prefix: str) -> None:
        """Delete everything below ``prefix``, half-written files and empty folders too."""
        self.delete(key for key, _ in self.list(prefix))
        path = self.local_path(prefix)
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)

    def flush(self, keys: Iterable[str]) -> None:
        """Make objects survive a power cut; nothing to do unless they are local files."""
        if self._root is None:
            return
        folders: set[Path] = set()
        for key in keys:
            path = self._root / checked(key)
            with self._faults("flush", key):
                _fsync(path)
            for folder in path.parents:
                folders.add(folder)
                if folder == self._root:
                    break
        for folder in folders:
            with self._faults("flush", str(folder)):
                _fsync(folder)

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """The object's bytes; MissingError when there is none."""
        checked(key)
        with self._faults("read", key):
            self._present(key)
            return bytes(obstore.get(self._open(), key).bytes())

    def stream(self, key: str) -> Iterator[memoryview]:
        """The object's bytes, chunk by chunk; MissingError when there is none."""
        checked(key)
        with self._faults("read", key):
            self._present(key)
            for chunk in obstore.get(self._open(), key).stream(min_chunk_size=CHUNK):
                yield memoryview(chunk)

    def digest(self, key: str) -> tuple[int, str]:
        """Size and sha256 of an object as it is read back."""
        size, sha = 0, hashlib.sha256()
        for chunk in self.stream(key):
            size += chunk.nbytes
            sha.update(chunk)
        return size, sha.hexdigest()

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        checked(key)
        if self._absent():
            return False
        with self._faults("look up", key):
            try:
                obstore.head(self._open(), key)
            except FileNotFoundError:
                return False
            except refused.BaseError as error:
                if "(os error 20)" in str(error):  # below a file: no object can be there
                    return False
                raise
        return True

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """Key and size of every object below the folder ``prefix``, sorted by key."""
        where = checked(prefix) if prefix else None
        if self._absent():
            return []
        with self._faults("list", prefix or "/"):
            for last in (False, True):
                try:
                    found = [
                        (str(entry["path"]), int(entry["size"]))
                        for batch in obstore.list(self._open(), where, chunk_size=1000)
                        for entry in batch
                    ]
                    return sorted(found)
                except FileNotFoundError:  # an object vanished while it was being listed
                    if last:
                        raise
        return []

    def folders(self, prefix: str) -> builtins.list[str]:
        """Names of the folders directly below ``prefix``, sorted; empty ones too on disk."""
        where = checked(prefix) if prefix else None
        if self._absent():
            return []
        with self._faults("list", prefix or "/"):
            try:
                result = obstore.list_with_delimiter(self._open(), where)
            except FileNotFoundError:
                return []
        return sorted(path.rsplit("/", 1)[-1] for path in result["common_prefixes"])

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's file system, else None."""
        return None if self._root is None else self._root / checked(key)

    def download(self, prefix: str, target: Path) -> None:
        """Copy everything below ``prefix`` into a local folder, file by file, atomically."""
        for key, _ in self.list(prefix):
            self.fetch(key, target / key.removeprefix(prefix).lstrip("/"))

    def fetch(self, key: str, path: Path) -> None:
        """Copy one object to a local file, atomically."""
        with self._faults("copy", f"{key} to {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                with part.open("wb") as file:
                    for chunk in self.stream(key):
                        file.write(chunk)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    # -- inside ------------------------------------------------------------------------

    def _absent(self) -> bool:
        return self._root is not None and not self._root.exists()

    def _present(self, key: str) -> None:
        if self._absent():
            raise MissingError(f"there is no {key} in {self.uri}: the folder does not exist")

    def _open(self, *, writing: bool = False) -> ObjectStore:
        if self._root is not None:
            if writing:
                self._root.mkdir(parents=True, exist_ok=True)
            if self._inner is None:
                self._inner = LocalStore(prefix=self._root)
        elif self._inner is None:
            self._inner = _memory_store(self.uri) or from_url(self.uri)
        return self._inner

    @contextlib.contextmanager
    def _faults(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            raise translate(error, action, f"{key} in {self.uri}") from error


class _HashedFile:
    """A file's chunks, hashed as they are handed out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self._sha.update(chunk)
                self.size += len(chunk)
                yield chunk

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


def open_store(uri: str, base: Path) -> Store:
    """The store at ``uri``; a path without a scheme is taken relative to ``base``.

    Nothing is created before the first write.
    """
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if not uri or CONTROL.search(uri):
        raise StorageError(f"{uri!r} is no place for objects", remedy="give a folder or a URI")
    if ":" in uri and uri.partition(":")[0] in _SCHEMES and not scheme:
        raise StorageError(
            f"{uri!r} is no URI", remedy=f"write two slashes: {uri.replace(':', '://', 1)}"
        )
    if not scheme:
        path = Path(os.path.abspath(base / Path(uri).expanduser()))
        uri = path.as_uri()
    elif scheme == "file":
        uri = root_path(uri).as_uri()
    elif scheme == "memory" or scheme in _REMOTE:
        uri = uri.rstrip("/") if not uri.endswith("://") else uri
    else:
        raise StorageError(
            f"{uri!r}: there is no store for {scheme}://",
            remedy="use a folder, file://, s3://, gs:// or az://",
        )
    store = Store(uri)
    _check_root(store)
    return store


def probe(store: Store) -> StorageFacts:
    """Write, see a second conditional write refused, measure the speed, delete.

    Raises StorageError for a store that could not keep two writers apart.
    """
    key = f".tunefleet-probe-{secrets.token_hex(8)}"
    body = os.urandom(1 << 20) * (_PROBE_BYTES >> 20)
    made = store.local_path("x")
    made = made.parent if made and not made.parent.exists() else None
    try:
        first, second = store.create(key, b"1"), store.create(key, b"2")
        if not first or second:
            raise StorageError(
                f"{store.uri} does not refuse a second conditional write",
                remedy="claims need that: use a store with conditional PUT or a local folder",
            )
        began = time.perf_counter()
        store.put(f"{key}-speed", body)
        store.flush([f"{key}-speed"])
        seconds = time.perf_counter() - began
    finally:
        with contextlib.suppress(StorageError):
            store.delete([key, f"{key}-speed"])
        if made:
            with contextlib.suppress(OSError):
                made.rmdir()
    speed = len(body) / max(seconds, 1e-9)
    return StorageFacts(uri=store.uri, conditional_put=True, write_bytes_per_second=speed)


def _check_root(store: Store) -> None:
    root = store.local_path("x")
    if root is None:
        return
    nearest = root.parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise StorageError(
            f"{nearest} is a file; {root.parent} cannot be a folder of runs",
            remedy="set checkpoints.uri to a folder",
        )


def _memory_store(uri: str) -> MemoryStore | None:
    if not uri.startswith("memory://"):
        return None
    with _memory_lock:
        return _memory.setdefault(uri, MemoryStore())


def _part_size(size: int) -> int:
    return max(CHUNK, -(-size // _MOST_PARTS))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
