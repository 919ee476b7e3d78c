"""A case from its first process to its end: lives of one run, each ended or killed.

Decides what a user does after a kill: runs the same command again, perhaps with another
number of workers, until the run has ended well. Nothing may take longer than its deadline.
"""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import zygote
from tests.faults.injection import Arm
from tests.faults.roles import summary
from tests.tiny_models import SENTENCES, tiny_bert

LIFE_DEADLINE = 60.0
MOST_LIVES = 5
STEPS, EVERY = 12, 3
JOB = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: tiny}}
spec:
  task: text-classification
  model: {{uri: {site}/model}}
  data:
    train: {{uri: {site}/train.csv}}
    validation: {{uri: {site}/validation.csv}}
    labels: [bad, good]
  training: {{maxSteps: {steps}, batchSize: 16, microBatch: 4, maxLength: 48, precision: fp64,
             optimizer: {{learningRate: 1.0e-3}}}}
  evaluation: {{every: {evaluate}, metric: loss}}
  workers: {{count: 1}}
  checkpoints: {{uri: "{uri}", every: {every}, keep: {{last: 1, best: 1}}}}
  retry: {{maxFailures: {failures}}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """What all cases share: the fork server, a model, data, and where runs are kept.

    ``place`` is the URI below which every case has its own store; "" for its own folder.
    """

    server: str
    folder: Path
    place: str = ""


@dataclass(slots=True)
class Case:
    """One fault and what followed. ``worlds`` are workers by life; groups rotate likewise."""

    name: str
    worlds: list[int]
    arm: Arm | None = None
    rotate: bool = False
    grace: float = 0.1
    settings: dict[str, Any] = field(default_factory=dict)
    job: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Ran:
    """A case that came to its end."""

    case: Case
    folder: Path
    uri: str
    codes: list[int]
    seconds: float
    events: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    @property
    def fired(self) -> bool:
        """Whether the fault happened."""
        return any(event["event"] in {"kill", "fault"} for event in self.events)


def make_site(folder: Path) -> Path:
    """A tiny BERT with dropout, 50 training rows (a last batch of two) and 11 held-out rows."""
    tiny_bert(folder / "model", hidden_size=16, layers=1, vocab_size=300)
    draw = np.random.default_rng(3)
    for name, count in (("train", 50), ("validation", 11)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for number in range(count):
                words = " ".join(draw.choice(SENTENCES, size=draw.integers(1, 4))).split()
                kept = words[: int(draw.integers(3, 30))]
                rows.writerow([f"{name} {number} " + " ".join(kept), ("bad", "good")[number % 2]])
    return folder


def environment(site: Path) -> dict[str, str]:
    """What the fork server is started with."""
    return {
        "TUNEFLEET_CACHE": str(site / "cache"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def worlds_of(case: Case, life: int) -> list[int]:
    """Workers of the groups of a life, in order."""
    first = case.worlds[min(life, len(case.worlds) - 1)]
    if not case.rotate:
        return [first]
    return [(first - 1 + turn) % 3 + 1 for turn in range(3)]


def write_job(site: Site, case: Case, folder: Path) -> str:
    """The case's job file; the URI of its store."""
    uri = f"{site.place}/{folder.name}" if site.place else (folder / "runs").as_uri()
    usual = {"steps": STEPS, "every": EVERY, "evaluate": 2 * EVERY, "failures": 3}
    values = usual | case.job
    (folder / "job.yaml").write_text(JOB.format(site=site.folder, uri=uri, **values))
    return uri


def begin(site: Site, case: Case, folder: Path, life: int) -> zygote.Fork:
    """Start a life of a case."""
    arguments: Mapping[str, object] = {
        "server": site.server,
        "folder": str(folder),
        "life": life,
        "worlds": worlds_of(case, life),
        "arm": case.arm.values() if case.arm and life == 0 else None,
        "grace": case.grace,
        "settings": case.settings,
    }
    return zygote.fork(
        site.server, "tests.faults.roles:driver", arguments, str(folder / "output.txt")
    )


def live(site: Site, case: Case, folder: Path) -> Ran:
    """Run a case's job until it has ended well, whatever was done to it."""
    folder.mkdir(parents=True)
    uri = write_job(site, case, folder)
    began, codes, problems = time.monotonic(), list[int](), list[str]()
    groups: list[int] = []
    try:
        for life in range(MOST_LIVES):
            one = begin(site, case, folder, life)
            groups.append(one.pid)
            codes.append(one.wait(LIFE_DEADLINE))
            if codes[-1] == 0:
                break
        problems += _left_over(groups)
    except zygote.Overdue as error:
        problems.append(f"hangs: {error}")
    finally:
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
    if not codes or codes[-1] != 0:
        problems.append(f"did not end well in {MOST_LIVES} lives: {codes}")
    return Ran(case, folder, uri, codes, time.monotonic() - began, summary(folder), problems)


def _left_over(groups: list[int], seconds: float = 20.0) -> list[str]:
    """Orphans of a killed driver must see that they are fenced, and end."""
    deadline = time.monotonic() + seconds
    for group in groups:
        while _alive(group):
            if time.monotonic() > deadline:
                return [f"processes of a killed driver still run after {seconds:.0f} s"]
            time.sleep(0.02)
    return []


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
