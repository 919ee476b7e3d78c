"""The train function that Ray Train runs in each of its workers.

Decides nothing: Ray placed the process and formed the process group; everything after that
is ``process``. An exception that leaves here makes Ray restart the whole group.
"""

from __future__ import annotations

from collections.abc import Mapping


def train_function(settings: Mapping[str, str]) -> None:
    """Run this worker's process; ``settings['config']`` is a WorkerConfig as JSON."""
    import ray.train

    from tunefleet.plan.worker import WorkerConfig
    from tunefleet.train.process import run_process

    config = WorkerConfig.from_json(settings["config"])
    run_process(config, local_rank=ray.train.get_context().get_local_rank())
