"""Numbers in words: how the report, the card and the comparison write them.

Decides units and digits. Pure; imports ``cost.money``.
"""

from __future__ import annotations

import math

from tunefleet.cost.money import format_money

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def compact(number: float) -> str:
    """``66.4 M``: three digits and a unit."""
    for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= size:
            return f"{number / (1e3 if unit == ' k' else size):.3g}{unit}"
    return f"{number:,.0f}"


def metric(value: float | None) -> str:
    """A metric with three decimals, more digits for small and fewer for large ones."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size != 0 and size < 0.001:
        text = f"{value:.2e}"
    elif size < 100:
        text = f"{value:.3f}"
    elif size < 10_000:
        text = f"{value:,.1f}"
    else:
        text = compact(value)
    return text.replace("-", _MINUS)


def signed(value: float | None) -> str:
    """A difference with its sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"+{metric(value)}" if value >= 0 else metric(value)


def percent(share: float | None, digits: int = 1) -> str:
    """``12.3 %``."""
    return NOTHING if share is None else f"{share * 100:.{digits}f} %"


def duration(seconds: float) -> str:
    """``5 min 12 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def money(microdollars: int | None) -> str:
    """Dollars: cents, and more digits below a dollar where they say something."""
    if microdollars is None:
        return "unpriced"
    whole, _, digits = format_money(microdollars).partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def cost(microdollars: int | None, unpriced_seconds: float) -> str:
    """Dollars, and the worker time beside them that nobody knows the price of."""
    text = money(microdollars)
    if microdollars is None or unpriced_seconds <= 0:
        return text
    return f"{text} + {duration(unpriced_seconds)} unpriced"


def exact_money(microdollars: int | None) -> str:
    """Dollars to the micro-dollar, for columns that must add up."""
    return "unpriced" if microdollars is None else f"${microdollars / 1e6:,.6f}"


def size(count: int) -> str:
    """``12.3 MB`` (powers of ten)."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


def rate(value: float) -> str:
    """A learning rate: ``2e-05`` as ``2e-5``."""
    text = f"{value:.2g}"
    return text.replace("e-0", "e-") if "e" in text else text
