"""The order of samples: every unit once an epoch, the same for ever, whoever works on it."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.data import order as order_module
from tunefleet.data.order import Order, share

calm = settings(deadline=None, max_examples=60)


def lengths_of(count: int, seed: int = 3) -> npt.NDArray[np.int64]:
    raw = np.random.Philox(key=seed).random_raw(count)
    return (raw % np.uint64(120) + np.uint64(4)).astype(np.int64)


def make(count: int, *, seed: int = 17, batch: int = 8, micro: int = 2, window: int = 3) -> Order:
    return Order(
        lengths_of(count), seed=seed, batch_size=batch, micro_batch=micro, window_steps=window
    )


shapes = st.tuples(
    st.integers(1, 300),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(0, 2**32 - 1),
)


@calm
@given(shapes)
def test_every_unit_stands_in_exactly_one_micro_batch_of_an_epoch(
    shape: tuple[int, int, int, int, int],
) -> None:
    count, micro, per_step, window, seed = shape
    order = make(count, seed=seed, batch=micro * per_step, micro=micro, window=window)
    for epoch in (0, 2):
        first = epoch * order.steps_per_epoch
        steps = [order.step(first + i) for i in range(order.steps_per_epoch)]
        assert all(step.epoch == epoch for step in steps)
        units = np.concatenate([m for step in steps for m in step.micro_batches])
        assert sorted(units.tolist()) == list(range(count))


@calm
@given(shapes)
def test_all_steps_are_full_but_the_last_of_an_epoch(
    shape: tuple[int, int, int, int, int],
) -> None:
    count, micro, per_step, window, seed = shape
    order = make(count, seed=seed, batch=micro * per_step, micro=micro, window=window)
    sizes = [[len(m) for m in order.step(i).micro_batches] for i in range(order.steps_per_epoch)]
    assert all(step == [micro] * per_step for step in sizes[:-1])
    assert sum(sizes[-1]) == count - (len(sizes) - 1) * micro * per_step
    assert all(size == micro for size in sizes[-1][:-1])


def test_a_step_can_be_found_without_those_before_it() -> None:
    forwards = make(200)
    walked = [forwards.step(i).micro_batches for i in range(60)]
    for number in (59, 7, 31, 0):
        found = make(200).step(number).micro_batches
        assert [m.tolist() for m in found] == [m.tolist() for m in walked[number]]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    order = make(64, window=8)
    first = [m.tolist() for m in order.step(0).micro_batches]
    assert first != [m.tolist() for m in order.step(order.steps_per_epoch).micro_batches]
    assert first != [m.tolist() for m in make(64, window=8, seed=18).step(0).micro_batches]


def test_micro_batches_of_a_window_are_of_like_length() -> None:
    lengths = lengths_of(4000)
    order = Order(lengths, seed=1, batch_size=32, micro_batch=8, window_steps=50)
    padded = sum(
        int(lengths[m].max()) * len(m)
        for i in range(order.steps_per_epoch)
        for m in order.step(i).micro_batches
    )
    # Random micro-batches of 8 would pad by about 70 %.
    assert padded / int(lengths.sum()) < 1.05


def test_the_order_never_changes_silently() -> None:
    """A run that is resumed by a later version must see the same batches."""
    digest = hashlib.sha256()
    for count, batch, micro in ((1000, 32, 8), (257, 24, 4), (5, 16, 16)):
        order = make(count, batch=batch, micro=micro, window=5)
        for number in range(2 * order.steps_per_epoch):
            for units in order.step(number).micro_batches:
                digest.update(np.asarray([number, *units.tolist()], "<i8").tobytes())
    assert digest.hexdigest() == "f757419cbc018859fb55700a9df3cbbfe64b6a09798c9eac74636429d6ed89e4"


def test_shards_are_permuted_inside_and_among_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order_module, "SHARD_UNITS", 16)
    order = make(100, window=2, batch=4)
    seen = [
        int(unit)
        for i in range(order.steps_per_epoch)
        for m in order.step(i).micro_batches
        for unit in m
    ]
    assert sorted(seen) == list(range(100))
    shard = [unit // 16 for unit in seen]
    assert shard[0] != 0 or shard != sorted(shard)
    # A shard's units stay together: at most the windows at its two ends are shared.
    for number in range(6):
        places = [at for at, found in enumerate(shard) if found == number]
        assert places[-1] - places[0] < 16 + 2 * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"batch": 8, "micro": 3}, "does not divide", id="a batch that does not divide"
        ),
        pytest.param({"count": 0}, "no units", id="nothing to order"),
    ],
)
def test_an_order_that_cannot_be_cut_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"count": 10, **changes})


costs = st.lists(st.integers(0, 5000), max_size=64)


@calm
@given(costs, st.integers(1, 70))
def test_shares_cover_all_micro_batches_once(costs: list[int], workers: int) -> None:
    dealt = share(np.array(costs, np.int64), workers)
    assert len(dealt) == workers
    assert sorted(index for mine in dealt for index in mine) == list(range(len(costs)))
    assert all(mine == sorted(mine) for mine in dealt)


@calm
@given(costs, st.integers(1, 16))
def test_no_share_is_dearer_than_the_fair_one_by_more_than_one_micro_batch(
    costs: list[int], workers: int
) -> None:
    loads = [sum(costs[i] for i in mine) for mine in share(np.array(costs, np.int64), workers)]
    assert max(loads) <= sum(costs) / workers + max(costs, default=0)


def test_micro_batches_without_cost_are_dealt_evenly() -> None:
    assert [len(mine) for mine in share(np.zeros(6, np.int64), 3)] == [2, 2, 2]
