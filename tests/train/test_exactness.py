"""The numbers: equal to plain torch, whatever the number of workers, through any stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.checkpoints import head, read_file
from tests.tiny_models import tiny_bert
from tests.train.conftest import Site
from tests.train.forking import launch_forks
from tests.train.launching import launch
from tunefleet.api.words import Phase, Precision
from tunefleet.data.order import Order
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.manifest import Manifest
from tunefleet.storage.run import RunStore

Weights = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.floating]]]


def newest(run: RunStore) -> tuple[Manifest, Weights]:
    """The head of a run's chain and its weights."""
    manifest = head(run)
    assert manifest is not None
    return manifest, safetensors.numpy.load(read_file(run, manifest, "weights.safetensors"))


def losses(config: WorkerConfig) -> list[float]:
    """The losses that a finished process logged, step by step."""
    lines = (Path(config.scratch) / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def succeeded(site: Site, runs: str) -> RunStore:
    """The run below ``runs``, which must have ended well."""
    run = site.run_store(runs)
    claim = run.newest_claim()
    assert claim is not None
    ended = run.exit_record(claim.attempt)
    assert ended is not None and ended.phase is Phase.SUCCEEDED, ended
    return run


def reference_weights(site: Site, model_folder: Path) -> Weights:
    """The same training written with nothing but torch and transformers.

    One process, a whole step as one padded batch, mean loss, unfused AdamW, transformers'
    schedule: what a user would write by hand. Only the sample ids of each step come from us.
    """
    from transformers import AutoModelForSequenceClassification, get_scheduler

    plan, store = site.plan, TokenStore(site.stores["train"])
    order = Order(store.lengths, seed=5, batch_size=32, micro_batch=4, window_steps=50)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder).double()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=1e-3,
    )
    schedule = get_scheduler("linear", optimizer, 2, plan.total_steps)
    model.train()
    for step in range(plan.total_steps):
        units = np.concatenate(order.step(step).micro_batches)
        rows = [store.ragged["input_ids"][store.offsets[u] : store.offsets[u + 1]] for u in units]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        labels = torch.tensor(np.asarray(store.fixed["label"])[units], dtype=torch.long)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def test_equals_a_single_process_reference_in_fp64(site: Site, tmp_path: Path) -> None:
    """Three workers, eight micro-batches a step, against plain torch."""
    model = tiny_bert(tmp_path / "model", labels=("bad", "good"), dropout=0.0)
    config = site.config("reference", precision=Precision.FP64)
    config = config.model_copy(update={"model_path": str(model)})
    done = launch_forks(config, 3)
    assert done.returncode == 0, done.stderr
    _, weights = newest(succeeded(site, "reference"))
    for name, expected in reference_weights(site, model).items():
        np.testing.assert_allclose(weights[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def runs_by_workers(site: Site) -> dict[str, tuple[WorkerConfig, RunStore]]:
    """The same run, dropout included, with one, two (twice) and three workers."""
    found = {}
    # One of them as a user starts it; the bits of the forks are compared with it.
    starts: dict[str, tuple[Callable[[WorkerConfig, int], CompletedProcess[str]], int]] = {
        "one": (launch_forks, 1),
        "two": (launch, 2),
        "two again": (launch_forks, 2),
        "three": (launch_forks, 3),
    }
    for name, (start, processes) in starts.items():
        config = site.config(f"workers {name}")
        done = start(config, processes)
        assert done.returncode == 0, done.stderr
        found[name] = (config, succeeded(site, f"workers {name}"))
    return found


def test_every_number_of_workers_uses_the_same_samples_in_every_step(
    runs_by_workers: dict[str, tuple[WorkerConfig, RunStore]],
) -> None:
    chains = {newest(run)[0].chain for _, run in runs_by_workers.values()}
    assert len(chains) == 1


@pytest.mark.parametrize("other", ["two", "three"])
def test_losses_agree_with_one_worker_dropout_included(
    runs_by_workers: dict[str, tuple[WorkerConfig, RunStore]], other: str
) -> None:
    alone, together = losses(runs_by_workers["one"][0]), losses(runs_by_workers[other][0])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    weights, expected = newest(runs_by_workers[other][1])[1], newest(runs_by_workers["one"][1])[1]
    for name in expected:
        np.testing.assert_allclose(weights[name], expected[name], atol=1e-5, err_msg=name)


def test_the_same_number_of_workers_gives_the_same_bits(
    runs_by_workers: dict[str, tuple[WorkerConfig, RunStore]],
) -> None:
    first, second = runs_by_workers["two"], runs_by_workers["two again"]
    assert losses(first[0]) == losses(second[0])
    weights, again = newest(first[1])[1], newest(second[1])[1]
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
