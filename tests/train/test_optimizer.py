"""Rates, groups, digests and buckets, against the libraries' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_scheduler

from tunefleet.plan.document import OptimizerPlan
from tunefleet.train import ledger
from tunefleet.train.group import Group
from tunefleet.train.optimizer import make_optimizer, rate_at
from tunefleet.train.reduce import GradientBuckets


def plan(**changes: object) -> OptimizerPlan:
    """An optimiser's plan."""
    base = OptimizerPlan(
        name="adamw",
        learning_rate=3e-4,
        weight_decay=0.1,
        schedule="linear",
        warmup_steps=7,
        clip_norm=None,
    )
    return base.model_copy(update=changes)


@pytest.mark.parametrize("warmup", [0, 1, 7, 40])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")],
)
def test_the_rate_is_that_of_transformers_schedule(ours: str, theirs: str, warmup: int) -> None:
    settings = plan(schedule=ours, warmup_steps=warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    schedule = get_scheduler(theirs, optimizer, warmup, 40)
    for step in range(40):
        assert rate_at(settings, step, 40) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 4))
    decayed, plain = make_optimizer(model, plan()).param_groups
    assert {tuple(p.shape) for p in decayed["params"]} == {(4, 3), (5, 4)}
    assert decayed["weight_decay"] == 0.1
    assert {tuple(p.shape) for p in plain["params"]} == {(4,)}
    assert plain["weight_decay"] == 0.0


def test_frozen_weights_are_not_in_the_optimizer() -> None:
    model = nn.Linear(3, 4)
    model.bias.requires_grad_(False)
    groups = make_optimizer(model, plan()).param_groups
    assert sum(len(group["params"]) for group in groups) == 1


def test_moments_are_fp32() -> None:
    model = nn.Linear(3, 4)
    optimizer = make_optimizer(model, plan())
    torch.autograd.backward(model(torch.ones(1, 3)).sum())
    optimizer.step()
    kinds = {t.dtype for state in optimizer.state.values() for t in state.values()}
    assert kinds == {torch.float32}


ids = st.lists(st.integers(0, 2**62), min_size=1, max_size=60, unique=True)


@given(ids, st.integers(0, 50), st.randoms(use_true_random=False))
def test_a_digest_knows_neither_order_nor_shares(
    values: list[int], epoch: int, random: object
) -> None:
    whole = ledger.digest_of(np.array(values), epoch)
    shuffled = np.random.default_rng(len(values)).permutation(np.array(values))
    cut = len(values) // 2
    parts = [shuffled[:cut], shuffled[cut:]]
    total = sum((ledger.digest_of(part, epoch) for part in parts), np.zeros(ledger.CHUNKS))
    assert np.array_equal(whole, total)


@given(ids, st.integers(0, 50))
def test_a_digest_notices_a_sample_that_is_missing_twice_or_exchanged(
    values: list[int], epoch: int
) -> None:
    whole = ledger.digest_of(np.array(values), epoch)
    others = [values[1:], [*values, values[0]], [values[0] ^ 1, *values[1:]]]
    for other in others:
        assert not np.array_equal(whole, ledger.digest_of(np.array(other, dtype=np.int64), epoch))
    assert not np.array_equal(whole, ledger.digest_of(np.array(values), epoch + 1))


def test_gradients_accumulate_in_the_buckets_and_agree_with_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    inputs = torch.randn(8, 6)
    torch.autograd.backward(model(inputs).square().sum())
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    buckets = GradientBuckets(list(model.parameters()), Group())
    for half in (inputs[:4], inputs[4:]):
        torch.autograd.backward(model(half).square().sum())
    buckets.finish()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    torch.testing.assert_close(buckets.norm(), norm)
    buckets.zero()
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters() if p.grad is not None)
