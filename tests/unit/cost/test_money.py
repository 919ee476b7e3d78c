"""Money is counted in integer micro-dollars and never guessed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.api.errors import SpecError
from tunefleet.api.words import Cause
from tunefleet.cost import money


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0.75", 750_000, id="a decimal"),
        pytest.param("$0.75", 750_000, id="with a dollar sign"),
        pytest.param(" 12 ", 12_000_000, id="whole dollars with spaces"),
        pytest.param("0.1/h", 100_000, id="per hour, and no binary fraction"),
        pytest.param("2.5/hour", 2_500_000, id="per hour in full"),
        pytest.param("0.000001", 1, id="one micro-dollar"),
        pytest.param("0", 0, id="free"),
    ],
)
def test_reads_a_price(text: str, expected: int) -> None:
    assert money.parse_price(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "0,75", "0.0000001", "1 €", "ten"])
def test_refuses_what_is_no_price(text: str) -> None:
    with pytest.raises(SpecError, match=r"no price\n.*0\.75"):
        money.parse_price(text)


@pytest.mark.parametrize(
    ("seconds", "price", "expected"),
    [
        pytest.param(3600, 750_000, 750_000, id="an hour costs the price"),
        pytest.param(1, 3600, 1, id="a second of 3600 is one"),
        pytest.param(1, 1800, 1, id="a half is rounded up"),
        pytest.param(1, 1799, 0, id="below a half is rounded down"),
        pytest.param(0.0, 10**9, 0, id="no time is no money"),
    ],
)
def test_seconds_cost(seconds: float, price: int, expected: int) -> None:
    assert money.rounded(Fraction(seconds) * price / 3600) == expected


@given(st.floats(0, 1e9), st.integers(0, 10**10))
def test_the_rounding_error_is_at_most_half_a_microdollar(seconds: float, price: int) -> None:
    exact = Fraction(seconds) * price / 3600
    assert abs(money.rounded(exact) - exact) <= Fraction(1, 2)


@given(
    st.dictionaries(st.sampled_from(list(Cause)), st.floats(0, 1e9), min_size=1),
    st.integers(0, 10**15),
)
def test_parts_add_up_to_the_amount_and_keep_to_their_shares(
    spent: dict[Cause, float], amount: int
) -> None:
    total = sum(Fraction(seconds) for seconds in spent.values())
    if total == 0:
        with pytest.raises(ValueError, match="nothing to share"):
            money.shared(amount, spent)
        return
    parts = money.shared(amount, spent)
    assert sum(parts.values()) == amount
    assert parts.keys() == spent.keys()
    for cause, part in parts.items():
        assert abs(part - amount * Fraction(spent[cause]) / total) < 1


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (9_999, "$0.009999"),
        (12_345, "$0.0123"),
        (1_234_567, "$1.23"),
        (1_234_567_890_000, "$1,234,567.89"),
        (-50_000, "-$0.0500"),
    ],
)
def test_shows_an_amount(amount: int, shown: str) -> None:
    assert money.format_money(amount) == shown
