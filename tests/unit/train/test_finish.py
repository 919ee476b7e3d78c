"""Which checkpoint becomes the bundle, and what is said where it is not the best one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train.conftest import make_plan
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.finish import _best_manifest
from tunefleet.train.state import RunState


def a_run(folder: Path) -> tuple[RunStore, Manifest]:
    """A run with checkpoints at steps 2, 4 and 6, and the first of them: the best."""
    run = RunStore.create(open_store(str(folder), folder), "default", "job")
    claim = run.claim_attempt(Writer.here())
    writer = CheckpointWriter(run, run.claim_start(claim.attempt, 1))
    made = [
        writer.commit(step, {"weights": b"w" * step}, metric=1.0 / step, chain="", digests={})
        for step in (2, 4, 6)
    ]
    return run, made[0]


def chosen(run: RunStore, keep_best: int, best_step: int | None) -> tuple[int, list[str]]:
    """The step of the checkpoint that is taken, and the warnings."""
    said: list[str] = []
    reporter = SimpleNamespace(event=lambda kind, message, step: said.append(message))
    plan = make_plan()
    checkpoints = plan.checkpoints.model_copy(update={"keep_best": keep_best})
    parts: Any = SimpleNamespace(
        plan=plan.model_copy(update={"checkpoints": checkpoints}), reporter=reporter
    )
    state = RunState(step=6, chain="", best_step=best_step)
    return _best_manifest(run, parts, state).step, said


def test_the_best_checkpoint_is_taken_and_nothing_is_said(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path)
    assert chosen(run, 1, best_step=2) == (2, [])
    assert chosen(run, 1, best_step=None) == (6, []), "nothing was evaluated"


def damage_manifest(run: RunStore, best: Manifest) -> None:
    run.store.put(run.key(best.key), b"{}")


def damage_weights(run: RunStore, best: Manifest) -> None:
    run.store.put(run.key("checkpoints", best.name, "weights"), b"v" * 2)


def damage_nothing(run: RunStore, best: Manifest) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "keep_best", "why"),
    [
        pytest.param(damage_manifest, 1, "manifest is gone or damaged", id="damaged manifest"),
        pytest.param(damage_weights, 1, "was altered", id="altered weights"),
        pytest.param(damage_nothing, 0, "was not kept", id="the best is not to be kept"),
    ],
)
def test_another_one_than_the_best_is_never_taken_without_a_word(
    tmp_path: Path, damage: Callable[[RunStore, Manifest], None], keep_best: int, why: str
) -> None:
    run, best = a_run(tmp_path)
    damage(run, best)
    if not keep_best:
        chosen(run, 0, best_step=None)
    step, said = chosen(run, keep_best, best_step=2)
    assert step == 6
    (warning,) = said
    assert "step 2" in warning
    assert "step 6" in warning
    assert why in warning
