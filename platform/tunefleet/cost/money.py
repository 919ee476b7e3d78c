"""Money in integer micro-dollars: prices read from text, seconds turned into cost.

Decides how amounts are rounded (half up, once, at the end) and how a total is split by cause
so that the parts add up to it exactly. Pure; imports ``api`` and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from tunefleet.api.errors import SpecError
from tunefleet.api.words import Cause

MICRO = 1_000_000

_PRICE = re.compile(r"^\$?(\d{1,9}(?:\.\d{1,6})?)(?:/h(?:our)?)?$")


def parse_price(text: str) -> int:
    """Micro-dollars per worker-hour from ``0.75``, ``$0.75`` or ``0.75/h``.

    Raises ``SpecError`` for anything else; binary fractions never take part.
    """
    match = _PRICE.fullmatch(text.strip())
    if match is None:
        raise SpecError(
            f"{text!r} is no price",
            remedy="write US dollars per worker and hour with up to six decimals, e.g. 0.75",
        )
    return int(Decimal(match[1]) * MICRO)


def rounded(exact: Fraction) -> int:
    """Micro-dollars, rounded half up."""
    return _half_up(exact.numerator, exact.denominator)


def shared(
    amount_microdollars: int, weights: Mapping[Cause, float] | Mapping[Cause, Fraction]
) -> dict[Cause, int]:
    """An amount in proportion to weights (seconds by cause); the parts add up to it exactly.

    Every part is rounded down, then the micro-dollars that are missing go to the largest
    remainders (ties: in the order of the weights). Raises ``ValueError`` without any weight.
    """
    exact = {cause: Fraction(weight) for cause, weight in weights.items()}
    total = sum(exact.values())
    if total <= 0:
        raise ValueError("there is nothing to share an amount by")
    parts = {cause: amount_microdollars * weight / total for cause, weight in exact.items()}
    whole = {cause: int(part) for cause, part in parts.items()}
    by_remainder = sorted(parts, key=lambda cause: whole[cause] - parts[cause])
    for cause in by_remainder[: amount_microdollars - sum(whole.values())]:
        whole[cause] += 1
    return whole


def format_money(amount_microdollars: int) -> str:
    """``$12.34``; amounts below a dollar keep four decimals, below a cent six."""
    sign = "-" if amount_microdollars < 0 else ""
    amount = abs(amount_microdollars)
    places = 2 if amount >= MICRO or amount == 0 else 4 if amount >= MICRO // 100 else 6
    rounded = (Decimal(amount) / MICRO).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return f"{sign}${rounded:,}"


def _half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
