"""Training processes as forks of one that has imported everything: the same, only sooner.

A Python with torch and transformers costs seconds to start; a fork of one that has them costs
none. Each fork is given what torchrun gives its processes, and does what ``python -m
tunefleet.train`` does. What torchrun itself does about a failed process is tested with torchrun.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.train.launching import environment, free_port, written
from tunefleet.plan.worker import WorkerConfig

WAIT_SECONDS = 180
_WARM = [
    "obstore.store",
    "sklearn.metrics",
    "torch.distributed",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "tunefleet.evaluate.bundle",
    "tunefleet.tasks.text_classification",
    "tunefleet.train.conclude",
    "tunefleet.train.process",
]


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_WARM)
    return context


def launch_forks(
    config: WorkerConfig, processes: int, changed: Callable[[int], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Train ``config`` with some forks and wait for them; ``stderr`` is all that they said.

    ``changed`` is called in each of them with its rank, before anything else of the product.
    """
    path = written(config)
    said = path.with_name("said.txt")
    port = free_port()
    running = [
        _server().Process(target=train, args=(str(path), str(said), rank, processes, port, changed))
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    deadline = time.monotonic() + WAIT_SECONDS
    for process in running:
        process.join(max(0.0, deadline - time.monotonic()))
    late = [process for process in running if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    text = said.read_text() + ("a process did not end\n" if late else "")
    codes = [process.exitcode for process in running]
    return subprocess.CompletedProcess([], 1 if any(codes) else 0, "", text)


def train(
    config: str,
    said: str,
    rank: int,
    world: int,
    port: int,
    changed: Callable[[int], None] | None = None,
) -> None:
    """Be one process of the group."""
    with Path(said).open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(
        environment(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    )
    import torch

    from tunefleet.train.__main__ import main

    torch.set_num_threads(1)
    if changed:
        changed(rank)
    sys.exit(main([config]))
