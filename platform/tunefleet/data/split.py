"""Which rows are held out: a fraction of the training rows, by label or by group.

Decides f(seed, rows): test rows are taken first, then validation rows, both as fractions of
all rows of ``data.train``. With labels the draw is stratified (each label's share is within
one row of its quota, and a label never loses its last training row); with ``groupBy`` whole
groups are drawn until the fraction is reached. Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from tunefleet.data.draws import SPLIT, Indices, shuffled

VALIDATION, TEST = 1, 2
"""Purposes of a draw, so that the two never share random numbers."""


def held_out(
    available: Indices,
    count: int,
    *,
    seed: int,
    purpose: int,
    labels: Sequence[int] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> Indices:
    """The positions held out of ``available``: about ``count``, in ascending order.

    ``labels`` and ``groups`` are given for ``available``, in its order.
    """
    if groups is not None:
        chosen = _by_group(groups, count, seed, purpose)
    elif labels is not None:
        chosen = _by_label(np.asarray(labels, np.int64), count, seed, purpose)
    else:
        chosen = shuffled(len(available), seed, SPLIT, purpose)[:count]
    return np.sort(available[chosen])


def quota(rows: int, fraction: float) -> int:
    """How many rows a fraction is: rounded to the nearest, at least one."""
    return max(1, int(rows * fraction + 0.5))


def _by_label(labels: Indices, count: int, seed: int, purpose: int) -> Indices:
    names, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    exact = sizes * (count / max(1, len(labels)))
    take = np.minimum(np.floor(exact).astype(np.int64), sizes - 1)
    # Largest remainder first; a label's quota may be passed by less than one row, and a
    # label's last row stays in training.
    for label in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        room = take[label] < min(exact[label], sizes[label] - 1)
        if room and take.sum() < count:
            take[label] += 1
    chosen = []
    for label in range(len(names)):
        rows = np.flatnonzero(inverse == label)
        order = shuffled(len(rows), seed, SPLIT, purpose, 1 + label)
        chosen.append(rows[order[: take[label]]])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _by_group(groups: Sequence[Hashable], count: int, seed: int, purpose: int) -> Indices:
    """Whole groups in a random order, each taken when it brings the count nearer."""
    numbers: dict[Hashable, int] = {}
    of_row = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
    sizes = np.bincount(of_row, minlength=len(numbers))
    taken: list[int] = []
    total = 0
    for group in shuffled(len(numbers), seed, SPLIT, purpose):
        size = int(sizes[group])
        if len(taken) == len(numbers) - 1:
            break  # A group stays in training.
        if total < count and abs(total + size - count) <= abs(total - count):
            taken.append(int(group))
            total += size
    if not taken and len(numbers) > 1:
        taken = [int(np.argmin(sizes))]
    return np.flatnonzero(np.isin(of_row, taken)).astype(np.int64)
