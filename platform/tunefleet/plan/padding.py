"""How many tokens are computed once units are padded, from the histogram of lengths alone.

Decides the expectation of the cut that ``data.order`` makes: a window of steps holds units
drawn without replacement, sorted by length and cut into micro-batches, each padded to its
longest unit. That longest unit is an order statistic of the window: it is at most x long
when enough of the drawn units are, whose number is hypergeometric: taken as it is for the
longest micro-batches, where it is skewed, and as normal for all others. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

# Micro-batches of a window that are looked at; of more of them, every so-manieth stands for
# its neighbours, so that a plan of any size answers at once.
_LOOKS = 4096
# Where the normal's tail is cut, in standard deviations.
_TAIL = 5.0
# Ranks from the top whose probabilities are summed exactly.
_EXACT_RANKS = 64


@dataclass(frozen=True, slots=True)
class Padding:
    """Tokens of one epoch: real ones, and what is computed after padding (expected)."""

    tokens: int
    padded_tokens: float
    longest: int

    @property
    def share(self) -> float:
        """The share of computed tokens that is padding."""
        return max(0.0, 1 - self.tokens / self.padded_tokens) if self.padded_tokens else 0.0


def padded_tokens(
    lengths: Sequence[Sequence[int]], batch: int, micro: int, window: int, multiple: int = 1
) -> Padding:
    """Expected padding of an epoch.

    ``lengths`` is a histogram of (length, units) pairs in ascending order; ``window`` in
    steps of ``batch`` units; every micro-batch is padded to a multiple of ``multiple``, but
    never above the longest unit of all.
    """
    sizes = [int(length) for length, _ in lengths]
    cumulative = list(accumulate(int(units) for _, units in lengths))
    units = cumulative[-1] if cumulative else 0
    tokens = sum(int(length) * int(count) for length, count in lengths)
    if units == 0:
        return Padding(0, 0.0, 0)
    span = window * batch
    whole, rest = divmod(units, span)
    padded = whole * _window(sizes, cumulative, span, micro, multiple) if whole else 0.0
    if rest:
        padded += _window(sizes, cumulative, rest, micro, multiple)
    return Padding(tokens, padded, sizes[-1])


def _window(
    sizes: list[int], cumulative: list[int], drawn: int, micro: int, multiple: int
) -> float:
    """Expected padded tokens of one window of ``drawn`` units."""
    full, rest = divmod(drawn, micro)
    # The ragged micro-batch stands at a random place of the sorted window; the middle is
    # its expected place.
    before = full // 2
    padded = 0.0
    if rest:
        padded = rest * _expected(sizes, cumulative, drawn, before * micro + rest, multiple)
    stride = -(-full // _LOOKS)
    for first in range(0, full, stride or 1):
        many = min(stride, full - first)
        rank = (first + (many + 1) // 2) * micro
        if rank > before * micro:
            rank += rest
        padded += many * micro * _expected(sizes, cumulative, drawn, rank, multiple)
    return padded


def _expected(
    sizes: list[int], cumulative: list[int], drawn: int, rank: int, multiple: int
) -> float:
    """Expected padded length where the longest unit is the ``rank``-th of ``drawn``."""
    units = cumulative[-1]
    if drawn >= units:
        return float(_rounded(sizes, bisect_left(cumulative, rank), multiple))
    widest = _TAIL * math.sqrt(drawn) / 2 + 1
    first = bisect_left(cumulative, (rank - widest) * units / drawn)
    expected = below = 0.0
    for at in range(min(first, len(sizes) - 1), len(sizes)):
        within = _at_most(units, cumulative[at], drawn, rank)
        expected += (within - below) * _rounded(sizes, at, multiple)
        below = within
        if cumulative[at] * drawn / units - rank > widest:
            break
    return expected + (1 - below) * sizes[-1]


def _at_most(units: int, short: int, drawn: int, rank: int) -> float:
    """The chance that the ``rank``-th of ``drawn`` is one of the ``short`` units of all."""
    if drawn - rank <= _EXACT_RANKS:
        return _few_above(units, units - short, drawn, drawn - rank)
    mean = drawn * short / units
    spread = math.sqrt(mean * (1 - short / units) * (units - drawn) / (units - 1))
    if not spread:
        return float(mean >= rank)
    return 0.5 * math.erfc((rank - 0.5 - mean) / spread / math.sqrt(2))


def _few_above(units: int, long: int, drawn: int, most: int) -> float:
    """The chance that at most ``most`` of ``drawn`` units are among the ``long`` ones."""
    fewest = max(0, drawn - (units - long))
    if fewest > most:
        return 0.0
    chance = math.exp(
        _ways(long, fewest) + _ways(units - long, drawn - fewest) - _ways(units, drawn)
    )
    total = chance
    for above in range(fewest, min(most, long, drawn)):
        chance *= (long - above) * (drawn - above)
        chance /= (above + 1) * (units - long - drawn + above + 1)
        total += chance
    return min(1.0, total)


def _ways(of: int, some: int) -> float:
    """The logarithm of a binomial coefficient."""
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def _rounded(sizes: list[int], at: int, multiple: int) -> int:
    return min(-(-sizes[at] // multiple) * multiple, sizes[-1])
