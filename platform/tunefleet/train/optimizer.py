"""The optimiser and the learning-rate schedule.

Decides which weights decay (matrices and embeddings; never norms and biases, as in BERT and
Loshchilov & Hutter 2019, arXiv 1711.05101), and the rate as a pure function of the step
number, so that there is no schedule state to save or to step twice. The shapes are those of
transformers' ``get_scheduler`` and are tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from tunefleet.plan.document import OptimizerPlan


def named_trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name, in order of definition, tied weights once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def undecayed_names(model: nn.Module) -> set[str]:
    """Names of parameters of one dimension or less: biases and the scales of norms."""
    return {name for name, p in model.named_parameters() if p.dim() <= 1}


def make_optimizer(model: nn.Module, plan: OptimizerPlan) -> torch.optim.Optimizer:
    """Fused AdamW or SGD over the trainable parameters."""
    trainable = named_trainable(model)
    plain = undecayed_names(model)
    groups = [
        {"params": _chosen(trainable, set(trainable) - plain), "weight_decay": plan.weight_decay},
        {"params": _chosen(trainable, plain), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if plan.name == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum, fused=True)
    return torch.optim.AdamW(
        groups,
        lr=plan.learning_rate,
        betas=(plan.beta1, plan.beta2),
        eps=plan.epsilon,
        fused=True,
    )


def _chosen(named: dict[str, nn.Parameter], names: Iterable[str]) -> list[nn.Parameter]:
    wanted = set(names)
    return [parameter for name, parameter in named.items() if name in wanted]


def rate_at(plan: OptimizerPlan, step: int, total_steps: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0) of ``total_steps``."""
    return plan.learning_rate * _factor(plan, step, total_steps)


def _factor(plan: OptimizerPlan, step: int, total_steps: int) -> float:
    if step < plan.warmup_steps:
        return step / max(1, plan.warmup_steps)
    if plan.schedule == "constant":
        return 1.0
    remaining = max(1, total_steps - plan.warmup_steps)
    if plan.schedule == "linear":
        return max(0.0, (total_steps - step) / remaining)
    progress = (step - plan.warmup_steps) / remaining
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate
