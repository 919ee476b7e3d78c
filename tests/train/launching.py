"""Start training processes without Ray, as a user's torchrun does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tunefleet.plan.worker import WorkerConfig

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def written(config: WorkerConfig) -> Path:
    """The file of a configuration, in its scratch folder."""
    folder = Path(config.scratch)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(config.to_json())
    return path


def command(config: WorkerConfig, processes: int) -> list[str]:
    """The command line that trains ``config``, which is written to its scratch folder."""
    alone = [sys.executable, "-m", "tunefleet.train", str(written(config))]
    if processes == 1:
        return alone
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        "--master-addr=127.0.0.1",
        f"--master-port={free_port()}",
        *alone[1:],
    ]


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process."""
    return os.environ | {
        "PYTHONPATH": f"{ROOT / 'platform'}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def launch(config: WorkerConfig, processes: int, **more: str) -> subprocess.CompletedProcess[str]:
    """Train ``config`` with some processes and wait for them."""
    return subprocess.run(
        command(config, processes),
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
