"""What becomes of a failure that no restart can mend, where the other workers cannot see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import empty_config
from tunefleet.api.errors import SpecError
from tunefleet.api.words import FailureClass, Phase
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train import process
from tunefleet.train.group import Group
from tunefleet.train.process import run_process


@dataclass(frozen=True, slots=True)
class Leader(Group):
    """The first of some workers, of whom the others do not show."""

    def share(self, make: Callable[[], Any]) -> Any:
        return make()

    def leave(self) -> None:
        pass


@pytest.mark.parametrize(
    ("device", "world", "raised"),
    [
        pytest.param("cuda", 2, True, id="others on GPUs wait for it"),
        pytest.param("cuda", 1, False, id="alone on a GPU"),
        pytest.param("cpu", 2, False, id="others on CPUs lose their connection"),
    ],
)
def test_a_failure_is_raised_where_the_others_would_wait_and_the_next_start_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, world: int, raised: bool
) -> None:
    run = RunStore.create(open_store(str(tmp_path / "runs"), tmp_path), "default", "tiny")
    attempt = run.claim_attempt(Writer.here()).attempt
    config = empty_config(run, attempt, tmp_path / "scratch")

    def train(*parts: object) -> None:
        raise SpecError("the label is unknown")

    monkeypatch.setattr(process, "_train", train)
    monkeypatch.setattr(process, "device_of", lambda *named: torch.device(device))
    monkeypatch.setattr(Group, "current", staticmethod(lambda: Leader(0, world)))
    if not raised:
        run_process(config, local_rank=0)
        assert run.exit_record(attempt) is None, "the driver writes it"
        return
    with pytest.raises(SpecError):
        run_process(config, local_rank=0)
    run_process(config, local_rank=0)
    ended = run.exit_record(attempt)
    assert ended is not None
    assert (ended.phase, ended.failure) == (Phase.FAILED, FailureClass.USER)
    assert ended.message == "the label is unknown"
    assert len(run.starts(attempt)) == 1
