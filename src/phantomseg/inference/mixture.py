"""A mixture of local Gaussians, one a tissue: what the intensities near boundaries say of the tissues there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from phantomseg.image.distance import with_corners
from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix

ROUNDS = 6
DOMINANT = 0.5  # probability of all tissues of a part
NEAR_VOXELS, PROBABLE = 2, 0.25  # a tissue may come to lie within so many voxels of where it is that probable
LEAST_PRIOR = 1e-3
PRIOR_WEIGHT = 1.5  # of its logarithm, as neighbouring voxels are not independent
POOLED, REACH_VOXELS = 4, 8.0  # voxels taken together in local sums, and the standard deviation of their weights
FAR_SHARE = 1e-3  # weight of the sums over all of the part in the local ones
LEAST_STD = 0.03  # of intensities between 0 and 1
SEEN = 0.004  # darker voxels show nothing


@dataclass(frozen=True, eq=False)
class _Zone:
    """Voxels near boundaries, (N,) each: where they lie, in which block of POOLED³, and their intensities."""

    where: torch.Tensor
    block: torch.Tensor
    image: torch.Tensor


def posterior(
    prior: torch.Tensor, image: torch.Tensor, alike: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where boundaries are near, (N,), and the probabilities of the tissues there, (T, N), before and after.

    Overwrites the prior, (T, I, J, K). The first `alike` tissues share the mean of their variances, so that boundaries
    between these lie half-way between their intensities, where a voxel holds as much of one as of the other.
    """
    total = prior.sum(0)
    counted = (total > DOMINANT) & (image > SEEN)
    near = torch.stack([_grown(one > PROBABLE) for one in prior])
    zone = _zone(counted & (near.sum(0) > 1), image)
    before = prior.flatten(1)[:, zone.where]
    total_there = total.view(-1)[zone.where]
    now = before / total_there
    logs = now.clamp(min=LEAST_PRIOR).log_().mul_(PRIOR_WEIGHT)
    logs.masked_fill_(~near.flatten(1)[:, zone.where], -torch.inf)
    counted.view(-1)[zone.where] = False
    kept = prior.div_(total.clamp_(min=1e-6)).square_().mul_(counted)  # all that stays as it is
    sums = pooled(kept, image)
    for _ in range(ROUNDS):
        mean, variance = local_gaussians(sums + _pooled_in(zone, now.square(), sums.shape), image.shape, zone.where)
        if alike:
            variance[:alike] = variance[:alike].mean(0)
        now = (logs - (zone.image - mean).square_().div_(2 * variance) - variance.log() / 2).softmax(0)
    return zone.where, before, now * total_there


def _grown(mask: torch.Tensor) -> torch.Tensor:
    """Mask (I, J, K) with all within a cube of NEAR_VOXELS around it."""
    for _ in range(NEAR_VOXELS):
        mask = with_corners(mask)
    return mask


def _zone(mask: torch.Tensor, image: torch.Tensor) -> _Zone:
    index = torch.nonzero(mask)
    blocks = [-(-n // POOLED) for n in image.shape]
    i, j, k = (index // POOLED).unbind(1)
    x, y, z = index.unbind(1)
    where = (x * image.shape[1] + y) * image.shape[2] + z
    return _Zone(where, (i * blocks[1] + j) * blocks[2] + k, image[mask])


def pooled(weight: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Sums of weights (T, I, J, K), and of these times intensities and their squares, in blocks, (3, T, i, j, k).

    Overwrites the weights.
    """
    ends = [x for n in reversed(image.shape) for x in (0, -n % POOLED)]
    sums = [F.avg_pool3d(F.pad(weight[None], ends), POOLED)[0]]
    for _ in range(2):
        sums.append(F.avg_pool3d(F.pad(weight.mul_(image)[None], ends), POOLED)[0])
    return torch.stack(sums) * POOLED**3


def _pooled_in(zone: _Zone, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The same of weights (T, N) in a zone."""
    count = shape[2:].numel()
    parts = (weight, weight * zone.image, weight * zone.image.square())
    sums = [torch.bincount(zone.block, one, count) for part in parts for one in part]
    return torch.stack(sums).view(shape).float()


def local_gaussians(sums: torch.Tensor, shape: torch.Size, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Local mean and variance of each tissue at some voxels of a volume, (T, N) each."""
    blurs = [gaussian_matrix(n, REACH_VOXELS / POOLED)[None] for n in sums.shape[2:]]
    count, first, second = apply_along_axes(sums, blurs) + FAR_SHARE * sums.mean((2, 3, 4), keepdim=True)
    mean = first / count.clamp(min=1e-9)
    variance = (second / count.clamp(min=1e-9) - mean.square()).clamp_(min=0).add_(LEAST_STD**2)
    nodes = [torch.arange(n) * POOLED + (POOLED - 1) / 2 for n in mean.shape[1:]]
    up = [interpolation_matrix(torch.arange(n), at)[None] for n, at in zip(shape, nodes, strict=True)]
    mean, variance = (apply_along_axes(x[None], up)[0].flatten(1)[:, where] for x in (mean, variance))
    return mean, variance
