"""White matter, cortex and fluid, of cerebrum and cerebellum, parted where the scan's own intensities part them.

The network says what lies where; how far exactly a tissue reaches, the scan knows better. Near the boundaries of these
three tissues the network's probabilities are the prior of a Gaussian mixture, whose means and variances are those of
the tissues around (expectation maximisation as in doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians, without
registration). Where contrast is lost in noise, the prior stays.
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

RIBBON = "ribbon"  # label set of the tissues
PARTS = (((2, 41), (3, 42)), ((7, 46), (8, 47)))  # white matter and cortex of cerebrum and cerebellum
FLUID = (24,)
THICK_MM = 2.0  # voxels that are longer hold fluid and cortex of sulci together
MARGIN_VOXELS = 4  # of fluid around
ROUNDS = 6
DOMINANT = 0.5  # probability of the three together
NEAR_VOXELS, PROBABLE = 2, 0.25  # a tissue may come to lie within so many voxels of where it is that probable
LEAST_PRIOR = 1e-3
PRIOR_WEIGHT = 1.5  # of its logarithm, as neighbouring voxels are not independent
POOLED, REACH_VOXELS = 4, 8.0  # voxels taken together in local sums, and the standard deviation of their weights
FAR_SHARE = 1e-3  # weight of the sums over all of the brain in the local ones
LEAST_STD = 0.03  # of intensities between 0 and 1
FAINT = 1e-2  # weight of the sides of all tissues in those of one
SEEN = 0.004  # darker voxels show nothing


Tissues = tuple[tuple[int, int], tuple[int, int]]  # left and right of each


@dataclass(frozen=True, eq=False)
class _Zone:
    """Voxels near boundaries, (N,) each: where they lie, in which block of POOLED³, and their intensities."""

    where: torch.Tensor
    block: torch.Tensor
    image: torch.Tensor


def refine(sets: Mapping[str, torch.Tensor], image: torch.Tensor, model: Model, with_fluid: bool = True) -> None:
    """Move probabilities between white matter, cortex and fluid of cerebrum and cerebellum, in place.

    Args:
        sets: probabilities of label sets that the model's merge into, (C, I, J, K) each, `ribbon` among them.
        image: what the network saw, (I, J, K).
        model: that the probabilities are of.
        with_fluid: whether fluid gains and loses, too; otherwise it only takes part in the mixture.
    """
    for sided in PARTS:
        _refine_part(sided, sets, image, model, with_fluid)


def _refine_part(
    sided: Tissues, sets: Mapping[str, torch.Tensor], image: torch.Tensor, model: Model, with_fluid: bool
) -> None:
    ribbon = sets[RIBBON]
    tissues = (*sided, FLUID)
    channels = [_channels(ids) for ids in tissues]
    inside = ribbon[[*channels[0], *channels[1]]].sum(0) > DOMINANT
    if not inside.any():
        return
    low, high = content_box(inside.numpy())
    low, high = np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, inside.shape)
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    parts = [ribbon[one, i, j, k].float() for one in channels]  # of each tissue, its sides: (2 or 1, i, j, k)
    prior = torch.stack([part.sum(0) for part in parts])
    tissue = _posterior(prior, image[i, j, k])
    if not with_fluid:
        both = tissue[:2] + FAINT * prior[:2]
        tissue = torch.cat([both * (prior[:2].sum(0) / both.sum(0).clamp(min=1e-9)), prior[2:]])
    changes = [new - part for new, part in zip(_by_side(parts, tissue), parts, strict=True)]
    for name, found in sets.items():
        merged = model.merge(name)
        for ids, change in zip(tissues, changes, strict=True):
            for channel, moved in zip(merged.target.index_of_ids(merged.apply(np.array(ids))), change, strict=True):
                found[channel, i, j, k] += moved.to(found.dtype)
        found[:, i, j, k].clamp_(min=0)


def _by_side(parts: list[torch.Tensor], tissue: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities of the tissues (T, I, J, K) parted as before; a tissue that was not there, as the others are."""
    around = FAINT * (parts[0] + parts[1])  # left and right
    shares = [part + around if len(part) == 2 else part + FAINT for part in parts]
    return [new * share / share.sum(0).clamp(min=1e-9) for new, share in zip(tissue, shares, strict=True)]


def _channels(ids: tuple[int, ...]) -> list[int]:
    found: list[int] = label_set(RIBBON).index_of_ids(np.array(ids)).tolist()
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
