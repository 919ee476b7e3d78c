"""Where the runs of a matrix lie: a local folder, or a real S3 server of their own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import obstore

from tests.faults.life import Ran
from tests.testbed.s3 import S3Server, s3_server


@dataclass(frozen=True, slots=True)
class Place:
    """A store for many cases. ``fetch`` brings a case's store into a local folder."""

    uri: str
    environment: dict[str, str]
    fetch: Callable[[Ran], Path]
    server: S3Server | None = field(default=None)


@contextlib.contextmanager
def open_place(kind: str, folder: Path) -> Iterator[Place]:
    """A place of a kind: ``file`` or ``s3``."""
    if kind == "file":
        yield Place("", {}, lambda ran: ran.folder / "runs")
        return
    with s3_server() as server:
        yield Place(
            server.uri("faults"), server.environment(), lambda ran: _copy(server, ran), server
        )


def _copy(server: S3Server, ran: Ran) -> Path:
    """Every object of a case as a file, read by a client that owes us nothing."""
    target = ran.folder / "copy"
    shutil.rmtree(target, ignore_errors=True)
    client, prefix = server.client(), f"faults/{ran.folder.name}"
    for batch in obstore.list(client, prefix):
        for entry in batch:
            path = target / entry["path"].removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(obstore.get(client, entry["path"]).bytes()))
    return target
