"""The expected padding, against the cut that training really makes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tests.plans import histogram
from tunefleet.data.batch import padded
from tunefleet.data.order import Order
from tunefleet.plan.padding import padded_tokens

Lengths = npt.NDArray[np.int64]


def uniform(random: np.random.Generator, count: int) -> Lengths:
    return random.integers(5, 60, count)


def long_tailed(random: np.random.Generator, count: int) -> Lengths:
    return np.clip(random.lognormal(3.3, 0.9, count), 8, 512).astype(np.int64)


def two_kinds(random: np.random.Generator, count: int) -> Lengths:
    return np.where(random.random(count) < 0.1, 400, 12) + random.integers(0, 8, count)


def equal(random: np.random.Generator, count: int) -> Lengths:
    return np.full(count, 32)


def computed(lengths: Lengths, batch: int, micro: int, window: int, multiple: int) -> float:
    """Padded tokens of an epoch as the order really cuts it, the mean of four."""
    order = Order(lengths, seed=3, batch_size=batch, micro_batch=micro, window_steps=window)
    longest, epochs = int(lengths.max()), 4
    total = sum(
        len(units) * min(padded(int(lengths[units].max()), multiple), longest)
        for step in range(epochs * order.steps_per_epoch)
        for units in order.step(step).micro_batches
    )
    return total / epochs


@pytest.mark.parametrize("draw", [uniform, long_tailed, two_kinds, equal])
@pytest.mark.parametrize(
    ("count", "batch", "micro", "window"),
    [
        pytest.param(4000, 32, 16, 50, id="windows that divide nothing"),
        pytest.param(4000, 32, 16, 5, id="short windows"),
        pytest.param(900, 32, 8, 50, id="one window holds all"),
        pytest.param(333, 64, 4, 50, id="a ragged end"),
        pytest.param(5000, 100, 20, 3, id="windows with a rest"),
        pytest.param(50, 128, 16, 50, id="less than a batch"),
    ],
)
@pytest.mark.parametrize("multiple", [1, 8], ids=["exact lengths", "multiples of 8"])
def test_expects_what_the_order_computes(
    draw: Callable[[np.random.Generator, int], Lengths],
    count: int,
    batch: int,
    micro: int,
    window: int,
    multiple: int,
) -> None:
    lengths = draw(np.random.default_rng(11), count)
    real = computed(lengths, batch, micro, window, multiple)
    expected = padded_tokens(histogram(lengths.tolist()), batch, micro, window, multiple)
    assert expected.tokens == lengths.sum()
    assert expected.longest == lengths.max()
    # A handful of micro-batches varies more than hundreds do.
    assert expected.padded_tokens == pytest.approx(real, rel=0.04 if count > 400 else 0.12)


def test_units_of_one_length_are_not_padded() -> None:
    found = padded_tokens([[32, 1000]], 32, 16, 50)
    assert found.padded_tokens == 32_000
    assert found.share == 0


def test_rounding_up_is_padding() -> None:
    found = padded_tokens([[30, 992], [64, 8]], 100, 2, 50, multiple=8)
    assert found.padded_tokens == 992 * 32 + 8 * 64


def test_rounding_up_stops_at_the_longest_unit() -> None:
    assert padded_tokens([[30, 1000]], 32, 16, 50, multiple=8).share == 0


def test_a_plan_of_any_size_answers_at_once() -> None:
    lengths = [[length, 100_000] for length in range(8, 512)]
    found = padded_tokens(lengths, 1_000_000, 1, 50)
    assert found.padded_tokens == pytest.approx(found.tokens, rel=0.01)


def test_no_units_are_no_tokens() -> None:
    found = padded_tokens([], 32, 16, 50)
    assert (found.tokens, found.padded_tokens, found.share) == (0, 0.0, 0.0)
