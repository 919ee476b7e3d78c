"""Cross-entropy over a vocabulary, in pieces.

Decides that logits are raised to single precision for some positions at a time, in the
forward and again in the backward pass, so that a whole batch of them is never held twice.
Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tunefleet.tasks.batch import at_least_single

_PIECE_VALUES = 1 << 24


def summed_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over positions of -log p(target): logits [positions, vocabulary] → scalar."""
    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _SummedCrossEntropy.apply
    return apply(logits, targets)


def position_losses(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p(target) of each position, and whether the target is ranked first; no gradient."""
    losses, firsts = [], []
    for piece, wanted in _pieces(logits, targets):
        raised = at_least_single(piece)
        losses.append(raised.logsumexp(dim=-1) - _of(raised, wanted))
        firsts.append(piece.argmax(dim=-1) == wanted)
    return torch.cat(losses), torch.cat(firsts)


class _SummedCrossEntropy(torch.autograd.Function):
    """Keeps logits as they come and one number per position; the softmax is made again."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        normalisers, sums = [], []
        for piece, wanted in _pieces(logits, targets):
            raised = at_least_single(piece)
            normaliser = raised.logsumexp(dim=-1)
            sums.append((normaliser - _of(raised, wanted)).sum())
            normalisers.append(normaliser)
        ctx.save_for_backward(logits, targets, torch.cat(normalisers))
        return torch.stack(sums).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        result = torch.empty_like(logits)
        rows = _rows(logits)
        for start in range(0, len(logits), rows):
            part = slice(start, start + rows)
            shares = (at_least_single(logits[part]) - normalisers[part, None]).exp_()
            wanted = targets[part, None]
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
            result[part] = shares.mul_(gradients[0])
        return result, None


def _rows(logits: torch.Tensor) -> int:
    return max(1, _PIECE_VALUES // logits.shape[-1])


def _pieces(logits: torch.Tensor, targets: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rows = _rows(logits)
    cuts = [slice(start, start + rows) for start in range(0, len(logits), rows)]
    return [(logits[cut], targets[cut]) for cut in cuts]


def _of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1)
