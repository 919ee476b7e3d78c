"""The data card: rows, splits, classes, lengths, and what was noticed.

Decides how many classes and length bins are drawn. Imports ``plan`` records and numpy.
"""

from __future__ import annotations

from pathlib import PurePath

import numpy as np

from tunefleet.evaluate.content import Bin, ClassBalance, DataCard, SplitCard
from tunefleet.evaluate.measures import edges
from tunefleet.plan.facts import Facts, SplitFacts

_MOST_CLASSES = 24
_BINS = 28


def data_card(facts: Facts) -> DataCard:
    """The card of a run's data."""
    data = facts.data
    splits = {"train": data.train, "validation": data.validation}
    if data.test is not None:
        splits["test"] = data.test
    names = data.labels or sorted({name for part in splits.values() for name in part.classes})
    by_count = sorted(names, key=lambda name: -data.train.classes.get(name, 0))
    shown = by_count[:_MOST_CLASSES] if any(part.classes for part in splits.values()) else []
    return DataCard(
        digest=data.digest,
        files=[PurePath(file).name for file in data.files],
        columns=data.columns,
        splits=[_split(name, part) for name, part in splits.items()],
        classes=[
            ClassBalance(
                name=name,
                counts={split: part.classes.get(name, 0) for split, part in splits.items()},
            )
            for name in shown
        ],
        more_classes=len(by_count) - len(shown) if shown else 0,
        lengths=_lengths(data.train, facts.max_length),
        max_length=facts.max_length,
        max_length_reason=facts.max_length_reason,
        findings=data.findings,
    )


def _split(name: str, part: SplitFacts) -> SplitCard:
    lengths = np.asarray(part.lengths, dtype=np.int64).reshape(-1, 2)
    running = np.cumsum(lengths[:, 1])
    middle = int(np.searchsorted(running, (running[-1] + 1) // 2)) if len(lengths) else 0
    return SplitCard(
        split=name,
        rows=part.rows,
        units=part.units,
        tokens=part.tokens,
        truncated=part.truncated,
        shortest=int(lengths[0, 0]) if len(lengths) else 0,
        median=int(lengths[middle, 0]) if len(lengths) else 0,
        longest=int(lengths[-1, 0]) if len(lengths) else 0,
        digest=part.digest,
    )


def _lengths(part: SplitFacts, max_length: int) -> list[Bin]:
    """Units by length in tokens; the last bin ends at the longest unit."""
    pairs = np.asarray(part.lengths, dtype=np.int64).reshape(-1, 2)
    if not len(pairs):
        return []
    longest = min(int(pairs[-1, 0]), max_length)
    cuts = np.unique(np.ceil(edges(0.0, float(longest), min(_BINS, longest)))).astype(np.int64)
    places = np.clip(np.searchsorted(cuts, pairs[:, 0], side="left") - 1, 0, len(cuts) - 2)
    counts = np.bincount(places, weights=pairs[:, 1], minlength=len(cuts) - 1)
    return [
        Bin(low=float(cuts[i]), high=float(cuts[i + 1]), count=int(counts[i]))
        for i in range(len(cuts) - 1)
    ]
