"""Dice and cross-entropy of logits against integer targets, without a one-hot volume.

Loss and gradient come from one softmax: automatic differentiation would pass over classes × voxels
four times as often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.parts import parts_of
from phantomseg.labels import UNLABELLED

EPSILON = 1e-5
EXACT = 0.999  # share of the reach at which a distance is cut off
SOFT_VOXELS = 1.0  # over which the inside fades out
FEW_VOXELS = 100.0  # that are added to both sizes of a Dice, so that it is 1 where nothing is
SURE = 50.0  # logit of what is certain
CHUNK_ROWS = 2**13
CHUNKED = ("cpu",)  # devices with a cache to stay in
EMPTY_VOXELS = 1e4  # of samples without an inside: found ones halve it, and it still falls where far more are


def dice_cross_entropy(logits: torch.Tensor, target: torch.Tensor, classes: np.ndarray | None = None) -> torch.Tensor:
    """Mean over samples of 1 − mean soft Dice of the classes present, plus the mean cross-entropy.

    The soft Dice of a class is 2 Σ p·g / (Σ p + Σ g). The target may be finer than the logits by a whole
    factor along each axis; then g is the fraction of the class among the fine voxels of a coarse one.

    Args:
        logits: (B, C, i, j, k).
        target: class indices, any integer kind, (B, f·i, f·j, f·k).
        classes: the lowest class that each is one with, where the target does not tell all classes apart, (B, C):
            their probabilities are summed first. The target holds lowest classes then, and UNLABELLED for voxels that
            are left out.

    >>> logits = torch.tensor([9.0, -9.0]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    >>> dice_cross_entropy(logits, torch.zeros(1, 2, 2, 2, dtype=torch.uint8)).item() < 1e-4
    True
    """
    batch, channels = logits.shape[:2]
    factor = target.shape[1] // logits.shape[2]
    rows = logits.movedim(1, -1).reshape(batch, -1, channels)  # (B, N, C), a view for channels_last_3d
    parts = parts_of(target, factor).long().reshape(batch, rows.shape[1], -1)  # (B, N, f³)
    if classes is None:
        losses: torch.Tensor = _DiceCrossEntropy.apply(rows, parts)
        return losses.mean()
    each = [joined(*sample) for sample in zip(rows, parts, classes, strict=True)]
    return torch.cat([_DiceCrossEntropy.apply(one[None], its[None]) for one, its in each]).mean()


def joined(rows: torch.Tensor, parts: torch.Tensor, classes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, K) of what a target tells apart, and classes (N, F) among them, for logits (N, C) of a sample.

    Voxels that are not labelled are of one more class, predicted for certain: their gradient is 0, though the means of
    the loss count them.

    >>> rows = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]).log()
    >>> logits, parts = joined(rows, torch.tensor([[1], [UNLABELLED]]), np.array([0, 1, 1]))
    >>> [[round(p, 3) for p in row] for row in logits.softmax(-1).tolist()], parts.tolist()
    ([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], [[1], [2]])
    """
    lowest, place = np.unique(classes, return_inverse=True)
    merged = rows.float()
    merged = merged - merged.detach().amax(-1, keepdim=True)
    if len(lowest) < len(classes):
        matrix = F.one_hot(torch.from_numpy(place.reshape(-1))).to(rows.device, torch.float32)
        merged = (merged.exp() @ matrix).clamp(min=1e-30).log()
    table = torch.zeros(UNLABELLED + 1, dtype=torch.long)
    table[torch.from_numpy(lowest.astype(np.int64))] = torch.arange(len(lowest))
    table[UNLABELLED] = len(lowest)
    new = table.to(parts.device)[parts]
    unlabelled = (new == len(lowest)).any(-1, keepdim=True)
    rest = torch.full_like(merged[:, :1], -SURE)
    merged = torch.cat([merged, rest], -1)
    sure = torch.full_like(merged, -SURE)
    sure[:, -1] = SURE
    return torch.where(unlabelled, sure, merged), torch.where(unlabelled, len(lowest), new)


def distance_dice(output: torch.Tensor, distance: torch.Tensor, reach: float) -> torch.Tensor:
    """Mean distance that an output is wrong by, as a share of `reach`, plus 1 − soft Dice of what lies inside.

    Where the distance is cut off, an output may go farther. A sample without an inside adds to the Dice what it finds.

    Args:
        output: distance to a surface over `reach`, negative within, (B, 1, i, j, k).
        distance: to be predicted, in voxels, cut off at `reach`, (B, f·i, f·j, f·k); the mean of fine voxels counts.
        reach: voxels.

    >>> distance = torch.tensor([-2.0, 0.5, 2.0]).view(1, 1, 1, 3)
    >>> distance_dice(torch.tensor([-3.0, 0.25, 4.0]).view(1, 1, 1, 1, 3), distance, 2.0).item() < 0.25
    True
    """
    found = output[:, 0].float()
    wanted = F.avg_pool3d(distance[:, None], distance.shape[1] // found.shape[1])[:, 0] / reach
    within = torch.where(wanted > -EXACT, found, found.clamp(min=-1))
    kept = torch.where(wanted < EXACT, within, within.clamp(max=1))
    error = (kept - wanted).abs().flatten(1).mean(1)
    inside, is_inside = (torch.sigmoid(-d * (reach / SOFT_VOXELS)).flatten(1) for d in (found, wanted))
    overlap, sizes = (inside * is_inside).sum(1), inside.square().sum(1) + is_inside.square().sum(1)
    few = torch.where((wanted < 0).flatten(1).any(1), FEW_VOXELS, EMPTY_VOXELS)
    dice = (2 * overlap + few) / (sizes + few)
    return (error + 1 - dice).mean()


class _DiceCrossEntropy(torch.autograd.Function):
    """Losses (B,) of logits (B, N, C), whose voxels hold F classes each, (B, N, F).

    On a CPU both passes work in chunks of voxels that stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        """Losses; keeps the softmax and what the gradient needs of each class."""
        probabilities = torch.empty_like(logits, dtype=torch.float32)
        results = [_loss(*sample) for sample in zip(logits, parts, probabilities, strict=True)]
        losses, hit, each = (torch.stack(values) for values in zip(*results, strict=True))
        ctx.format = logits.dtype
        ctx.save_for_backward(probabilities, parts, hit, each)
        return losses

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient with respect to the logits."""
        probabilities, parts, hit, each = ctx.saved_tensors
        gradients = torch.empty_like(probabilities, dtype=ctx.format)
        for sample in zip(probabilities, parts, hit, each, scale, gradients, strict=True):
            _gradient(*sample)
        return gradients, None


def _loss(
    logits: torch.Tensor, parts: torch.Tensor, probabilities: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss of one sample, whose softmax is written to `probabilities`, and what its gradient is made of.

    dLoss/dp of class c is `each[c] − 1/N` and, for each part of the voxel that is of class c, `hit[c]` and what the
    cross-entropy adds.
    """
    classes, share = logits.shape[1], 1 / parts.shape[1]
    # summed one by one, so float32 would lose half a per cent over a million voxels
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    overlap, count, size, logs = (logits.new_zeros(n, dtype=exact) for n in (classes, classes, classes, 1))
    for chunk, part, p in _chunks(logits, parts, probabilities):
        torch.softmax(chunk.float(), -1, out=p)
        p_part = p.gather(1, part)
        overlap += _by_class(part, p_part, classes)
        count += _by_class(part, torch.ones_like(p_part), classes)
        size += p.sum(0)
        # clamped where float32 rounds to zero, as log(0) would hide what happened
        logs += p_part.clamp_(min=1e-30).log_().sum()
    present = (count > 0).to(exact)
    weight = present / present.sum()
    size += share * count + EPSILON
    dice = (2 * share * overlap + EPSILON) / size
    loss = 1 - logs[0] / parts.numel() - (dice * weight).sum()
    hit, each = -2 * share * weight / size, weight * dice / size + 1 / len(logits)
    return loss.float(), hit.float(), each.float()


def _gradient(
    probabilities: torch.Tensor,
    parts: torch.Tensor,
    hit: torch.Tensor,
    each: torch.Tensor,
    scale: torch.Tensor,
    into: torch.Tensor,
) -> None:
    """Write the gradient of one sample, `scale` times; the softmax turns g = dLoss/dp into p · (g − Σ g·p)."""
    hit, each, voxel = hit * scale, each * scale, scale / len(parts)
    for p, part, out in _chunks(probabilities, parts, into):
        hits = hit.index_select(0, part.flatten()).view(part.shape) * p.gather(1, part)
        mean = (p @ each[:, None]).sub_(voxel).add_(hits.sum(1, keepdim=True))
        out.copy_((each - mean).mul_(p).scatter_add_(1, part, hits.sub_(voxel / part.shape[1])))


def _chunks(*rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    count = CHUNK_ROWS if rows[0].device.type in CHUNKED else len(rows[0])
    return zip(*(values.split(count) for values in rows), strict=True)


def _by_class(parts: torch.Tensor, values: torch.Tensor, classes: int) -> torch.Tensor:
    """Sum of the values (n, F) of each class, (C,)."""
    if parts.device.type in CHUNKED:
        exact = values.flatten().double()
        return exact.new_zeros(classes).scatter_add_(0, parts.flatten(), exact)
    # into single sums a GPU would add voxel after voxel
    return values.new_zeros(len(parts), classes).scatter_add_(1, parts, values).sum(0)
