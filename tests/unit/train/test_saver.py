"""Saving in the background: what a step waits for, and what is written down of it."""

from __future__ import annotations

import threading
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from tests.train.conftest import make_plan
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest, head, read_file
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.saver import Saver
from tunefleet.train.state import WEIGHTS, RunState


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_step_goes_on_while_its_state_is_written(tmp_path: Path) -> None:
    run = RunStore.create(open_store(str(tmp_path), tmp_path), "default", "job")
    claim = run.claim_attempt(Writer.here())
    model, optimizer = trained()
    written, told = threading.Event(), list[Manifest]()

    def committed(manifest: Manifest) -> None:
        assert written.wait(30)
        told.append(manifest)

    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    saver = Saver(run, writer, make_plan(), {}, committed)
    saver.reserve(model, optimizer)
    saver.save(model, optimizer, RunState(step=1, chain="c"), metric=None)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert saver.measured is None, "nothing is committed yet"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    written.set()
    saver.close()
    manifest = head(run)
    assert manifest is not None
    assert [m.name for m in told] == [manifest.name]
    found = safetensors.torch.load(read_file(run, manifest, WEIGHTS))
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert saver.measured is not None
    assert saver.measured.write_seconds > saver.measured.stall_seconds > 0
