"""One training process without Ray: ``torchrun --nproc-per-node 2 -m tunefleet.train CONFIG``.

Takes the path of a WorkerConfig (JSON). SIGTERM and SIGINT save and stop. Exit code 0 when
the run ended as it should (finished, or stopped with a checkpoint), 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run this process's part; rank and world come from torchrun's environment."""
    parser = argparse.ArgumentParser(prog="python -m tunefleet.train", description=__doc__)
    parser.add_argument("config", type=Path, help="a WorkerConfig as JSON")
    config_path: Path = parser.parse_args(arguments).config

    import torch.distributed as dist

    from tunefleet.api.words import DeviceType, Phase
    from tunefleet.plan.worker import WorkerConfig
    from tunefleet.storage.run import RunStore
    from tunefleet.train.conclude import conclude
    from tunefleet.train.moving import collective_seconds
    from tunefleet.train.process import run_process

    config = WorkerConfig.from_json(config_path.read_text())
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: asked.append(received))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group(
            "nccl" if config.plan.device is DeviceType.CUDA else "gloo",
            timeout=timedelta(seconds=collective_seconds(config.plan)),
        )
    leads = world == 1 or dist.get_rank() == 0
    run = RunStore.at(config.address)
    before = None
    try:
        if leads:
            before = run.exit_record(config.address.attempt)
        run_process(
            config,
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            interrupted=lambda: bool(asked),
        )
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if not leads:
        return 0
    ended = conclude(
        run,
        config,
        unsaid="the process ended without a word",
        now_ns=time.monotonic_ns(),
        before=before,
    )
    print(f"{ended.phase}: {ended.message}", file=sys.stderr)
    return 1 if ended.phase is Phase.FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
