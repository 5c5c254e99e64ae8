"""Boundaries within the brain, moved to where the scan's own intensities put them.

The network says what lies where; how far exactly a tissue reaches, the scan knows better. Near the boundaries of the
tissues below the network's probabilities are the prior of a Gaussian mixture, whose means and variances are those of
the tissues around (expectation maximisation as in doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians, without
registration). Where contrast is lost in noise, the prior stays. Thalamus, ventral DC and brain-stem are left out, as
their white matter blurs their boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.grid import content_box
from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix
from phantomseg.labels import label_set
from phantomseg.network.model import Model

REFINED = "refined"  # label set of the tissues
WHITE, FLUID = (2, 41), (24,)
PARTS: tuple[tuple[tuple[int, ...], ...], ...] = (  # values of tissues that are parted together; pairs are left, right
    (WHITE, (3, 42), FLUID),
    ((7, 46), (8, 47), FLUID),
    (WHITE, (4, 43), (5, 44), (11, 50), (12, 51), (13, 52), (17, 53), (26, 58)),
)
THICK_MM = 2.0  # voxels that are longer hold fluid and cortex of sulci together
SMOOTH = (0.865, 0.905)  # smoothness of images where fluid begins to stay as it is, and does
MARGIN_VOXELS = 4  # around a part
ROUNDS = 6
DOMINANT = 0.5  # probability of all tissues of a part
NEAR_VOXELS, PROBABLE = 2, 0.25  # a tissue may come to lie within so many voxels of where it is that probable
LEAST_PRIOR = 1e-3
PRIOR_WEIGHT = 1.5  # of its logarithm, as neighbouring voxels are not independent
POOLED, REACH_VOXELS = 4, 8.0  # voxels taken together in local sums, and the standard deviation of their weights
FAR_SHARE = 1e-3  # weight of the sums over all of the part in the local ones
LEAST_STD = 0.03  # of intensities between 0 and 1
FAINT = 1e-2  # weight of the sides of all tissues in those of one
SEEN = 0.004  # darker voxels show nothing


@dataclass(frozen=True, eq=False)
class _Zone:
    """Voxels near boundaries, (N,) each: where they lie, in which block of POOLED³, and their intensities."""

    where: torch.Tensor
    block: torch.Tensor
    image: torch.Tensor


def refine(sets: Mapping[str, torch.Tensor], image: torch.Tensor, model: Model, thick: bool = False) -> None:
    """Move probabilities between the tissues of each part, in place.

    Args:
        sets: probabilities of label sets that the model's merge into, (C, I, J, K) each, `refined` among them.
        image: what the network saw, (I, J, K).
        model: that the probabilities are of.
        thick: whether fluid stays as it is and only takes part in the mixture; it also does so where the image is
            smooth, as scans with thick slices are that were interpolated.
    """
    moved = 0.0 if thick else _share_moved(sets[REFINED], image)
    for part in PARTS:
        _refine_part(part, sets, image, model, moved)


def _refine_part(
    part: tuple[tuple[int, ...], ...],
    sets: Mapping[str, torch.Tensor],
    image: torch.Tensor,
    model: Model,
    share_moved: float,
) -> None:
    every = sets[REFINED]
    channels = [_channels(ids) for ids in part]
    inner = [c for ids, found in zip(part, channels, strict=True) if ids not in (WHITE, FLUID) for c in found]
    inside = every[inner].sum(0) > DOMINANT
    if not inside.any():
        return
    low, high = content_box(inside.numpy())
    low, high = np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, inside.shape)
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    sides = [every[one, i, j, k].float() for one in channels]  # of each tissue: (2 or 1, i, j, k)
    prior = torch.stack([one.sum(0) for one in sides])
    tissue = _posterior(prior, image[i, j, k])
    if FLUID in part:
        tissue = share_moved * tissue + (1 - share_moved) * _without_fluid(prior, tissue)
    changes = [new - one for new, one in zip(_by_side(sides, tissue), sides, strict=True)]
    for name, found in sets.items():
        merged = model.merge(name)
        for ids, change in zip(part, changes, strict=True):
            for channel, moved in zip(merged.target.index_of_ids(merged.apply(np.array(ids))), change, strict=True):
                found[channel, i, j, k] += moved.to(found.dtype)
        found[:, i, j, k].clamp_(min=0)


def smoothness(image: torch.Tensor, mask: torch.Tensor) -> float:
    """How much of the change over two voxels is that over one twice, along the axis where it is most: 0.5 in noise, 1
    on a ramp.

    >>> ramp = torch.arange(6.0)[:, None, None].expand(6, 6, 6)
    >>> smoothness(ramp, torch.ones(6, 6, 6, dtype=torch.bool))
    1.0
    """
    found = []
    for axis in range(3):
        first, middle, last = (torch.arange(image.shape[axis] - 2) + n for n in range(3))
        inner = mask.index_select(axis, first) & mask.index_select(axis, middle) & mask.index_select(axis, last)
        one = (image.index_select(axis, middle) - image.index_select(axis, first))[inner].square().sum()
        two = (image.index_select(axis, last) - image.index_select(axis, first))[inner].square().sum()
        found.append(float(two / (4 * one).clamp(min=1e-12)))
    return max(found)


def _share_moved(refined: torch.Tensor, image: torch.Tensor) -> float:
    """Share of what the mixture changes of fluid that is done, by how smooth the image is in the cerebrum."""
    begin, end = SMOOTH
    mask = refined[[c for ids in PARTS[0] for c in _channels(ids)]].sum(0) > DOMINANT
    return min(1.0, max(0.0, (end - smoothness(image, mask)) / (end - begin)))


def _without_fluid(prior: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
    """Probabilities (3, I, J, K) of which the first two share what they had together."""
    both = tissue[:2] + FAINT * prior[:2]
    return torch.cat([both * (prior[:2].sum(0) / both.sum(0).clamp(min=1e-9)), prior[2:]])


def _by_side(sides: list[torch.Tensor], tissue: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities of the tissues (T, I, J, K) parted as before; a tissue that was not there, as the others are."""
    paired = [one for one in sides if len(one) == 2]
    around = FAINT * torch.stack(paired).sum(0)  # left and right
    shares = [one + around if len(one) == 2 else one + FAINT for one in sides]
    return [new * share / share.sum(0).clamp(min=1e-9) for new, share in zip(tissue, shares, strict=True)]


def _channels(ids: tuple[int, ...]) -> list[int]:
    found: list[int] = label_set(REFINED).index_of_ids(np.array(ids)).tolist()
    return found


def _posterior(prior: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Probabilities of the tissues (T, I, J, K) whose sum is that of the prior."""
    total = prior.sum(0)
    counted = (total > DOMINANT) & (image > SEEN)
    near = torch.stack([_grown(one > PROBABLE) for one in prior])
    zone = _zone(counted & (near.sum(0) > 1), image)
    share = prior / total.clamp(min=1e-6)
    now = share.flatten(1)[:, zone.where]
    logs = now.clamp(min=LEAST_PRIOR).log_().mul_(PRIOR_WEIGHT)
    logs.masked_fill_(~near.flatten(1)[:, zone.where], -torch.inf)
    counted.view(-1)[zone.where] = False
    sums = _pooled(share.square() * counted, image)  # of all that stays as it is
    for _ in range(ROUNDS):
        mean, variance = _gaussians(sums + _pooled_in(zone, now.square(), sums.shape), image.shape, zone.where)
        now = (logs - (zone.image - mean).square_().div_(2 * variance) - variance.log() / 2).softmax(0)
    share.view(len(share), -1)[:, zone.where] = now
    return share.mul_(total)


def _grown(mask: torch.Tensor) -> torch.Tensor:
    """Mask (I, J, K) with all within a cube of NEAR_VOXELS around it."""
    grown = mask[None, None].float()
    for axis in range(3):
        width = [2 * NEAR_VOXELS + 1 if a == axis else 1 for a in range(3)]
        grown = F.max_pool3d(grown, width, stride=1, padding=[n // 2 for n in width])
    return grown[0, 0] > 0


def _zone(mask: torch.Tensor, image: torch.Tensor) -> _Zone:
    index = torch.nonzero(mask)
    blocks = [-(-n // POOLED) for n in image.shape]
    i, j, k = (index // POOLED).unbind(1)
    x, y, z = index.unbind(1)
    where = (x * image.shape[1] + y) * image.shape[2] + z
    return _Zone(where, (i * blocks[1] + j) * blocks[2] + k, image[mask])


def _pooled(weight: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Sums of weights (T, I, J, K), and of these times intensities and their squares, in blocks, (3, T, i, j, k)."""
    ends = [x for n in reversed(image.shape) for x in (0, -n % POOLED)]
    parts = (weight, weight * image, weight * image.square())
    return torch.stack([F.avg_pool3d(F.pad(one[None], ends), POOLED)[0] for one in parts]) * POOLED**3


def _pooled_in(zone: _Zone, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The same of weights (T, N) in a zone."""
    count = shape[2:].numel()
    parts = (weight, weight * zone.image, weight * zone.image.square())
    sums = [torch.bincount(zone.block, one, count) for part in parts for one in part]
    return torch.stack(sums).view(shape).float()


def _gaussians(sums: torch.Tensor, shape: torch.Size, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Local mean and variance of each tissue at some voxels of a volume, (T, N) each."""
    blurs = [gaussian_matrix(n, REACH_VOXELS / POOLED)[None] for n in sums.shape[2:]]
    count, first, second = apply_along_axes(sums, blurs) + FAR_SHARE * sums.mean((2, 3, 4), keepdim=True)
    mean = first / count.clamp(min=1e-9)
    variance = (second / count.clamp(min=1e-9) - mean.square()).clamp_(min=0).add_(LEAST_STD**2)
    nodes = [torch.arange(n) * POOLED + (POOLED - 1) / 2 for n in mean.shape[1:]]
    up = [interpolation_matrix(torch.arange(n), at)[None] for n, at in zip(shape, nodes, strict=True)]
    mean, variance = (apply_along_axes(x[None], up)[0].flatten(1)[:, where] for x in (mean, variance))
    return mean, variance
