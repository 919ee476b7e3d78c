"""The two sides of a comparison under Ray: the product's command, and a bare script.

Decides how both are started for the same job, and where they say that a step is done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import MODEL


@dataclass(frozen=True, slots=True)
class Side:
    """A command; ``steps`` is the pattern, below ``scratch``, of its files of step records."""

    command: list[str]
    scratch: Path
    steps: str
    environment: Mapping[str, str]


def ours(folder: Path) -> Side:
    """``tunefleet run`` on the job file in ``folder``, with the cache beside ``folder``."""
    scratch = folder / "ours"
    (scratch / "tmp").mkdir(parents=True)
    tunefleet = str(Path(sys.executable).with_name("tunefleet"))
    return Side(
        [tunefleet, "run", str(folder / "job.yaml"), "--json"],
        scratch,
        "tmp/tunefleet-*/steps.jsonl",
        {"TMPDIR": str(scratch / "tmp"), "TUNEFLEET_CACHE": str(folder.parent / "cache")},
    )


def bare(folder: Path, *, steps: int) -> Side:
    """Ray Train with the same imports and nothing of ours."""
    scratch = folder / "bare"
    scratch.mkdir(parents=True)
    config = {
        "model": str(MODEL),
        "steps_file": str(scratch / "steps.jsonl"),
        "scratch": str(scratch / "ray"),
        "steps": steps,
    }
    path = scratch / "config.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "benchmarks.peers.ray_train", str(path)]
    return Side(command, scratch, "steps.jsonl", {})
