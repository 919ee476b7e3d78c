"""The two sides of a training comparison, made ready from one job file.

Decides that both read the very same token ids: the job is prepared once, by the product's own
prepare stage, and the peer gets the tokens as plain arrays. Imports the verbs' building blocks.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.watch import Watched, watch
from benchmarks.workloads import LEARNING_RATE
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.document import Plan
from tunefleet.plan.facts import Facts
from tunefleet.plan.planner import make_plan
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.machine import machine_facts
from tunefleet.train.prepare import prepare
from tunefleet.verbs.jobfile import JobFile, load

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A prepared and planned job."""

    file: JobFile
    facts: Facts
    plan: Plan
    scratch: Path

    @property
    def mean_tokens(self) -> float:
        """Real tokens per training sample."""
        return self.facts.data.train.tokens / self.facts.data.train.units


def ready(text: str, scratch: Path, *, device: str = "cpu") -> Ready:
    """Prepare and plan a job; token caches below ``scratch`` are used again."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "job.yaml"
    path.write_text(text)
    file = load(path)
    facts = prepare(file.job, file.base, cache=scratch.parent / "cache").facts
    plan = make_plan(file.job, facts, machine_facts(device))
    return Ready(file, facts, plan, scratch)


def run_ours(
    job: Ready,
    *,
    name: str,
    between: tuple[int, int] | None = None,
    stop_after: int | None = None,
) -> Watched:
    """The product's loop under torchrun, without Ray."""
    folder = job.scratch / name
    folder.mkdir(parents=True)
    run = RunStore.create(open_store(str(folder / "store"), folder), "default", job.plan.job)
    claim = run.claim_attempt(Writer.here())
    data = job.facts.data
    config = WorkerConfig(
        address=RunAddress(
            uri=run.store.uri,
            namespace=run.namespace,
            job=run.job,
            run=run.run,
            attempt=claim.attempt,
        ),
        job=job.file.job.model_dump(by_alias=True, mode="json", exclude_none=True),
        plan=job.plan,
        model_path=job.facts.model.path,
        labels=data.labels,
        stores={split: facts.store for split, facts in data.splits.items()},
        scratch=str(folder / "channel"),
    )
    path = folder / "worker.json"
    path.write_text(config.to_json())
    command = [
        *TORCHRUN,
        "--nproc-per-node",
        str(job.plan.workers),
        "-m",
        "tunefleet.train",
        str(path),
    ]
    return watch(
        command,
        scratch=folder,
        steps="channel/steps.jsonl",
        between=between,
        stop_after=stop_after,
    )


def run_trainer(
    job: Ready,
    *,
    name: str,
    sampling: str,
    between: tuple[int, int] | None = None,
    stop_after: int | None = None,
    save_steps: int = 0,
) -> Watched:
    """transformers' Trainer under torchrun, on the same tokens."""
    folder = job.scratch / name
    folder.mkdir(parents=True)
    data = job.facts.data
    config = {
        "model": job.facts.model.path,
        "labels": len(job.facts.data.labels),
        "train": _plain(data.train.store, folder / "train.npz"),
        "test": _plain(data.test.store, folder / "test.npz") if data.test is not None else "",
        "steps_file": str(folder / "steps.jsonl"),
        "scratch": str(folder / "output"),
        "batch": job.plan.batch_size,
        "workers": job.plan.workers,
        "max_steps": job.plan.total_steps,
        "learning_rate": LEARNING_RATE,
        "weight_decay": job.plan.optimizer.weight_decay,
        "warmup_steps": job.plan.optimizer.warmup_steps,
        "sampling": sampling,
        "seed": job.plan.seed,
        "save_steps": save_steps,
        "device": job.plan.device,
        "precision": job.plan.precision,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    command = [
        *TORCHRUN,
        "--nproc-per-node",
        str(job.plan.workers),
        "-m",
        "benchmarks.peers.trainer",
    ]
    return watch(
        [*command, str(path)],
        scratch=folder,
        steps="steps.jsonl.*",
        between=between,
        stop_after=stop_after,
    )


def _plain(store: str, target: Path) -> str:
    """A split's tokens as three plain arrays, for a side that knows nothing of our stores."""
    tokens = TokenStore(Path(store))
    ids, labels = tokens.ragged["input_ids"], tokens.fixed["label"]
    np.savez(target, ids=ids, offsets=tokens.offsets, labels=labels)
    return str(target)
