"""Where the brain is, found at low resolution, so that necks and empty space cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cc3d
import numpy as np
import torch

from phantomseg.image.grid import content_box, crop, resample
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescaled
from phantomseg.inference.predict import predict
from phantomseg.inference.tiles import fitting
from phantomseg.models import find_model
from phantomseg.network.model import Model

FINDER = "find"
PROBABLE = 0.5
LEAST_MM3 = 15000.0  # what is smaller is no brain, nor a slab of one
LEAST_VIEW_MM = 32.0  # in a thinner slab the network is at a loss
CAP = 0.4  # of the largest cross-section
CONTENT = 0.02  # of the intensity range; darker borders are cut off


@dataclass(frozen=True, eq=False)
class Box:
    """Corners of a box with the axes of a canonical scan: world points in mm, shape (3,) each."""

    low: np.ndarray
    high: np.ndarray

    def grown(self, margin_mm: float) -> Box:
        """The box with a margin all around."""
        return Box(self.low - margin_mm, self.high + margin_mm)

    def voxels(self, affine: np.ndarray, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Lowest index, and one past the highest, on a grid with the same axes, with a margin around."""
        to_voxel = np.linalg.inv(affine)
        ends = [to_voxel[:3, :3] @ corner + to_voxel[:3, 3] for corner in (self.low, self.high)]
        margin = margin_mm / np.sqrt((affine[:3, :3] ** 2).sum(0))
        return np.floor(ends[0] - margin).astype(int), np.ceil(ends[1] + margin).astype(int) + 1


@dataclass(frozen=True, eq=False)
class Found:
    """Where a scan shows anything, and where a brain: None where none was found, all of it in a thin slab.

    The volume is that of brain and fluid; 0 where it is not known.
    """

    content: Box
    brain: Box | None
    intracranial_ml: float = 0.0
    is_cut: bool = True  # by the field of view: a part of a brain tells no size


def find(scan: Image, times: float = 1.0) -> Found:
    """Look for the brain in a canonical scan, enlarged `times` along each axis."""
    model = finder()
    coarse = resample(scan, model.spacing_mm / times)
    voxels = coarse.voxels - coarse.voxels.min()
    multiple: int = model.network.multiple  # type: ignore[assignment]
    padded = crop(coarse.with_voxels(voxels), np.zeros(3), fitting(np.array(coarse.shape), multiple))
    seen = rescaled(padded.voxels)
    i, j, k = coarse.shape
    content = box_of(seen[:i, :j, :k] > CONTENT, coarse.affine)
    thickness, height, _ = np.sort(content.high - content.low)
    if thickness < LEAST_VIEW_MM <= height:
        return Found(content, content)
    (probabilities,) = predict(model, torch.from_numpy(seen)[None, None], ["intracranial"], flip=False).sets
    probable = (probabilities[1, :i, :j, :k] > PROBABLE).numpy()
    least = max(2, int(LEAST_MM3 / coarse.voxel_volume_mm3))
    brain = cc3d.dust(probable, threshold=least, connectivity=6) > 0  # in several pieces where slices are missing
    volume_ml = float(brain.sum()) * coarse.voxel_volume_mm3 / 1000
    return Found(content, box_of(brain, coarse.affine) if brain.any() else None, volume_ml, _is_cut(brain))


def _is_cut(mask: np.ndarray) -> bool:
    """Whether the brain ends, along some axis, with more than a cap: what it would go on with is not in the scan."""
    for axis in range(3):
        areas = mask.sum(tuple({0, 1, 2} - {axis}))
        first, last = areas[areas > 0][[0, -1]] if areas.any() else (0, 0)
        if max(first, last) > CAP * areas.max():
            return True
    return False


def box_of(mask: np.ndarray, affine: np.ndarray) -> Box:
    """The box around the true voxels of a mask; around all of the grid where there is none."""
    low, high = content_box(mask)
    corners = [affine[:3, :3] @ (index - 0.5) + affine[:3, 3] for index in (low, high)]
    return Box(*corners)


@cache
def finder() -> Model:
    """The small network that finds the inside of the skull on coarse voxels."""
    return find_model(FINDER)
