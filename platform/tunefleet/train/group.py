"""The workers that share a run, as the loop sees them: rank, size and four collectives.

Decides nothing about how processes are placed: Ray, torchrun or nobody (one process) formed
the torch process group before. The loop below it never imports ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


class Pending(Protocol):
    """A collective under way."""

    def wait(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Group:
    """``world`` processes, of which this one is ``rank``."""

    rank: int = 0
    world: int = 1

    @staticmethod
    def current() -> Group:
        """The group torch was initialised with; a group of one without it."""
        if dist.is_available() and dist.is_initialized():
            return Group(dist.get_rank(), dist.get_world_size())
        return Group()

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def sum_async(self, tensor: torch.Tensor) -> Pending | None:
        """Start adding ``tensor`` up over all workers, in place."""
        if self.world == 1:
            return None
        pending: Pending = dist.all_reduce(tensor, dist.ReduceOp.SUM, async_op=True)
        return pending

    def sum(self, tensor: torch.Tensor) -> None:
        """Add ``tensor`` up over all workers, in place."""
        if self.world > 1:
            dist.all_reduce(tensor, dist.ReduceOp.SUM)

    def share(self, make: Callable[[], T]) -> T:
        """What ``make`` returns on the leader, on every worker."""
        if self.world == 1:
            return make()
        box: list[T | None] = [make() if self.leads else None]
        dist.broadcast_object_list(box, src=0)
        answer = box[0]
        assert answer is not None
        return answer

    def gather(self, value: T) -> Sequence[T]:
        """Every worker's value in the order of ranks, on every worker."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return [item for item in values if item is not None]

    def barrier(self) -> None:
        """Wait for every worker."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """Close this process's connections, so that peers fail at once instead of waiting."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def hears_of_leaving(self, device: torch.device) -> bool:
        """Whether the others notice that this process has left; NCCL does not tell them."""
        return self.world == 1 or device.type != "cuda"
