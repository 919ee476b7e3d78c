"""Gradients of a step, accumulated in place and added up over workers once per step.

Decides the layout: parameters in reverse order of definition (about the order in which
backward finishes them), packed into flat buckets of fixed size. The layout is a function of
the model alone, so the sum is the same to the bit for the same number of workers. Gradients
are views into the buckets: nothing is copied before or after the reduction, and a bucket
travels while the last backward of the step is still computing the next one. What of a bucket
travels is the bucket's own matter (``buckets``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tunefleet.train.buckets import Bucket, EmbeddingBucket
from tunefleet.train.group import Group

BUCKET_BYTES = 25 * 1024 * 1024


@dataclass(slots=True)
class _Reduction:
    """State of the reduction of one step."""

    armed: bool = False
    sent: int = 0
    failures: list[BaseException] = field(default_factory=list)


class GradientBuckets:
    """Flat gradient storage of ``parameters`` (those that require a gradient).

    ``embeddings`` are those of whose gradients most rows may be zero.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        group: Group,
        *,
        embeddings: Collection[nn.Embedding] = (),
    ) -> None:
        self._group = group
        self._embeddings = {id(embedding.weight) for embedding in embeddings}
        self._parameters = [p for p in parameters if p.requires_grad]
        self._buckets: list[Bucket] = []
        self._reduction = _Reduction()
        self._hooks: list[RemovableHandle] = []
        for members in self._packed():
            self._add_bucket(members)

    def _packed(self) -> Iterator[list[nn.Parameter]]:
        held: list[nn.Parameter] = []
        size = 0
        for parameter in reversed(self._parameters):
            own = parameter.numel() * parameter.element_size()
            if held and own >= BUCKET_BYTES:
                # An embedding's gradient is the last of all: the others need not wait for it.
                yield held
                held, size = [], 0
            held.append(parameter)
            size += own
            if size >= BUCKET_BYTES:
                yield held
                held, size = [], 0
        if held:
            yield held

    def _add_bucket(self, members: list[nn.Parameter]) -> None:
        total = sum(p.numel() for p in members)
        flat = torch.zeros(total, dtype=members[0].dtype, device=members[0].device)
        index = len(self._buckets)
        offset = 0
        for parameter in members:
            if parameter.dtype != flat.dtype:
                raise TypeError("trainable parameters must share one dtype (fp32 master weights)")
            parameter.grad = flat[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
            if self._group.world > 1:
                hook = parameter.register_post_accumulate_grad_hook(self._announcer(index))  # type: ignore[no-untyped-call]
                self._hooks.append(hook)
        (first, *others) = members
        # On a device the network is faster than asking it which rows are not zero.
        alone = not others and id(first) in self._embeddings and first.device.type == "cpu"
        if alone and first.grad is not None:
            self._buckets.append(EmbeddingBucket(flat, 1, table=first.grad))
        else:
            self._buckets.append(Bucket(flat, len(members)))

    def zero(self) -> None:
        """Start a step."""
        for bucket in self._buckets:
            bucket.zero()

    def _announcer(self, index: int) -> Callable[[torch.Tensor], None]:
        return lambda parameter: self._ready(index)

    def _ready(self, index: int) -> None:
        # Hooks run inside backward; buckets leave in their fixed order, because every
        # worker must start the same collectives in the same order.
        if not self._reduction.armed:
            return
        self._buckets[index].waiting -= 1
        self._send_ready()

    def _send_ready(self) -> None:
        while self._reduction.sent < len(self._buckets):
            bucket = self._buckets[self._reduction.sent]
            if bucket.waiting > 0:
                return
            bucket.send(self._group)
            self._reduction.sent += 1

    @contextmanager
    def last_backward(self) -> Iterator[None]:
        """Around the last backward of this worker's step: buckets leave as they get ready."""
        for bucket in self._buckets:
            bucket.waiting = bucket.members
        self._reduction = _Reduction(armed=self._group.world > 1)
        try:
            yield
        finally:
            self._reduction.armed = False

    def finish(self) -> None:
        """Send what has not left yet (parameters without a gradient) and wait for all."""
        for bucket in self._buckets:
            bucket.waiting = 0
        self._send_ready()
        for bucket in self._buckets:
            bucket.arrive()
        self._reduction = _Reduction()

    def norm(self) -> torch.Tensor:
        """The global L2 norm of the gradients, a scalar."""
        norms = torch.stack([bucket.norm() for bucket in self._buckets])
        total: torch.Tensor = torch.linalg.vector_norm(norms)
        return total

    def scale(self, factor: torch.Tensor | float) -> None:
        """Multiply every gradient."""
        for bucket in self._buckets:
            bucket.scale(factor)

    def close(self) -> None:
        """Give the parameters back their own, empty gradients, and the buckets' memory."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._parameters:
            parameter.grad = None
        self._buckets.clear()
