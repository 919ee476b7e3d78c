"""One exact optimiser step.

Decides how a step is computed: each worker takes whole micro-batches, seeds the random
numbers of each from (seed, step, index), divides its summed loss by the step's **global**
weight, accumulates in place, and reduces once. What comes out depends on the plan, not on
how many workers there were.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tunefleet.api.words import DeviceType, Precision
from tunefleet.data.batch import collate
from tunefleet.data.order import Indices, Order, share
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.document import Plan
from tunefleet.tasks.contract import Batch, Task
from tunefleet.train import ledger
from tunefleet.train import optimizer as optim
from tunefleet.train.group import Group
from tunefleet.train.reduce import GradientBuckets


@dataclass(frozen=True, slots=True)
class Votes:
    """What a worker wants to happen after this step; any vote counts for all."""

    stop: bool = False
    save: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step did, the same on every worker.

    ``loss`` is the mean over the step's global weight; ``applied`` is False when loss or
    gradient was not finite and the weights were left alone. ``digest`` is of the step's ids.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool
    weight: int
    units: int
    tokens: int
    digest: ledger.Digest
    epoch: int
    stop: bool
    save: bool


@dataclass(frozen=True, slots=True)
class StepWork:
    """Step ``number`` (from 0) and this worker's share of it, collated on the host.

    ``batches`` are (index in the step, micro-batch); the other numbers are of the whole
    step: ``weight`` and ``tokens`` (padding excluded) are sums over all its units.
    """

    number: int
    epoch: int
    units: int
    weight: int
    tokens: int
    expected: ledger.Digest
    batches: tuple[tuple[int, Batch], ...]


class LedgerMismatch(RuntimeError):
    """The ids that passed backward are not those of the plan."""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """bf16 compute where the plan says so; master weights stay as they are."""
    if precision is not Precision.BF16:
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(device.type, dtype=torch.bfloat16)
    return context


def to_device(batch: Batch, device: torch.device, precision: Precision) -> Batch:
    """Move a collated batch; floating targets take the compute type of an fp64 run."""
    return {name: _moved(tensor, device, precision) for name, tensor in batch.items()}


def _moved(tensor: torch.Tensor, device: torch.device, precision: Precision) -> torch.Tensor:
    wide = precision is Precision.FP64 and tensor.is_floating_point()
    typed = tensor.double() if wide else tensor
    if device.type == DeviceType.CUDA:
        return typed.pin_memory().to(device, non_blocking=True)
    return typed.to(device)


def padding_multiple(device: torch.device) -> int:
    """To what multiple lengths are padded: tensor cores like 8, a CPU pays for every token."""
    return 8 if device.type == DeviceType.CUDA else 1


class ExactStep:
    """Computes steps of one run on this worker's device."""

    def __init__(
        self,
        *,
        plan: Plan,
        task: Task,
        model: nn.Module,
        store: TokenStore,
        group: Group,
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.model = model
        self.optimizer = optim.make_optimizer(model, plan.optimizer)
        self._order = Order(
            store.lengths,
            seed=plan.seed,
            batch_size=plan.batch_size,
            micro_batch=plan.micro_batch,
            window_steps=plan.window_steps,
        )
        self._task = task
        self._store = store
        self._group = group
        self._device = device
        embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        self._buckets = GradientBuckets(
            list(optim.named_trainable(model).values()), group, embeddings=embeddings
        )

    def work(self, number: int) -> StepWork:
        """What step ``number`` (from 0) holds and what this worker does of it.

        Called ahead of the step from another thread; touches no tensor of the model.
        """
        planned = self._order.step(number)
        lengths = self._store.lengths
        costs = np.array([len(mb) * int(lengths[mb].max()) for mb in planned.micro_batches])
        mine = share(costs, self._group.world)[self._group.rank]
        units = np.concatenate(planned.micro_batches)
        return StepWork(
            number=number,
            epoch=planned.epoch,
            units=len(units),
            weight=int(self._store.weights[units].sum()),
            tokens=int(lengths[units].sum()),
            expected=ledger.digest_of(self._store.ids[units], planned.epoch),
            batches=tuple((i, self._collated(planned.micro_batches[i])) for i in mine),
        )

    def _collated(self, units: Indices) -> Batch:
        return collate(self._store, units, pad_to_multiple=padding_multiple(self._device))

    def run(self, work: StepWork, votes: Votes) -> StepResult:
        """Take a step. Every worker of the group calls it with its own share."""
        loss_sum, used = self._accumulate(work)
        self._buckets.finish()
        totals = self._totals(loss_sum, votes, used)
        digest = totals[3:].numpy()
        if not np.array_equal(digest, work.expected):
            raise LedgerMismatch(
                f"step {work.number} used other samples than planned; it was not applied"
            )
        rate = optim.rate_at(self.plan.optimizer, work.number, self.plan.total_steps)
        loss = float(totals[0]) / work.weight
        norm = self._apply(rate, loss)
        return StepResult(
            loss=loss,
            grad_norm=norm,
            learning_rate=rate,
            applied=bool(np.isfinite(loss) and np.isfinite(norm)),
            weight=work.weight,
            units=work.units,
            tokens=work.tokens,
            digest=digest,
            epoch=work.epoch,
            stop=bool(totals[1] > 0),
            save=bool(totals[2] > 0),
        )

    def close(self) -> None:
        """Training is over: give the memory of gradients and moments back."""
        self._buckets.close()
        self.optimizer.state.clear()

    def _accumulate(self, work: StepWork) -> tuple[torch.Tensor, ledger.Digest]:
        """Forward and backward of this worker's share: (summed loss, digest of its ids)."""
        self._buckets.zero()
        loss_sum = torch.zeros((), dtype=_sum_type(self._device), device=self._device)
        used = np.zeros(ledger.CHUNKS)
        for position, (index, host) in enumerate(work.batches):
            batch = to_device(host, self._device, self.plan.precision)
            torch.manual_seed(ledger.micro_batch_seed(self.plan.seed, work.number, index))
            with autocast(self._device, self.plan.precision):
                loss = self._task.loss(self.model, batch)
            last = position == len(work.batches) - 1
            with self._buckets.last_backward() if last else nullcontext():
                torch.autograd.backward(loss / work.weight)
            loss_sum += loss.detach()
            used += ledger.digest_of(host["ids"].numpy(), work.epoch)
        return loss_sum, used

    def _totals(self, loss_sum: torch.Tensor, votes: Votes, used: ledger.Digest) -> torch.Tensor:
        """[6] over all workers: summed loss, stop votes, save votes, digest."""
        # Digests of many ids do not fit a float32; where the device has no float64 (MPS)
        # there is one worker only, and nothing has to travel.
        head = torch.tensor([0.0, float(votes.stop), float(votes.save), *used], dtype=torch.float64)
        if self._group.world == 1:
            head[0] = loss_sum.cpu()
            return head
        travelling = head.to(self._device)
        travelling[0] = loss_sum
        self._group.sum(travelling)
        return travelling.cpu()

    def _apply(self, rate: float, loss: float) -> float:
        """Clip and update, unless something is not finite. Returns the norm before clipping."""
        norm = float(self._buckets.norm())
        if not (np.isfinite(norm) and np.isfinite(loss)):
            return norm
        limit = self.plan.optimizer.clip_norm
        if limit is not None and norm > limit:
            self._buckets.scale(limit / (norm + 1e-6))
        optim.set_rate(self.optimizer, rate)
        self.optimizer.step()
        return norm


def _sum_type(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == DeviceType.MPS else torch.float64
