"""From a scan to the network's grid, remembering the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.errors import ScanError
from phantomseg.image.grid import Grid, canonical, content_box, crop, resample_box, resampled_grid
from phantomseg.image.image import Image, spacing_mm
from phantomseg.image.intensity import rescale, windowed
from phantomseg.inference.find import Found, find
from phantomseg.network.model import Model

CONTENT = 0.01  # of the intensity range; darker borders are cut off
MARGIN_VOXELS = 4
BRAIN_MARGIN_MM = 24.0  # around the brain, for what the network looks at beside it
HEAD_MARGIN_MM = 60.0  # around the brain, for the rest of the head
NECK_MM = 50.0  # more than that below it
MOST_VOXELS = 2**25  # 322³: more than any head, and 3 GB of probabilities


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the network's grid: `image` (1, 1, I, J, K), and the way back."""

    image: torch.Tensor
    inside: tuple[slice, slice, slice]  # the part of it that the scan saw; the rest is padding
    scan: Image
    canonical: Grid  # the scan's grid with axes to right, anterior, superior
    grid: Grid  # the network's
    middle: tuple[float, float, float] | None  # of the brain, in voxels of `image`; None where none was found

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel of the network's grid."""
        return float(abs(np.linalg.det(self.grid.affine[:3, :3])))


def prepare(scan: Image, model: Model, brain_alone: bool = False) -> Prepared:
    """Canonical axes, CT windowed, the model's spacing, dark borders cut, between 0 and 1, padded to its multiple.

    Args:
        scan: any grid.
        model: tells spacing and multiple.
        brain_alone: cut off what is far from the brain, as no label lies there.

    Raises:
        ScanError: too many voxels for any head.
    """
    image = canonical(scan).image
    image = image.with_voxels(windowed(image.voxels))
    grid = resampled_grid(image, model.spacing_mm)
    found = find(image)
    dark = float(image.voxels.min())
    near = resample_box(image, grid, *_region(found, grid, brain_alone)).image
    low, high = _content(near.voxels - dark)
    multiple: int = model.network.multiple  # type: ignore[assignment]
    # at least two voxels at the network's coarsest level: one has no spread to normalise by
    high = low + np.maximum(-(-(high - low) // multiple), 2) * multiple
    if np.prod(high - low) > MOST_VOXELS:
        raise ScanError(
            f"scan fills {tuple((high - low).tolist())} voxels of {model.spacing_mm:g} mm, wanted at most "
            f"{MOST_VOXELS // 10**6} million in all; crop it to the head"
        )
    # padding is as dark as the darkest voxel; percentiles are those of the head, not of the border around it
    placed = crop(near, low, high, outside=dark).image
    tensor = torch.from_numpy(_rescaled(placed.voxels - dark))[None, None]
    i, j, k = (slice(0, int(n)) for n in np.minimum(near.shape - low, high - low))
    return Prepared(
        image=tensor,
        inside=(i, j, k),
        scan=scan,
        canonical=Grid(image.shape, image.affine),
        grid=Grid(placed.shape, placed.affine),
        middle=_middle(found, placed.affine),
    )


def _region(found: Found, grid: Grid, brain_alone: bool) -> tuple[np.ndarray, np.ndarray]:
    """Corners, in voxels of `grid`, of what has content and is not too far from the brain."""
    low, high = found.content.voxels(grid.affine, MARGIN_VOXELS * float(spacing_mm(grid.affine)[0]))
    if found.brain is not None:
        near_low, near_high = found.brain.voxels(grid.affine, BRAIN_MARGIN_MM if brain_alone else HEAD_MARGIN_MM)
        near_low[2] -= 0 if brain_alone else round(NECK_MM / float(spacing_mm(grid.affine)[2]))
        low, high = np.maximum(low, near_low), np.minimum(high, near_high)
    return np.maximum(low, 0), np.minimum(high, grid.shape)


def _content(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = content_box(_rescaled(voxels) > CONTENT)
    return np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, voxels.shape)


def _rescaled(voxels: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))
    scaled: np.ndarray = rescale(image[None, None])[0, 0].numpy()
    return scaled


def _middle(found: Found, affine: np.ndarray) -> tuple[float, float, float] | None:
    if found.brain is None:
        return None
    to_voxel = np.linalg.inv(affine)
    i, j, k = to_voxel[:3, :3] @ ((found.brain.low + found.brain.high) / 2) + to_voxel[:3, 3]
    return float(i), float(j), float(k)
