"""A store that takes longer than any step ends no run, as long as it takes what it is given."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from tests.train.conftest import Site, make_plan
from tests.train.forking import launch_forks
from tests.train.test_exactness import succeeded
from tunefleet.api.words import FailureClass
from tunefleet.storage.store import Store
from tunefleet.train import moving, process
from tunefleet.train.watchdog import Watchdog

HANG_SECONDS, SLOW_SECONDS = 4.0, 10.0
LARGE = ("moments.safetensors", "model.safetensors")


def slow(rank: int, *, where: str) -> None:
    """A worker that is given up early, and whose store is slow with the large files of a place."""
    write = Store.write

    def slowly(self: Store, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
        if where in key and key.endswith(LARGE):
            time.sleep(SLOW_SECONDS)
        return write(self, key, body)

    Store.write = slowly  # type: ignore[method-assign]
    # A slow first step would lengthen the limit; here the floor alone decides.
    vars(process).update(HANG_FLOOR_SECONDS=HANG_SECONDS, Watchdog=partial(Watchdog, multiple=1.0))


at_the_last_checkpoint = partial(slow, where="checkpoints/00000010-")
at_the_bundle = partial(slow, where="bundle/")


@pytest.mark.parametrize(
    ("changed", "plan"),
    [
        pytest.param(
            at_the_last_checkpoint,
            {"checkpoints": make_plan().checkpoints.model_copy(update={"bytes": 50_000_000})},
            id="the last checkpoint is slow",
        ),
        pytest.param(at_the_bundle, {"parameters": 10_000_000}, id="the bundle is slow"),
    ],
)
def test_a_run_ends_well_however_long_its_end_takes_to_be_stored(
    site: Site, changed: partial[None], plan: dict[str, object], request: pytest.FixtureRequest
) -> None:
    runs = request.node.callspec.id
    done = launch_forks(site.config(runs, **plan), 2, changed)
    assert done.returncode == 0, done.stderr
    assert len(succeeded(site, runs).starts(1)) == 1


def test_a_store_that_takes_nothing_for_much_longer_counts_as_hanging(site: Site) -> None:
    """A tiny checkpoint is not waited for as a large one would be."""
    config = site.config("hangs")
    done = launch_forks(config, 1, at_the_last_checkpoint)
    assert done.returncode != 0
    (failure,) = site.run_store("hangs").failures(1, 1)
    assert failure.failure is FailureClass.HUNG


def test_what_is_large_is_waited_for_longer_by_every_worker() -> None:
    plan = make_plan(parameters=4_000_000_000)
    assert moving.bundling_seconds(plan) > 3600
    assert moving.collective_seconds(plan) > moving.bundling_seconds(plan)
    small = make_plan()
    assert moving.collective_seconds(small) == pytest.approx(600, abs=1)
