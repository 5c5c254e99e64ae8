"""Heads whose cortex is thinner by a known amount, and the images a scanner would make of them.

The pial surface is moved inwards wherever the cortex meets fluid, by any fraction of a voxel: a voxel that the surface
crosses is part cortex, part fluid, in the image as in the volume that counts as true. Heads are turned and warped a
little first, so that surfaces lie between voxels as they do in scans, and not along the voxels of the label map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.distance import squared_distance
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescale
from phantomseg.image.parts import parts_of
from phantomseg.studies.t1like import draw_contrast
from phantomseg.synth.bias import Bias, apply_bias
from phantomseg.synth.channels import channel, is_any
from phantomseg.synth.pose import Pose, look_up
from phantomseg.synth.resolution import Resolution, acquire
from phantomseg.synth.shape import CORTEX, CSF
from phantomseg.synth.source import brain_channels
from phantomseg.synth.templates import pack, prepare_template
from phantomseg.synth.tissues import Tissues, paint

VERSION = 2  # of how heads are made
PER_MM = 2
MARGIN_VOXELS = 15
TURN_DEG, WARP_MM = 8.0, 1.0
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
    fine = _head(template, seed)
    lost = lost_share(fine, mm * PER_MM)
    cortex = is_any(fine, CORTEX)
    volume = float((cortex.sum(dtype=torch.float64) - lost.sum(dtype=torch.float64)) / PER_MM**3)
    mean, std = draw_contrast(np.random.default_rng(seed))
    tissues = [Tissues(mean=mean, std=std, noise_seed=seed)]
    fluid = torch.where(lost > 0, torch.full_like(fine, channel(CSF[0])), fine)
    before, after = (paint(each[None], tissues, PER_MM)[0, 0] for each in (fine, fluid))
    pooled = F.avg_pool3d(torch.lerp(before, after, lost)[None, None], PER_MM)
    image = acquire(_with_bias(rescale(pooled), seed), [_sharpness(seed, level)])
    kept = torch.where(lost > 0.5, fluid, fine)
    labels = parts_of(kept[None], PER_MM).mode(-1).values[0]
    return Thinned(Image(rescale(image)[0, 0].numpy(), np.eye(4)), volume, labels.numpy())


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
def _head(template: Path, seed: int) -> torch.Tensor:
    """Brain and what is near it in a pose of its own, generation channels, PER_MM voxels a mm."""
    volume = prepare_template(template)
    packed = pack([template.name], [volume], brain_channels(), 1.0)
    low, high = packed.brain_low[0].numpy(), packed.brain_high[0].numpy()
    rng = np.random.default_rng([seed, 3])
    i, j, k = (2 * MARGIN_VOXELS + high - low).tolist()
    centre = (low + high) / 2 + rng.uniform(-0.5, 0.5, 3)
    pose = Pose(
        template=0,
        crop_voxels=(i, j, k),
        rotation_deg=tuple(rng.uniform(-TURN_DEG, TURN_DEG, 3).tolist()),
        scaling=(1.0,) * 3,
        shear=(0.0,) * 3,
        centre_voxel=tuple(centre.tolist()),
        warp_std_mm=WARP_MM,
        warp_nodes_mm=25.0,
        warp_seed=int(rng.integers(2**31)),
        flip=False,
    )
    return look_up([pose], packed, PER_MM)[0]


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
