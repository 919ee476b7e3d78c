from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tunefleet.tasks import losses


@pytest.fixture(params=[3, 1000], ids=["in pieces", "in one piece"])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_PIECE_VALUES", 17 * request.param)


def _case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 17, generator=generator, dtype=torch.float64) * 5
    return logits.to(dtype), torch.randint(17, (10,), generator=generator)


@pytest.mark.usefixtures("rows_at_once")
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)],
    ids=["fp64", "fp32", "bf16"],
)
def test_sum_and_gradient_are_those_of_torch(dtype: torch.dtype, tolerance: float) -> None:
    logits, targets = _case(dtype)
    ours = logits.clone().requires_grad_()
    total = losses.summed_cross_entropy(ours, targets)
    torch.autograd.backward(total * 3)
    reference = logits.double().requires_grad_()
    expected = functional.cross_entropy(reference, targets, reduction="sum")
    torch.autograd.backward(expected * 3)
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=1e-6)
    assert ours.grad is not None
    assert reference.grad is not None
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("rows_at_once")
def test_losses_of_positions_sum_to_the_summed_loss() -> None:
    logits, targets = _case(torch.float64)
    each, firsts = losses.position_losses(logits, targets)
    torch.testing.assert_close(each, functional.cross_entropy(logits, targets, reduction="none"))
    assert firsts.tolist() == (logits.argmax(1) == targets).tolist()
    torch.testing.assert_close(each.sum(), losses.summed_cross_entropy(logits, targets))


def test_the_backward_pass_keeps_no_second_copy_of_the_logits() -> None:
    logits, targets = _case(torch.bfloat16)
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    leaf = logits.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses.summed_cross_entropy(leaf, targets)
    wide = [tensor for tensor in kept if tensor.numel() >= logits.numel()]
    assert [tensor.data_ptr() for tensor in wide] == [leaf.data_ptr()]
