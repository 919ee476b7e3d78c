"""Random numbers that never change: raw Philox words as a pure function of seed and purpose.

Decides where every random choice about rows comes from (splits, order). NumPy keeps the raw
stream of a bit generator stable over versions (NEP 19) but not ``Generator.permutation``,
so a permutation here is the stable argsort of raw words. Imports numpy alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

EPOCH, WINDOW, SPLIT, PREVIEW = 1, 2, 3, 4
"""First number of a purpose; the rest is the user's own counting."""


def raw(seed: int, *purpose: int, count: int) -> npt.NDArray[np.uint64]:
    """``count`` raw 64-bit numbers, a pure function of seed and purpose."""
    key = np.random.SeedSequence([seed, *purpose]).generate_state(2, np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def shuffled(count: int, seed: int, *purpose: int) -> Indices:
    """The numbers 0 … count - 1 in a random order."""
    return np.argsort(raw(seed, *purpose, count=count), kind="stable").astype(np.int64)
