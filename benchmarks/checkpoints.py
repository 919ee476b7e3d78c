"""What a checkpoint costs: the wait of a step, and its writing and reading beside the store's own.

The state is the quickstart model's after one step: weights and two moments in fp32. "The
store's own speed" is the same bytes put and read with nothing of ours: plain files (with fsync)
on a disk, the object-store library's default calls on S3. Our side also hashes every byte,
reads the commit back and keeps the manifest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import obstore
import torch
from torch import nn

from benchmarks.scale import Scale
from benchmarks.table import Row
from benchmarks.workloads import MODEL
from tests.testbed.s3 import S3Server, s3_server
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.group import Group
from tunefleet.train.node_files import NodeFiles
from tunefleet.train.state import FILES, HostCopy, RunState, restore

MOST_STALL = 1.5
LEAST_SPEED = 0.8
_CHUNK = 8 << 20


def measure(scale: Scale) -> Iterator[Row]:
    """Rows for the stall, and for saving and restoring on a disk and on a real S3 server."""
    model, optimizer = _trained()
    copy = HostCopy()
    copy.take(model, optimizer)
    files = copy.files(RunState(step=1, chain=""))
    yield _stall(model, optimizer, copy, rounds=5 * scale.pairs)
    folder = scale.scratch / "checkpoints"
    disk = _Disk(folder / "plain")
    yield from _store("disk", folder / "ours", disk, files, (model, optimizer), scale)
    with s3_server() as s3:
        os.environ.update(s3.environment())
        yield from _store("S3", s3.uri("ours"), _Bucket(s3), files, (model, optimizer), scale)


def _trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    from transformers import AutoModelForSequenceClassification

    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def _stall(
    model: nn.Module, optimizer: torch.optim.Optimizer, copy: HostCopy, *, rounds: int
) -> Row:
    size = sum(len(body) for body in copy.files(RunState(step=1, chain="")).values())
    source, target = torch.ones(size // 4), torch.zeros(size // 4)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(1000 * _seconds(lambda: copy.take(model, optimizer)))
        theirs.append(1000 * _seconds(lambda: target.copy_(source)))
    return Row(
        f"checkpoint stall, {size / 1e6:.0f} MB",
        "ms",
        ours,
        theirs,
        peer="bare copy of as many bytes",
        better="lower",
        goal=1 / MOST_STALL,
    )


class _Disk:
    """Plain files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder

    def write(self, name: str, body: bytes | memoryview) -> None:
        with (self._folder / name).open("wb") as file:
            file.write(body)
            os.fsync(file.fileno())

    def read(self, name: str) -> None:
        with (self._folder / name).open("rb") as file:
            while file.read(_CHUNK):
                pass


class _Bucket:
    """Plain objects in a bucket, with the library's own defaults."""

    def __init__(self, s3: S3Server) -> None:
        self._client = s3.client()

    def write(self, name: str, body: bytes | memoryview) -> None:
        obstore.put(self._client, f"plain/{name}", body)

    def read(self, name: str) -> None:
        for _ in obstore.get(self._client, f"plain/{name}").stream(min_chunk_size=_CHUNK):
            pass


def _store(
    name: str,
    uri: str | Path,
    plain: _Disk | _Bucket,
    files: Mapping[str, bytes | memoryview],
    trained: tuple[nn.Module, torch.optim.Optimizer],
    scale: Scale,
) -> Iterator[Row]:
    run = RunStore.create(open_store(str(uri), Path.cwd()), "default", "benchmark")
    claim = run.claim_attempt(Writer.here())
    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    megabytes = sum(len(body) for body in files.values()) / 1e6
    saved: dict[str, list[float]] = {"ours": [], "theirs": []}
    read: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(scale.pairs):
        manifests: list[Manifest] = []

        def commit(step: int = pair + 1, made: list[Manifest] = manifests) -> None:
            made.append(writer.commit(step, files, metric=None, chain="", digests={}))

        def put() -> None:
            for file, body in files.items():
                plain.write(file, body)

        def back(made: list[Manifest] = manifests) -> None:
            node = NodeFiles(run, Group(), 0, scale.scratch / "checkpoints" / "node")
            with node.of(made[-1], *FILES) as opened:
                restore(*trained, opened)

        def get() -> None:
            for file in files:
                plain.read(file)

        _both(saved, commit, put, megabytes, turned=pair % 2 == 1)
        _forget(scale.scratch / "checkpoints")
        _both(read, back, get, megabytes, turned=pair % 2 == 1)
    for what, speeds in (("save to", saved), ("restore from", read)):
        yield Row(
            f"{what} {name}",
            "MB/s",
            speeds["ours"],
            speeds["theirs"],
            peer=f"plain {'writing' if speeds is saved else 'reading'} of the same bytes",
            goal=LEAST_SPEED,
            note="hashed, read back, committed" if speeds is saved else "checked, in the model",
        )


def _both(
    speeds: Mapping[str, list[float]],
    ours: Callable[[], object],
    theirs: Callable[[], object],
    megabytes: float,
    *,
    turned: bool,
) -> None:
    sides = [("ours", ours), ("theirs", theirs)]
    for side, action in reversed(sides) if turned else sides:
        speeds[side].append(megabytes / _seconds(action))


def _forget(folder: Path) -> None:
    """Let the next reads come from the disk, not from memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
