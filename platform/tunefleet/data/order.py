"""The order of samples: which units make which micro-batch of which step.

Decides f(seed, epoch, lengths) and nothing else decides order. Two levels: *shards* of
consecutive units are visited in a random order and permuted inside, and *windows* of some
steps are sorted by length and cut into micro-batches, so that padding is small and any step
can be found without replaying those before it. The cut never depends on the number of
workers. Random numbers come from Philox's raw stream, which NumPy keeps stable over
versions (NEP 19), unlike ``Generator.permutation``. Imports numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunefleet.data.draws import EPOCH, WINDOW, Indices, raw, shuffled

__all__ = ["GROUP_MICRO_BATCHES", "SHARD_UNITS", "Indices", "Order", "Step", "share"]

SHARD_UNITS = 1 << 20
GROUP_MICRO_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of one optimiser step, each an array of unit positions."""

    epoch: int
    micro_batches: tuple[Indices, ...]


class Order:
    """The steps of every epoch over units of the given lengths (tokens per unit).

    ``batch_size`` and ``micro_batch`` in units; the last step of an epoch takes what is
    left, so every unit stands in exactly one micro-batch of an epoch.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.integer],
        *,
        seed: int,
        batch_size: int,
        micro_batch: int,
        window_steps: int,
    ) -> None:
        if len(lengths) == 0:
            raise ValueError("there are no units to order")
        if batch_size % micro_batch:
            raise ValueError(
                f"a micro-batch of {micro_batch} does not divide a batch of {batch_size}"
            )
        self._lengths = np.asarray(lengths)
        self._seed = seed
        self._micro_batch = micro_batch
        self._per_step = batch_size // micro_batch
        self._batch = batch_size
        self._window = window_steps
        self.steps_per_epoch = -(-len(lengths) // self._batch)
        self._epoch_cache: tuple[int, Indices] | None = None
        self._window_cache: tuple[tuple[int, int], list[tuple[Indices, ...]]] | None = None

    def step(self, number: int) -> Step:
        """Step ``number`` of the run, counted from 0 over all epochs."""
        epoch, within = divmod(number, self.steps_per_epoch)
        window, position = divmod(within, self._window)
        return Step(epoch, self._steps_of(epoch, window)[position])

    def _permutation(self, epoch: int) -> Indices:
        if self._epoch_cache is None or self._epoch_cache[0] != epoch:
            count = len(self._lengths)
            shards = -(-count // SHARD_UNITS)
            parts = []
            for shard in shuffled(shards, self._seed, EPOCH, epoch):
                start = int(shard) * SHARD_UNITS
                size = min(SHARD_UNITS, count - start)
                parts.append(start + shuffled(size, self._seed, EPOCH, epoch, 1 + int(shard)))
            self._epoch_cache = (epoch, np.concatenate(parts))
        return self._epoch_cache[1]

    def _steps_of(self, epoch: int, window: int) -> list[tuple[Indices, ...]]:
        if self._window_cache is None or self._window_cache[0] != (epoch, window):
            span = self._window * self._batch
            units = self._permutation(epoch)[window * span : (window + 1) * span]
            self._window_cache = ((epoch, window), self._cut(units, epoch, window))
        return self._window_cache[1]

    def _cut(self, units: Indices, epoch: int, window: int) -> list[tuple[Indices, ...]]:
        """Sort a window by length, cut it, and deal groups of like-sized micro-batches.

        Neighbours in length stay in one step, in groups of up to ``GROUP_MICRO_BATCHES``, so
        that workers which share a step have equal work; which groups meet is random.
        """
        units = units[np.argsort(self._lengths[units], kind="stable")]
        full, rest = divmod(len(units), self._micro_batch)
        draws = raw(self._seed, WINDOW, epoch, window, count=full + 2)
        ragged_at = int(draws[0] % np.uint64(full + 1)) * self._micro_batch
        ragged = units[ragged_at : ragged_at + rest]
        even = np.concatenate([units[:ragged_at], units[ragged_at + rest :]])
        pieces = [even[i * self._micro_batch : (i + 1) * self._micro_batch] for i in range(full)]
        group = int(np.gcd(self._per_step, GROUP_MICRO_BATCHES))
        groups = [pieces[i : i + group] for i in range(0, full, group)]
        whole = [g for g in groups if len(g) == group]
        odd = [piece for g in groups if len(g) < group for piece in g]
        order = np.argsort(draws[1 : 1 + len(whole)], kind="stable")
        dealt = [piece for position in order for piece in whole[int(position)]] + odd
        if rest:
            dealt.append(ragged)
        return [tuple(dealt[i : i + self._per_step]) for i in range(0, len(dealt), self._per_step)]


def share(costs: npt.NDArray[np.integer], workers: int) -> list[list[int]]:
    """Deal whole micro-batches to workers: the dearest first, to the least loaded.

    ``costs`` [micro-batches] are padded tokens. Returns, for each worker, its micro-batches
    in ascending order (the order in which it accumulates). Deterministic; shares may differ.
    """
    loads = [0] * workers
    shares: list[list[int]] = [[] for _ in range(workers)]
    for index in np.argsort(-np.asarray(costs, dtype=np.int64), kind="stable"):
        worker = min(range(workers), key=lambda w: (loads[w], len(shares[w]), w))
        loads[worker] += int(costs[index])
        shares[worker].append(int(index))
    return [sorted(mine) for mine in shares]
