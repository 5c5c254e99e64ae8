"""Boundaries within the brain, moved to where the scan's own intensities put them.

The network says what lies where; how far exactly a tissue reaches, the scan knows better. Near the boundaries of the
tissues below the network's probabilities are the prior of a Gaussian mixture, whose means and variances are those of
the tissues around (expectation maximisation as in doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians, without
registration). Where contrast is lost in noise, the prior stays. Thalamus, ventral DC and brain-stem are left out, as
their white matter blurs their boundaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.distance import with_corners
from phantomseg.image.grid import content_box
from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix
from phantomseg.labels import label_set
from phantomseg.labels.merge import Merge
from phantomseg.network.model import Model

REFINED = "refined"  # label set of all tissues
HEALTHY = "healthy"  # of those that `freesurfer` mixes with others: white matter and lesions, ventricles and plexus
WHITE, FLUID = (2, 41), (24,)
Part = tuple[tuple[int, ...], ...]
PARTS: tuple[Part, ...] = (  # values of tissues that are parted together; pairs are left, right
    (WHITE, (3, 42), FLUID),
    ((7, 46), (8, 47), FLUID),
    (WHITE, (4, 43), (5, 44), (11, 50), (12, 51), (13, 52), (17, 53), (26, 58)),
)
THICK_MM = 2.0  # voxels that are longer hold several tissues
SMOOTH = (0.865, 0.905)  # smoothness of images where fluid and nuclei begin to stay as they are, and do
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


Sets = Mapping[str, torch.Tensor]  # probabilities of each label set, (C, I, J, K)


@dataclass(frozen=True, eq=False)
class _Zone:
    """Voxels near boundaries, (N,) each: where they lie, in which block of POOLED³, and their intensities."""

    where: torch.Tensor
    block: torch.Tensor
    image: torch.Tensor


def sets_to_refine(model: Model, sets: Iterable[str]) -> list[str]:
    """The least that must be predicted beside some label sets for every tissue to have a channel of its own.

    >>> from phantomseg.models import find_model
    >>> sets_to_refine(find_model("head"), ["siam"]), sets_to_refine(find_model("head"), ["head"])
    (['refined'], [])
    """
    for extra in ([], [HEALTHY]):
        if all(map(model.reaches, extra)) and len(_places(model, [*sets, *extra])) == len(label_set(REFINED)) - 1:
            return extra
    return [REFINED]


def refine(sets: Sets, image: torch.Tensor, model: Model, thick: bool = False) -> None:
    """Move probabilities between the tissues of each part, in place.

    Args:
        sets: probabilities of label sets that the model's merge into, those of `sets_to_refine` among them.
        image: what the network saw, (I, J, K).
        model: that the probabilities are of.
        thick: whether only white matter and cortex are parted, and fluid, ventricles and nuclei stay as they are; this
            also holds where the image is smooth, as scans with thick slices are that were interpolated.
    """
    places = _places(model, sets)
    channels = {value: sets[name][channel] for value, (name, channel) in places.items()}
    share_moved = 0.0 if thick else _share_moved([channels[value] for ids in PARTS[0] for value in ids], image)
    for part in PARTS:
        if not share_moved and FLUID not in part:
            continue  # all of it would stay
        _refine_part(part, channels, sets, image, model, share_moved)


def _places(model: Model, sets: Iterable[str]) -> dict[int, tuple[str, int]]:
    """Set and channel that hold nothing but one tissue, of each that has such a channel."""
    wanted = _sources(model, REFINED)
    held = {sources: (name, channel) for name in sets for channel, sources in _sources(model, name).items()}
    values = label_set(REFINED).ids.tolist()
    return {values[c]: held[sources] for c, sources in wanted.items() if c and sources in held}


def _sources(model: Model, name: str) -> dict[int, frozenset[int]]:
    """Labels of the model that each channel of a set is merged from."""
    merged = model.merge(name)
    pairs = list(zip(merged.source_ids, merged.channels.tolist(), strict=True))
    return {channel: frozenset(value for value, c in pairs if c == channel) for _, channel in pairs}


def _refine_part(
    part: Part,
    channels: Mapping[int, torch.Tensor],
    sets: Sets,
    image: torch.Tensor,
    model: Model,
    share_moved: float,
) -> None:
    inside = _sum(channels[value] for ids in part if ids not in (WHITE, FLUID) for value in ids) > DOMINANT
    if not inside.any():
        return
    low, high = content_box(inside.numpy())
    low, high = np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, inside.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    prior = torch.stack([_sum(channels[value][box] for value in ids) for ids in part])
    where, before, after = _posterior(prior, image[box])
    otherwise = _without_fluid(before, after) if FLUID in part else before
    after = share_moved * after + (1 - share_moved) * otherwise
    sides = [torch.stack([channels[value][box].reshape(-1)[where] for value in ids]).float() for ids in part]
    changes = [new - one for new, one in zip(_by_side(sides, after), sides, strict=True)]
    for name, found in sets.items():
        _add(changes, part, model.merge(name), found[(slice(None), *box)], where)


def _add(changes: list[torch.Tensor], part: Part, merged: Merge, found: torch.Tensor, where: torch.Tensor) -> None:
    """Add what each tissue has gained, (1 or 2, N) each, to the channels that hold it."""
    sums: dict[int, torch.Tensor] = {}
    for ids, change in zip(part, changes, strict=True):
        for channel, one in zip(merged.target.index_of_ids(merged.apply(np.array(ids))).tolist(), change, strict=True):
            sums[channel] = sums[channel] + one if channel in sums else one
    for channel, one in sums.items():
        gained = torch.zeros(found.shape[1:], dtype=found.dtype)
        gained.view(-1)[where] = one.to(found.dtype)
        found[channel].add_(gained).clamp_(min=0)


def _sum(channels: Iterable[torch.Tensor]) -> torch.Tensor:
    """Their sum in float32, with one at a time in memory."""
    first, *others = channels
    total = first.to(torch.float32, copy=True)
    for one in others:
        total = total.add_(one)
    return total


def smoothness(image: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean square of differences over two voxels, divided by four times that over one, of the smoothest axis.

    Noise has 0.25, a ramp 1.

    >>> ramp = torch.arange(6.0)[:, None, None].expand(6, 6, 6)
    >>> smoothness(ramp, torch.ones(6, 6, 6, dtype=torch.bool))
    1.0
    """
    found = []
    for axis, size in enumerate(image.shape):
        if size < 3:
            continue
        first, middle, last = (image.narrow(axis, n, size - 2) for n in range(3))
        inner = torch.stack([mask.narrow(axis, n, size - 2) for n in range(3)]).all(0)
        one, two = ((x - first).square_().mul_(inner).sum() for x in (middle, last))
        found.append(float(two / (4 * one).clamp(min=1e-12)))
    return max(found, default=0.0)


def _share_moved(channels: list[torch.Tensor], image: torch.Tensor) -> float:
    """Share that is done of what the mixture changes of fluid and nuclei, by how smooth the image is within these."""
    begin, end = SMOOTH
    return min(1.0, max(0.0, (end - smoothness(image, _sum(channels) > DOMINANT)) / (end - begin)))


def _without_fluid(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Probabilities (3, N) of which the first two share what they had together."""
    both = after[:2] + FAINT * before[:2]
    return torch.cat([both * (before[:2].sum(0) / both.sum(0).clamp(min=1e-9)), before[2:]])


def _by_side(sides: list[torch.Tensor], tissue: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities of the tissues (T, N) parted as before; a tissue that was not there, as the others are."""
    paired = [one for one in sides if len(one) == 2]
    around = FAINT * torch.stack(paired).sum(0)  # left and right
    shares = [one + around if len(one) == 2 else one + FAINT for one in sides]
    return [new * share / share.sum(0).clamp(min=1e-9) for new, share in zip(tissue, shares, strict=True)]


def _posterior(prior: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where boundaries are near, (N,), and the probabilities of the tissues there, (T, N), before and after.

    Overwrites the prior, (T, I, J, K).
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
    sums = _pooled(kept, image)
    for _ in range(ROUNDS):
        mean, variance = _gaussians(sums + _pooled_in(zone, now.square(), sums.shape), image.shape, zone.where)
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


def _pooled(weight: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
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
