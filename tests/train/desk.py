"""A user's desk: a folder with a job, its model and its rows, where ``tunefleet run`` is typed.

Decides how a run is started, heard, waited for and ended. Imports the small models.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from tests.tiny_models import tiny_bert
from tests.train.conftest import rows_of
from tests.train.test_exactness import newest
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store

WAIT_SECONDS = 150
JOB = """
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: tiny}}
spec:
  task: text-classification
  model: {{uri: model}}
  data:
    train: {{uri: rows.csv}}
    validation: {{fraction: 0.2}}
    test: {{fraction: 0.1}}
    labels: [bad, good]
  training: {{maxSteps: {steps}, batchSize: 16, microBatch: 4, maxLength: 48,
             optimizer: {{learningRate: 1.0e-3}}}}
  evaluation: {{every: 20, metric: accuracy}}
  workers: {{count: 2}}
  checkpoints: {{every: 5}}
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with a job, its model and its rows."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """A user's environment, with a cache of its own."""
        return os.environ | {
            "TUNEFLEET_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin ``tunefleet run`` in a session of its own."""
        with (self.folder / "said.jsonl").open("w") as said:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tunefleet.cli.main",
                    "run",
                    "job.yaml",
                    "--json",
                    "--no-dashboard",
                    *arguments,
                ],
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """End what a failed test has left running, with Ray's processes below it."""
        for process in self.started:
            if process.poll() is None:
                below = psutil.Process(process.pid).children(recursive=True)
                for one in [*below, process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def run(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Run to the end: (exit code, the object on standard output, {} when there is none)."""
        process = self.start(*arguments)
        printed, _ = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, json.loads(printed) if printed.strip() else {}

    def said(self) -> str:
        """Everything on standard error so far."""
        return (self.folder / "said.jsonl").read_text()

    def step(self) -> int:
        """The newest step that was reported."""
        steps = [0]
        for line in self.said().splitlines():
            if line.startswith('{"type":"progress"'):
                steps.append(int(json.loads(line)["value"]["step"]))
        return max(steps)

    def weights(self, runs: Path, job: str) -> dict[str, npt.NDArray[np.float32]]:
        """The weights of the newest checkpoint of a job below ``runs``."""
        run = RunStore.newest(open_store(str(runs), self.folder), "default", job)
        assert run is not None
        return newest(run)[1]

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not reached():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)


def write_job(folder: Path, steps: int) -> None:
    """The job file with another length."""
    (folder / "job.yaml").write_text(JOB.format(steps=steps))


def write_rows(path: Path) -> None:
    """120 labelled rows, as a user has them."""
    rows = rows_of(120)
    lines = ["text,label"]
    for text, label in zip(rows.columns["text"], rows.columns["label"], strict=True):
        lines.append(f'"{text}",{("bad", "good")[label]}')
    path.write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def furnished(folder: Path) -> Iterator[Desk]:
    """A desk with a model and rows; nothing runs on after it."""
    tiny_bert(folder / "model")
    write_rows(folder / "rows.csv")
    desk = Desk(folder)
    try:
        yield desk
    finally:
        desk.stop()


def checkpoints(result: dict[str, object]) -> list[dict[str, object]]:
    """The checkpoints of a result."""
    found = result["checkpoints"]
    assert isinstance(found, list)
    return found
