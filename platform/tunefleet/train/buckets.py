"""Where the gradients of some parameters lie together, and how they travel.

Decides what of a bucket is added up over workers: all of it or, of a large embedding, the rows
that anybody touched. A step touches the rows of its own tokens; the rest of such a gradient is
zeros, in a small model half of all bytes. Which rows are not zero is seen from the gradient
itself, so that nothing has to be known of the model, and told to all workers, so that they agree.
What does not travel is zero everywhere: sums, norms and products are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tunefleet.train.group import Group, Pending

MOST_ROWS = 0.5
"""Where more than this share of the rows is touched, the whole embedding travels."""


@dataclass(slots=True)
class Bucket:
    """Flat storage of ``members`` gradients; ``waiting`` of them are not computed yet."""

    flat: torch.Tensor
    members: int
    waiting: int = 0
    pending: Pending | None = None

    def send(self, group: Group) -> None:
        """Start adding it up over all workers, in place."""
        self.pending = group.sum_async(self.flat)

    def arrive(self) -> None:
        """Wait until it is added up."""
        if self.pending is not None:
            self.pending.wait()
            self.pending = None

    def zero(self) -> None:
        """Start a step."""
        self.flat.zero_()

    def norm(self) -> torch.Tensor:
        """Its L2 norm, a scalar."""
        length: torch.Tensor = torch.linalg.vector_norm(self.flat)
        return length

    def scale(self, factor: torch.Tensor | float) -> None:
        """Multiply every gradient."""
        self.flat.mul_(factor)


@dataclass(slots=True, kw_only=True)
class EmbeddingBucket(Bucket):
    """The gradient of one embedding, ``table`` [rows, width].

    Between :meth:`send` and :meth:`zero` ``rows`` are those that are not zero, unless they are
    many. They are a function of the step's gradients alone: nothing is remembered from one step
    to the next, so that a run that goes on adds up in the same order.
    """

    table: torch.Tensor
    rows: torch.Tensor | None = None
    packed: torch.Tensor | None = None

    def send(self, group: Group) -> None:
        """Start adding up the rows that anybody touched; waits to be told which."""
        # Bytes, because the sum of a row's small numbers may be zero, and its length too.
        touched = self.table.view(torch.uint8).any(dim=1).to(torch.int32)
        group.sum(touched)
        rows = touched.nonzero().squeeze(1)
        if len(rows) > MOST_ROWS * len(self.table):
            Bucket.send(self, group)
            return
        self.rows, self.packed = rows, self.table.index_select(0, rows)
        if len(rows):
            self.pending = group.sum_async(self.packed)

    def arrive(self) -> None:
        """Wait until it is added up."""
        Bucket.arrive(self)
        self._write()

    def zero(self) -> None:
        """Start a step."""
        if self.rows is None:
            self.flat.zero_()
        else:
            self.table.index_fill_(0, self.rows, 0)
        self.rows = self.packed = None

    def norm(self) -> torch.Tensor:
        """Its L2 norm, a scalar."""
        some = self.flat if self.packed is None else self.packed
        length: torch.Tensor = torch.linalg.vector_norm(some)
        return length

    def scale(self, factor: torch.Tensor | float) -> None:
        """Multiply every gradient."""
        if self.packed is None:
            self.flat.mul_(factor)
        else:
            self.packed.mul_(factor)
            self._write()

    def _write(self) -> None:
        if self.rows is not None and self.packed is not None:
            self.table.index_copy_(0, self.rows, self.packed)
