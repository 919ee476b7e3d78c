"""The train function that Ray Train runs in each of its workers.

Decides little: Ray placed the process and formed the process group, and what it does is
``process``. In a pod it first fetches what was prepared elsewhere, the leader tells the
attempt's object what happens, and a pod that is about to go is noticed. An exception that
leaves here makes Ray restart the whole group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunefleet.plan.worker import WorkerConfig


def train_function(settings: Mapping[str, str]) -> None:
    """Run this worker's process; ``settings['config']`` is a WorkerConfig as JSON."""
    import ray.train

    from tunefleet.plan.worker import WorkerConfig
    from tunefleet.train.process import run_process

    config = WorkerConfig.from_json(settings["config"])
    context = ray.train.get_context()
    local_rank = context.get_local_rank()
    if not config.carried:
        run_process(config, local_rank=local_rank)
        return
    from tunefleet.train.carry import arrived
    from tunefleet.train.leaving import Leaving

    leaving = Leaving(Path(config.scratch))
    with leaving.work(), _relayed(config, leads=context.get_world_rank() == 0):
        run_process(arrived(config), local_rank=local_rank, interrupted=leaving.asked)


@contextmanager
def _relayed(config: WorkerConfig, *, leads: bool) -> Iterator[None]:
    """The leader's folder is told to the attempt's object for the duration of a block."""
    from tunefleet.channel.attempt import Attempt
    from tunefleet.channel.relay import Relay

    attempt = Attempt.here() if leads else None
    if attempt is None:
        yield
        return
    relay = Relay(attempt, Path(config.scratch))
    relay.start()
    try:
        yield
    finally:
        relay.close()
