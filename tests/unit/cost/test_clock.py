"""Every nanosecond has exactly one cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.api.words import Cause
from tunefleet.cost.clock import CauseClock


class Hands:
    """A clock that is moved by hand."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def __call__(self) -> int:
        return self.at


def test_time_goes_to_the_cause_that_is_current() -> None:
    hands = Hands(100)
    clock = CauseClock(hands)
    hands.at = 130
    assert clock.switch(Cause.TRAIN) is Cause.STARTUP
    hands.at = 200
    assert clock.totals() == {Cause.STARTUP: 30, Cause.TRAIN: 70}
    assert clock.current is Cause.TRAIN


def test_a_block_gives_back_to_what_was_before_it() -> None:
    hands = Hands()
    clock = CauseClock(hands, Cause.TRAIN)
    with clock.cause(Cause.CHECKPOINT):
        hands.at = 5
        with clock.cause(Cause.DATA_WAIT):
            hands.at = 7
        hands.at = 10
    hands.at = 12
    assert clock.totals() == {Cause.TRAIN: 2, Cause.CHECKPOINT: 8, Cause.DATA_WAIT: 2}


def test_a_block_gives_back_when_it_is_left_by_an_error() -> None:
    hands = Hands()
    clock = CauseClock(hands, Cause.TRAIN)

    def break_in_a_block() -> None:
        with clock.cause(Cause.EVALUATION):
            hands.at = 3
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        break_in_a_block()
    hands.at = 4
    assert clock.totals() == {Cause.TRAIN: 1, Cause.EVALUATION: 3}


def test_a_clock_may_begin_before_it_was_made() -> None:
    clock = CauseClock(Hands(50), Cause.STARTUP, since=20)
    assert clock.totals() == {Cause.STARTUP: 30}


def test_a_clock_that_goes_back_takes_no_time_away() -> None:
    hands = Hands(10)
    clock = CauseClock(hands, Cause.TRAIN)
    hands.at = 20
    clock.switch(Cause.EVALUATION)
    hands.at = 15
    assert clock.totals() == {Cause.TRAIN: 10, Cause.EVALUATION: 0}
    hands.at = 21
    assert clock.totals() == {Cause.TRAIN: 10, Cause.EVALUATION: 1}


CAUSES = st.sampled_from(list(Cause))
PASSED = st.integers(0, 10**12)
SCRIPT = st.recursive(
    st.tuples(st.just("switch"), CAUSES, PASSED),
    lambda inner: st.tuples(st.just("block"), CAUSES, st.lists(inner, max_size=4)),
    max_leaves=20,
)


@given(st.lists(SCRIPT, max_size=8), PASSED)
def test_causes_add_up_to_the_wall_under_any_switching_and_nesting(
    script: list[tuple[str, Cause, object]], start: int
) -> None:
    hands = Hands(start)
    clock = CauseClock(hands)
    for total in _play(script, clock, hands):
        assert total == hands.at - start


def _play(script: object, clock: CauseClock, hands: Hands) -> Iterator[int]:
    assert isinstance(script, list)
    for kind, cause, rest in script:
        if kind == "switch":
            clock.switch(cause)
            hands.at += rest
            yield sum(clock.totals().values())
        else:
            with clock.cause(cause):
                yield from _play(rest, clock, hands)
            yield sum(clock.totals().values())
