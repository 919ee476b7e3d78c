"""Object storage behind one small type: a text key leads to bytes.

Decides how a URI becomes a store, which keys are allowed, what is atomic and what is
durable. Imports ``api``, obstore and its siblings below it.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as refused
from obstore.store import LocalStore, MemoryStore

from tunefleet.api.errors import StorageError
from tunefleet.storage.connect import SCHEMES, Patience, check_uri, connect
from tunefleet.storage.digests import digest_of_file
from tunefleet.storage.faults import MissingError, missing_bucket, translate
from tunefleet.storage.keys import CONTROL, check_root, checked, local_root, root_path
from tunefleet.storage.listing import Entry, listed
from tunefleet.storage.pieces import AT_ONCE, pieces
from tunefleet.storage.sending import CHUNK, HashedFile, hashing, part_size

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["MissingError", "Patience", "Store", "open_store"]

_SCHEMES = ("file", "memory", *SCHEMES)
_FAULTS = (refused.BaseError, OSError, ValueError)

_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()


class Store:
    """A place for objects, known by its URI.

    Pickles as its URI, so every process opens its own connection, with credentials of its own
    environment; ``memory://<name>`` is shared by all stores of that name within one process.
    A remote store that has answered is waited for longer when it goes away, but not in vain twice.
    """

    uri: str

    def __init__(self, uri: str, patience: Patience = Patience.SHORT) -> None:
        self.uri = uri
        self._patience = patience
        self._root = local_root(uri)
        self._remote = uri.partition("://")[0] in SCHEMES
        self._inner: ObjectStore | None = None
        self._answered = False

    def __reduce__(self) -> tuple[object, ...]:
        return (Store, (self.uri, self._patience))

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
                stream = HashedFile(body)
                # A small file goes as one piece: an empty or tiny multipart upload is
                # refused by some stores.
                size = body.stat().st_size
                if size <= CHUNK:
                    obstore.put(inner, key, b"".join(stream))
                else:
                    obstore.put(inner, key, iter(stream), chunk_size=part_size(size))
                return stream.size, stream.hexdigest()
            # (A view of several dimensions cannot be cast when it is empty.)
            view = memoryview(body).cast("B") if memoryview(body).nbytes else memoryview(b"")
            with hashing(view) as sha:
                obstore.put(inner, key, view, chunk_size=part_size(view.nbytes))
            return view.nbytes, sha.result()

    def create(self, key: str, body: bytes) -> bool:
        """Write an object only if there is none (conditional PUT); False if there is one.

        Two writers must not give the same ``body``: a try on a remote store whose answer was
        lost is known by it.
        """
        checked(key)
        with self._faults("create", key):
            inner, began = self._open(writing=True), time.monotonic()
            try:
                return self._create(inner, key, body)
            except refused.GenericError:
                # A conditional write is not tried again by itself when its answer is lost: it
                # was ours, somebody else's, or never done.
                if not self._remote or time.monotonic() - began > self._patience.seconds:
                    raise
            with contextlib.suppress(MissingError):
                return self.get(key) == body
            return self._create(inner, key, body)

    def _create(self, inner: ObjectStore, key: str, body: bytes) -> bool:
        try:
            obstore.put(inner, key, body, mode="create")
        except (refused.AlreadyExistsError, refused.PreconditionError):
            return self._remote and self.get(key) == body
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
        if self._remote:
            return b"".join(self.stream(key))
        checked(key)
        with self._faults("read", key):
            self._present(key)
            return bytes(obstore.get(self._open(), key).bytes())

    def stream(self, key: str) -> Iterator[memoryview]:
        """The object's bytes, chunk by chunk; MissingError when there is none.

        A large object of a remote store is read in pieces, several at once.
        """
        checked(key)
        with self._faults("read", key):
            self._present(key)
            if self._remote:
                yield from pieces(self._open(), key)
                return
            for chunk in obstore.get(self._open(), key).stream(min_chunk_size=CHUNK):
                yield memoryview(chunk)

    def digest(self, key: str) -> tuple[int, str]:
        """Size and sha256 of an object as it is read back."""
        path = self.local_path(key)
        if path is not None:
            with self._faults("read", key):
                self._present(key)
                return digest_of_file(path)
        size, sha = 0, hashlib.sha256()
        for chunk in self.stream(key):
            size += chunk.nbytes
            sha.update(chunk)
        return size, sha.hexdigest()

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        return self.entry(key) is not None

    def entry(self, key: str) -> Entry | None:
        """Size and version of an object; None when there is none."""
        checked(key)
        if self._absent():
            return None
        with self._faults("look up", key):
            try:
                return Entry.of(obstore.head(self._open(), key))
            except FileNotFoundError as error:
                if missing_bucket(error):
                    raise
                return None
            except refused.BaseError as error:
                if "(os error 20)" in str(error):  # below a file: no object can be there
                    return None
                raise

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """Key and size of every object below the folder ``prefix``, sorted by key."""
        return [(entry.key, entry.size) for entry in self.entries(prefix)]

    def entries(self, prefix: str) -> builtins.list[Entry]:
        """Every object below the folder ``prefix``, sorted by key."""
        where = checked(prefix) if prefix else None
        if self._absent():
            return []
        with self._faults("list", prefix or "/"):
            found = listed(self._open(), where)
            if not found:
                self._check_answers()
        return found

    def folders(self, prefix: str) -> builtins.list[str]:
        """Names of the folders directly below ``prefix``, sorted; empty ones too on disk."""
        where = checked(prefix) if prefix else None
        if self._absent():
            return []
        with self._faults("list", prefix or "/"):
            try:
                result = obstore.list_with_delimiter(self._open(), where)
            except FileNotFoundError as error:
                if missing_bucket(error):
                    raise
                return []
            if not result["common_prefixes"]:
                self._check_answers()
        return sorted(path.rsplit("/", 1)[-1] for path in result["common_prefixes"])

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's file system, else None."""
        return None if self._root is None else self._root / checked(key)

    def download(self, prefix: str, target: Path) -> None:
        """Copy everything below ``prefix`` into a local folder, file by file, atomically."""
        found = [
            (key, target / key.removeprefix(prefix).lstrip("/")) for key, _ in self.list(prefix)
        ]
        if not self._remote:
            for key, path in found:
                self.fetch(key, path)
            return
        # (Few at a time: a large file is read in several pieces at once by itself.)
        with ThreadPoolExecutor(AT_ONCE // 2, thread_name_prefix="download") as pool:
            for done in [pool.submit(self.fetch, key, path) for key, path in found]:
                done.result()

    def fetch(self, key: str, path: Path) -> tuple[int, str]:
        """Copy one object to a local file, atomically; size and sha256 of what was written.

        A chunk is hashed while it is written and the next ones are on their way.
        """
        with self._faults("copy", f"{key} to {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            size, sha = 0, hashlib.sha256()
            try:
                with part.open("wb") as file, ThreadPoolExecutor(1, "sha256") as pool:
                    for chunk in self.stream(key):
                        hashed = pool.submit(sha.update, chunk)
                        file.write(chunk)
                        size += chunk.nbytes
                        hashed.result()
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return size, sha.hexdigest()

    # -- inside ------------------------------------------------------------------------

    def _absent(self) -> bool:
        return self._root is not None and not self._root.exists()

    def _present(self, key: str) -> None:
        if self._absent():
            raise MissingError(f"there is no {key} in {self.uri}: the folder does not exist")

    def _open(self, *, writing: bool = False) -> ObjectStore:
        if writing and self._root is not None:
            self._root.mkdir(parents=True, exist_ok=True)
        inner = self._inner  # another thread may take it away
        if inner is None and self._root is not None:
            inner = self._inner = LocalStore(prefix=self._root)
        elif inner is None:
            inner = self._inner = _memory_store(self.uri) or connect(self.uri, self._patience)
        return inner

    def _check_answers(self) -> None:
        """Raise when whatever answers is no object store: a page of HTML lists as nothing."""
        if not self._remote or self._answered:
            return
        try:
            obstore.head(self._open(), f".tunefleet-none-{secrets.token_hex(8)}")
        except FileNotFoundError:
            return
        raise StorageError(
            f"what answers for {self.uri} is no object store: it has everything it is asked for",
            remedy="look at the endpoint (AWS_ENDPOINT_URL); a web page or a proxy answers there",
        )

    @contextlib.contextmanager
    def _faults(self, action: str, key: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except _FAULTS as error:
            if self._remote and time.monotonic() - began >= self._patience.seconds:
                self._answered, self._patience, self._inner = False, Patience.SHORT, None
            # The cause stays out: it can be pages long, and shows addresses of requests.
            raise translate(error, action, f"{key} in {self.uri}") from None
        if self._remote and not self._answered:
            self._answered = True
            if self._patience is Patience.SHORT:
                self._patience, self._inner = Patience.LONG, None


def open_store(uri: str, base: Path, patience: Patience = Patience.SHORT) -> Store:
    """The store at ``uri``; a path without a scheme is taken relative to ``base``.

    Nothing is created before the first write, and nothing is asked of a remote store.
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
    elif scheme == "memory":
        uri = uri.rstrip("/") if not uri.endswith("://") else uri
    elif scheme in SCHEMES:
        check_uri(uri)
        uri = uri.rstrip("/")
    elif scheme == "pvc":
        raise StorageError(
            f"{uri}: a volume claim exists in a cluster only",
            remedy="on this machine use a folder or s3://, gs:// or az://",
        )
    else:
        raise StorageError(
            f"{uri!r}: there is no store for {scheme}://",
            remedy="use a folder, file://, s3://, gs:// or az://",
        )
    store = Store(uri, patience)
    check_root(store.uri)
    return store


def _memory_store(uri: str) -> MemoryStore | None:
    if not uri.startswith("memory://"):
        return None
    with _memory_lock:
        return _memory.setdefault(uri, MemoryStore())


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
