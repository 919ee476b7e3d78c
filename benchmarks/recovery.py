"""How long it takes until training goes on after a worker was killed, beside bare Ray Train.

Both run two workers with the same imports. Ours goes on from its checkpoint; the bare script
begins again, which is the least that anybody has to wait for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil

from benchmarks import ray_sides
from benchmarks.ray_sides import Side
from benchmarks.scale import Scale
from benchmarks.sides import ready
from benchmarks.table import Row
from benchmarks.watch import ChildFailed
from benchmarks.workloads import job_text, workloads

ALLOWED_SECONDS = 3.0
_STEPS_BEFORE, _STEPS = 8, 2000
_DEADLINE_SECONDS = 240.0
# A step that was under way when the worker died may still be written down.
_SETTLE_SECONDS = 0.5


def measure(scale: Scale) -> Iterator[Row]:
    """One row: seconds from SIGKILL of a worker to the end of the next step."""
    workload = workloads(scale.scratch / "texts")[0]
    ours: list[float] = []
    theirs: list[float] = []
    for pair in range(scale.starts):
        folder = scale.scratch / "recovery" / str(pair)
        text = job_text(
            workload,
            name=f"kill-{pair}",
            max_steps=_STEPS,
            seed=17,
            checkpoints=folder / "runs",
            save=4,
        )
        ready(text, folder)
        sides = [(ours, ray_sides.ours(folder)), (theirs, ray_sides.bare(folder, steps=_STEPS))]
        for values, side in sides if pair % 2 == 0 else reversed(sides):
            values.append(_killed(side))
    allowed = sorted(value + ALLOWED_SECONDS for value in theirs)
    yield Row(
        "worker killed to next step",
        "s",
        ours,
        theirs,
        peer="bare Ray Train, from nothing",
        better="lower",
        limit=allowed[len(allowed) // 2],
        note=f"limit: bare Ray Train + {ALLOWED_SECONDS:g} s",
    )


def _killed(side: Side) -> float:
    with (side.scratch / "stderr.txt").open("wb") as said:
        child = subprocess.Popen(
            side.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | dict(side.environment),
        )
        try:
            _wait(child, side, _STEPS_BEFORE)
            _worker_of(child).kill()
            killed = time.monotonic()
            time.sleep(_SETTLE_SECONDS)
            _wait(child, side, _count(side) + 1)
            return time.monotonic() - killed
        finally:
            _end(child)


def _wait(child: subprocess.Popen[bytes], side: Side, count: int) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while _count(side) < count:
        if child.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed((side.scratch / "stderr.txt").read_text(errors="replace")[-3000:])
        time.sleep(0.05)


def _count(side: Side) -> int:
    return sum(path.read_bytes().count(b"\n") for path in side.scratch.glob(side.steps))


def _worker_of(child: subprocess.Popen[bytes]) -> psutil.Process:
    """The training worker that is not the leader of its group: the younger one."""
    workers = [
        process
        for process in psutil.Process(child.pid).children(recursive=True)
        if any("RayTrainWorker" in word for word in process.cmdline()[:1])
    ]
    return max(workers, key=lambda process: process.create_time())


def _end(child: subprocess.Popen[bytes]) -> None:
    family = [*psutil.Process(child.pid).children(recursive=True)] if child.poll() is None else []
    for _ in range(2):  # the second interrupt stops at once
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            time.sleep(1)
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for process in family:
        if process.is_running():
            process.kill()
