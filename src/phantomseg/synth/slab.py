"""A scan that is one slab of a head: beyond its faces, its outermost planes go on for a while, as they do in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.rng import Distribution, LogUniform

REACH_MM = 16  # that planes go on


@dataclass(frozen=True)
class SlabSettings:
    """How often a scan is one slab, across any axis of the crop and anywhere in it, and how thick."""

    probability: float = 0.0
    mm: Distribution = LogUniform(6, 100)


@dataclass(frozen=True)
class Slab:
    """One draw: the axis across which it lies, its middle as a share of the crop; thickness None leaves the crop."""

    axis: int
    middle: float
    mm: float | None

    def planes(self, count: int, per_mm: int = 1) -> tuple[int, int]:
        """First plane, and one past the last, of an axis of `count` voxels; at least 1 mm.

        >>> Slab(axis=0, middle=0.9, mm=6.0).planes(20)
        (15, 20)
        """
        if self.mm is None:
            return 0, count
        size = count // per_mm
        first = min(max(0, round(self.middle * size - self.mm / 2)), size - 1)
        last = max(min(size, round(self.middle * size + self.mm / 2)), first + 1)
        return first * per_mm, last * per_mm


def draw_slab(settings: SlabSettings, rng: np.random.Generator) -> Slab:
    """Draw which slab of the crop the scan is."""
    chance, middle = rng.uniform(size=2)
    axis, mm = int(rng.integers(3)), float(settings.mm.draw(rng, 1)[0])
    return Slab(axis, float(middle), mm if chance < settings.probability else None)


def repeat_faces(volumes: torch.Tensor, slabs: list[Slab], per_mm: int = 1) -> torch.Tensor:
    """Volumes (B, I, J, K) at `per_mm` voxels a mm, in place: the planes next to a slab are its outermost, others 0."""
    for volume, slab in zip(volumes, slabs, strict=True):
        count = volume.shape[slab.axis]
        first, end = slab.planes(count, per_mm)
        if (first, end) != (0, count):
            planes = torch.arange(count, device=volume.device).clamp(first, end - 1)
            volume.copy_(volume.index_select(slab.axis, planes))
            volume.narrow(slab.axis, 0, max(first - REACH_MM * per_mm, 0)).zero_()
            reached = min(end + REACH_MM * per_mm, count)
            volume.narrow(slab.axis, reached, count - reached).zero_()
    return volumes
