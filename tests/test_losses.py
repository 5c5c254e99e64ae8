"""The loss by hand, and its gradient against automatic differentiation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from phantomseg.network import losses
from phantomseg.network.losses import EPSILON, dice_cross_entropy


def plain(logits: torch.Tensor, target: torch.Tensor, factor: int) -> torch.Tensor:
    """The same loss with a one-hot volume."""
    one_hot = F.one_hot(target.long(), logits.shape[1]).movedim(-1, 1).double()
    g = F.avg_pool3d(one_hot, factor)
    p = logits.softmax(1)
    cross_entropy = -(g * logits.log_softmax(1)).sum(1).flatten(1).mean(1)
    size = g.sum((2, 3, 4))
    dice = (2 * (p * g).sum((2, 3, 4)) + EPSILON) / (p.sum((2, 3, 4)) + size + EPSILON)
    present = (size > 0).double()
    return (cross_entropy + 1 - (dice * present).sum(1) / present.sum(1)).mean()


def test_even_odds_by_hand() -> None:
    # two voxels, one of each class, p = 1/2 everywhere: CE = ln 2, Dice = 2 · 0.5 / (1 + 1) for both
    loss = dice_cross_entropy(torch.zeros(1, 2, 2, 1, 1), torch.tensor([0, 1]).view(1, 2, 1, 1))
    assert loss.item() == pytest.approx(math.log(2) + 0.5, abs=1e-5)


def test_absent_class_costs_no_dice() -> None:
    logits = torch.zeros(1, 3, 2, 1, 1)
    logits[:, 2] = -50
    loss = dice_cross_entropy(logits, torch.tensor([0, 1]).view(1, 2, 1, 1))
    assert loss.item() == pytest.approx(math.log(2) + 0.5, abs=1e-5)


@pytest.mark.parametrize(("factor", "chunk"), [(1, 2**13), (2, 2**13), (2, 7)])
def test_loss_and_gradient_equal_those_of_the_one_hot_volume(
    factor: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", chunk)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, 2, generator=generator).requires_grad_()
    target = torch.randint(0, 4, (2, 3 * factor, 4 * factor, 2 * factor), generator=generator).to(torch.uint8)
    loss = dice_cross_entropy(logits, target)
    (3 * loss).backward()
    double = logits.detach().double().requires_grad_()
    wanted = plain(double, target, factor)
    (3 * wanted).backward()
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert logits.grad is not None and double.grad is not None
    assert torch.allclose(logits.grad, double.grad.float(), atol=1e-6)


def test_perfect_prediction_of_fractions_has_the_entropy_alone() -> None:
    # a coarse voxel that is half class 0, half class 1, predicted as such
    target = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    target[:, 0] = 1
    loss = dice_cross_entropy(torch.zeros(1, 2, 1, 1, 1), target)
    assert loss.item() == pytest.approx(math.log(2) + 0.5, abs=1e-5)


def test_bfloat16_logits_give_bfloat16_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, 4).bfloat16().requires_grad_()
    dice_cross_entropy(logits, torch.zeros(1, 4, 4, 4, dtype=torch.uint8)).backward()
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16 and logits.grad.abs().max() > 0


def test_dice_of_a_million_voxels_is_summed_exactly() -> None:
    count = 112 * 144 * 112
    logits = torch.zeros(1, 2, count, 1, 1)
    logits[:, 0] = math.log(99)  # p = 0.99 everywhere: CE = −ln 0.99, Dice = 2 · 0.99 / 1.99
    loss = dice_cross_entropy(logits, torch.zeros(1, count, 1, 1, dtype=torch.uint8))
    assert loss.item() == pytest.approx(-math.log(0.99) + 1 - 1.98 / 1.99, abs=1e-5)
