"""How much is measured: everything, or a first look.

Decides pairs, steps and rows for both scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of all measurements. ``between`` are the steps of the measured stretch.

    ``Trainer`` sorts stretches of 25 steps by length, the longest first, and we deal out stretches
    of 50: a measured stretch is whole ones of the former, or it would show long texts alone, and
    at full scale of the latter too. ``present`` are the numbers of jobs that a controller is
    measured among, the least first. ``pictures`` is the folder of what is drawn.
    """

    scratch: Path
    pictures: Path
    pairs: int
    between: tuple[int, int]
    rows: int
    starts: int
    checkpoints: int
    quality_steps: int
    quality_seeds: tuple[int, ...]
    burst: int
    picked_up: int
    present: tuple[int, ...]
    changes: int


def full(scratch: Path, pictures: Path) -> Scale:
    """What is reported: some hours on two cores."""
    return Scale(
        scratch,
        pictures,
        pairs=3,
        between=(50, 100),
        rows=1_000_000,
        starts=3,
        checkpoints=10_000,
        quality_steps=150,
        quality_seeds=(17, 18, 19),
        burst=1000,
        picked_up=300,
        present=(1000, 3000, 10_000),
        changes=200,
    )


def quick(scratch: Path, pictures: Path) -> Scale:
    """A first look: one pair each, some twenty minutes on two cores."""
    return Scale(
        scratch,
        pictures,
        pairs=1,
        between=(25, 50),
        rows=50_000,
        starts=1,
        checkpoints=1_000,
        quality_steps=40,
        quality_seeds=(17,),
        burst=100,
        picked_up=30,
        present=(1000,),
        changes=50,
    )
