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
NANOSECONDS_PER_HOUR = 3600 * 1_000_000_000

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


def microdollars_of_nanoseconds(nanoseconds: int, price_microdollars_per_hour: int) -> int:
    """What so many worker-nanoseconds cost, rounded half up."""
    return _half_up(nanoseconds * price_microdollars_per_hour, NANOSECONDS_PER_HOUR)


def microdollars(seconds: float, price_microdollars_per_hour: int) -> int:
    """What so many worker-seconds cost, rounded half up."""
    exact = Fraction(seconds) * price_microdollars_per_hour
    return _half_up(exact.numerator, exact.denominator * 3600)


def by_cause(
    nanoseconds: Mapping[Cause, int], price_microdollars_per_hour: int
) -> dict[Cause, int]:
    """The cost of each cause; the parts add up to the cost of the sum exactly.

    Every part is rounded down, then the micro-dollars that are missing go to the largest
    remainders (ties: in the order of :class:`Cause`).
    """
    total = microdollars_of_nanoseconds(sum(nanoseconds.values()), price_microdollars_per_hour)
    order = [cause for cause in Cause if cause in nanoseconds]
    shares: dict[Cause, int] = {}
    remainders: list[tuple[int, int, Cause]] = []
    for position, cause in enumerate(order):
        whole, rest = divmod(nanoseconds[cause] * price_microdollars_per_hour, NANOSECONDS_PER_HOUR)
        shares[cause] = whole
        remainders.append((-rest, position, cause))
    for _, _, cause in sorted(remainders)[: total - sum(shares.values())]:
        shares[cause] += 1
    return shares


def format_money(amount_microdollars: int) -> str:
    """``$12.34``; amounts below a dollar keep four decimals, below a cent six."""
    sign = "-" if amount_microdollars < 0 else ""
    amount = abs(amount_microdollars)
    places = 2 if amount >= MICRO or amount == 0 else 4 if amount >= MICRO // 100 else 6
    rounded = (Decimal(amount) / MICRO).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return f"{sign}${rounded:,}"


def _half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
