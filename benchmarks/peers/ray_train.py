"""Bare Ray Train: the shortest script that takes some steps on two workers.

    python -m benchmarks.peers.ray_train CONFIG

What anybody who starts a ``TorchTrainer`` has to wait for: Ray itself, the worker group, the
imports of torch and transformers, the model. Appends a line to the steps file after every step.
Imports nothing of tunefleet.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def loop(config: dict[str, Any]) -> None:
    """The steps of one worker, on texts of 32 tokens."""
    import datasets  # noqa: F401 - the same imports on both sides
    import numpy as np
    import peft  # noqa: F401
    import ray.train
    import ray.train.torch
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(config["model"], num_labels=2)
    model = ray.train.torch.prepare_model(model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.from_numpy(np.random.default_rng(3).integers(1000, 20_000, (16, 32)))
    for step in range(1, config.get("steps", 1) + 1):
        answer = model(input_ids=ids, labels=torch.zeros(16, dtype=torch.int64))
        answer.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if ray.train.get_context().get_world_rank() == 0:
            record = {"step": step, "units": 32, "tokens": 1024, "seconds": 0.0}
            with Path(config["steps_file"]).open("a") as file:
                file.write(json.dumps(record) + "\n")


def main() -> None:
    """Start Ray on this machine alone, train, stop; a worker that dies is replaced once."""
    config = json.loads(Path(sys.argv[1]).read_text())
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_worker_niceness"] = "0"
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=2)
    TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name="bare",
            storage_path=config["scratch"],
            failure_config=FailureConfig(max_failures=1),
        ),
    ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main()
