"""Large objects read in pieces: several requests at once, one object.

Decides the size of a piece, how many are on their way, and that all come from the same
version of the object. Imports ``api`` and obstore.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import obstore

from tunefleet.api.errors import StorageError

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ObjectStore

PIECE = 8 << 20
AT_ONCE = 8


def pieces(store: ObjectStore, key: str) -> Iterator[memoryview]:
    """The object's bytes in order, in pieces of ``PIECE``; at most ``AT_ONCE`` are held.

    Raises what obstore raises (an object that is replaced meanwhile is a PreconditionError),
    StorageError when what answers is no object store.
    """
    whole = obstore.get(store, key)
    size, etag = whole.meta["size"], whole.meta["e_tag"]
    if etag is None:
        raise StorageError(
            f"what answers when {key} is asked for is no object store: its answer has no ETag",
            remedy="look at the endpoint (AWS_ENDPOINT_URL); a web page or a proxy answers there",
        )
    if size <= PIECE:
        yield memoryview(whole.bytes())
        return
    del whole  # its answer ends here: the pieces are asked for one by one
    starts = deque(range(0, size, PIECE))

    def one(start: int) -> memoryview:
        options: GetOptions = {"range": (start, min(start + PIECE, size)), "if_match": etag}
        return memoryview(obstore.get(store, key, options=options).bytes())

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pieces") as pool:
        waiting: deque[Future[memoryview]] = deque()
        try:
            while starts or waiting:
                while starts and len(waiting) < AT_ONCE:
                    waiting.append(pool.submit(one, starts.popleft()))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
