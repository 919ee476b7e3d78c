"""Saving in the background: what a step waits for, and what is written down of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from tests.checkpoints import head, read_file
from tests.testbed.s3 import S3Server
from tests.train.conftest import make_plan
from tunefleet.api.errors import StorageError
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest
from tunefleet.storage.faults import translate
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import Store, open_store
from tunefleet.train.failures import classify
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


def new_saver(run: RunStore) -> Saver:
    claim = run.claim_attempt(Writer.here())
    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    return Saver(run, writer, make_plan(), {}, lambda manifest: None)


def test_a_store_that_is_away_for_a_while_delays_a_checkpoint_and_nothing_else(
    s3_environment: S3Server, tmp_path: Path
) -> None:
    run = RunStore.create(open_store(s3_environment.uri("away"), tmp_path), "default", "job")
    model, optimizer = trained()
    saver = new_saver(run)
    saver.save(model, optimizer, RunState(step=1, chain=""), metric=None)
    saver.wait()
    first = saver.measured
    s3_environment.pause()
    try:
        saver.save(model, optimizer, RunState(step=2, chain=""), metric=None)
        time.sleep(2.0)
        assert saver.measured is first, "the step went on, the checkpoint waits for the store"
    finally:
        s3_environment.resume()
    saver.close()
    manifest = head(run)
    assert manifest is not None
    assert manifest.step == 2


@pytest.mark.parametrize("says", ["No space left on device (os error 28)", "403 Forbidden"])
def test_a_store_that_refuses_is_told_and_keeps_what_it_has(says: str) -> None:
    class Refusing(Store):
        refusing = False

        def write(self, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
            if self.refusing and key.endswith("moments.safetensors"):
                raise translate(OSError(says), "write", key)
            return super().write(key, body)

    store = Refusing(f"memory://refusing-{says}".replace(" ", "-"))
    run = RunStore.create(store, "default", "job")
    model, optimizer = trained()
    saver = new_saver(run)
    saver.save(model, optimizer, RunState(step=1, chain=""), metric=None)
    saver.wait()
    store.refusing = True
    saver.save(model, optimizer, RunState(step=2, chain=""), metric=None)
    with pytest.raises(StorageError) as raised:
        saver.save(model, optimizer, RunState(step=3, chain=""), metric=None)
    assert raised.value.remedy
    assert classify(raised.value).retryable
    manifest = head(run)
    assert manifest is not None
    assert manifest.step == 1
    assert len(run.store.folders(run.key("checkpoints"))) == 1, "what was half written is gone"
