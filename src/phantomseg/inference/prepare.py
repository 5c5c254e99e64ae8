"""From a scan to the network's grid, remembering the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.errors import ScanError
from phantomseg.image.grid import Placed, canonical, content_box, crop, resample
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescale, windowed

CONTENT = 0.01  # of the intensity range; darker borders are cut off
MARGIN_VOXELS = 4
MOST_VOXELS = 2**25  # 322³: more than any head, and 3 GB of probabilities


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the network's grid: `image` (1, 1, I, J, K), and the grids it went through."""

    image: torch.Tensor
    inside: tuple[slice, slice, slice]  # the part of it that the scan saw; the rest is padding
    scan: Image
    canonical: Placed
    resampled: Placed
    cropped: Placed

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel of the network's grid."""
        return self.cropped.image.voxel_volume_mm3


def prepare(scan: Image, spacing_mm: float, multiple: int) -> Prepared:
    """Canonical axes, CT windowed, `spacing_mm` isotropic, dark borders cut, between 0 and 1, padded to `multiple`."""
    turned = canonical(scan)
    fine = resample(turned.image.with_voxels(windowed(turned.image.voxels)), spacing_mm)
    voxels = fine.image.voxels
    low, high = content_box(_rescaled(voxels) > CONTENT)
    low, high = np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, voxels.shape)
    # at least two voxels at the network's coarsest level: one has no spread to normalise by
    high = low + np.maximum(-(-(high - low) // multiple), 2) * multiple
    if np.prod(high - low) > MOST_VOXELS:
        raise ScanError(
            f"scan fills {tuple((high - low).tolist())} voxels of {spacing_mm:g} mm, wanted at most "
            f"{MOST_VOXELS // 10**6} million in all; crop it to the head"
        )
    # padding is as dark as the darkest voxel; percentiles are those of the head, not of the border around it
    placed = crop(fine.image.with_voxels(voxels - voxels.min()), low, high)
    image = torch.from_numpy(_rescaled(placed.image.voxels))[None, None]
    i, j, k = (slice(0, int(n)) for n in np.minimum(fine.image.shape - low, high - low))
    return Prepared(image, (i, j, k), scan, turned, fine, placed)


def _rescaled(voxels: np.ndarray) -> np.ndarray:
    image = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))
    scaled: np.ndarray = rescale(image[None, None])[0, 0].numpy()
    return scaled
