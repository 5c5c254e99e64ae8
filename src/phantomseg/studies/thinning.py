"""Heads whose cortex is thinner by a known amount, and the images a scanner would make of them.

The pial surface is moved inwards wherever the cortex meets fluid, by any fraction of a voxel: a voxel that the surface
crosses is part cortex, part fluid, in the image as in the volume that counts as true.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.distance import squared_distance
from phantomseg.image.grid import content_box
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescale
from phantomseg.studies.t1like import draw_contrast
from phantomseg.synth.bias import Bias, apply_bias
from phantomseg.synth.channels import channel, is_any
from phantomseg.synth.resolution import Resolution, acquire
from phantomseg.synth.shape import CORTEX, CSF
from phantomseg.synth.source import brain_channels
from phantomseg.synth.templates import prepare_template
from phantomseg.synth.tissues import Tissues, paint

PER_MM = 2
MARGIN_VOXELS = 15
NOISE_STD = 0.015  # of the range of intensities


@dataclass(frozen=True, eq=False)
class Thinned:
    """An image at 1 mm, the volume of cortex in it, and the label of most of each voxel."""

    image: Image
    cortex_mm3: float
    labels: np.ndarray  # generation channels, (I, J, K)


@lru_cache(maxsize=8)  # images of a head are asked for first, and what is true of them afterwards
def thinned(template: Path, mm: float, seed: int, level: int) -> Thinned:
    """A head of a label map with its cortex thinned.

    Args:
        template: label map with the values of the set `generation`.
        mm: how far the pial surface moves inwards.
        seed: of contrast, gain and texture, which all levels of a head share.
        level: number of the level; its noise is its own.
    """
    labels = _head(template)
    fine = labels
    for axis in range(3):
        fine = fine.repeat_interleave(PER_MM, axis)
    lost = lost_share(fine, mm * PER_MM)
    cortex = is_any(fine, CORTEX)
    volume = float((cortex.sum(dtype=torch.float64) - lost.sum(dtype=torch.float64)) / PER_MM**3)
    mean, std = draw_contrast(np.random.default_rng(seed))
    tissues = [Tissues(mean=mean, std=std, noise_seed=seed)]
    fluid = torch.where(lost > 0, torch.full_like(fine, channel(CSF[0])), fine)
    before, after = (paint(each[None], tissues, PER_MM)[0, 0] for each in (fine, fluid))
    pooled = F.avg_pool3d(torch.lerp(before, after, lost)[None, None], PER_MM)
    image = acquire(_with_bias(rescale(pooled), seed), [_sharpness(seed, level)])
    kept = torch.where(F.avg_pool3d(lost[None, None], PER_MM)[0, 0] > 0.5, channel(CSF[0]), labels)
    return Thinned(Image(rescale(image)[0, 0].numpy(), np.eye(4)), volume, kept.numpy())


def lost_share(labels: torch.Tensor, voxels: float) -> torch.Tensor:
    """Share of each voxel that the cortex loses when it gets thinner by `voxels` from the fluid on, float32.

    >>> labels = torch.tensor([channel(24), channel(3), channel(3), channel(3)], dtype=torch.uint8).view(1, 1, 4)
    >>> lost_share(labels, 1.25).flatten().tolist()
    [0.0, 1.0, 0.25, 0.0]
    """
    if voxels <= 0:
        return torch.zeros(labels.shape)
    near = squared_distance(is_any(labels, CSF), int(np.ceil(voxels)) + 1).float().sqrt()
    # the nearest voxel of fluid is one away where cortex begins: the surface lies half a voxel before its centre
    share = (voxels - (near - 1)).clamp(0, 1)
    return torch.where(is_any(labels, CORTEX), share, torch.zeros(()))


@lru_cache(maxsize=1)
def _head(template: Path) -> torch.Tensor:
    """Brain and what is near it, generation channels, at 1 mm."""
    volume = prepare_template(template)
    low, high = content_box(brain_channels()[volume])
    low, high = np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, volume.shape)
    return torch.from_numpy(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy())


def _with_bias(image: torch.Tensor, seed: int) -> torch.Tensor:
    rng = np.random.default_rng([seed, 1])
    return apply_bias(
        image, [Bias(log_std=float(rng.uniform(0.05, 0.2)), nodes_mm=60.0, seed=int(rng.integers(2**31)))]
    )


def _sharpness(seed: int, level: int) -> Resolution:
    """Voxels of 1 mm, a little blur, noise of the level's own."""
    return Resolution(
        (1.0,) * 3, (0.45,) * 3, NOISE_STD, noise_seed=int(np.random.default_rng([seed, 2, level]).integers(2**31))
    )
