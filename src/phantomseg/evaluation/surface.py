"""Distances between the surfaces of two masks, measured once, many numbers derived.

A surface's elements are the corners where eight voxels meet that are neither all in nor all out of the mask. Each
element weighs the same, whatever area of the surface passes through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from phantomseg.image.grid import content_box


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance in mm from each element of one surface to the nearest of the other."""

    predicted_to_reference: np.ndarray
    reference_to_predicted: np.ndarray

    @property
    def hd95_mm(self) -> float:
        """Larger of the two 95th percentiles; NaN where both masks are empty, infinite where one is."""
        if self._undefined:
            return self._missing
        both = (self.predicted_to_reference, self.reference_to_predicted)
        return float(max(np.percentile(distances, 95) for distances in both))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces within the tolerance; NaN where both masks are empty, 0 where one is."""
        if self._undefined:
            return 0.0 if np.isinf(self._missing) else float("nan")
        distances = np.concatenate([self.predicted_to_reference, self.reference_to_predicted])
        return float((distances <= tolerance_mm).mean())

    @property
    def _undefined(self) -> bool:
        return not (self.predicted_to_reference.size and self.reference_to_predicted.size)

    @property
    def _missing(self) -> float:
        one = self.predicted_to_reference.size or self.reference_to_predicted.size
        return float("inf") if one else float("nan")


def surface_distances(predicted: np.ndarray, reference: np.ndarray, spacing_mm: np.ndarray) -> SurfaceDistances:
    """Distances between the surfaces of two boolean masks of the same shape.

    Args:
        predicted: (I, J, K).
        reference: (I, J, K).
        spacing_mm: of the voxels, shape (3,).

    >>> a = np.zeros((5, 5, 5), bool); a[1:4, 1:4, 1:4] = True
    >>> surface_distances(a, a, np.ones(3)).hd95_mm
    0.0
    """
    if not (predicted.any() and reference.any()):
        missing = [np.full(int(mask.any()), np.inf) for mask in (predicted, reference)]
        return SurfaceDistances(*missing)
    low, high = content_box(predicted | reference)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    surfaces = [_surface(np.pad(mask[box], 1)) for mask in (predicted, reference)]
    fields = [ndimage.distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    return SurfaceDistances(fields[1][surfaces[0]], fields[0][surfaces[1]])


def _surface(mask: np.ndarray) -> np.ndarray:
    """Corners between voxels where the mask begins or ends, boolean, one smaller along each axis."""
    some = np.zeros(np.array(mask.shape) - 1, dtype=bool)
    every = np.ones_like(some)
    for corner in np.ndindex(2, 2, 2):
        part = mask[tuple(slice(c, c + n) for c, n in zip(corner, some.shape, strict=True))]
        some |= part
        every &= part
    return some & ~every
