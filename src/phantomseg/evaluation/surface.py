"""Distances between the surfaces of two masks, measured once, many numbers derived.

Two definitions are in use. `corners`, the default, is that of DeepMind's surface-distance: elements are the corners
where eight voxels meet, weighed by the area of the surface there. `voxels` is MONAI's: elements are the outermost
voxels of a mask, all of one weight.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from phantomseg.errors import LabelError
from phantomseg.evaluation.surfels import corner_areas_mm2, neighbourhoods
from phantomseg.image.grid import content_slices

ELEMENTS = ("corners", "voxels")
NEAR = 2  # voxels around an element that are looked at before a search tree is asked


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance in mm from each element of one surface to the nearest of the other, and the elements' areas in mm².

    ============  ================  =============  ===
    mask          percentile, HD95  mean distance  NSD
    ============  ================  =============  ===
    both empty    NaN               NaN            NaN
    one empty     infinite          infinite       0
    ============  ================  =============  ===
    """

    predicted_to_reference: np.ndarray
    reference_to_predicted: np.ndarray
    predicted_areas: np.ndarray | None = None  # None: all alike
    reference_areas: np.ndarray | None = None

    @property
    def hd95_mm(self) -> float:
        """Larger of the two 95th percentiles (doi:10.1109/34.232073, robust)."""
        return self.percentile_mm(95)

    def percentile_mm(self, percent: float) -> float:
        """Larger of the two distances within which `percent` of each surface lies; 100 is the Hausdorff distance."""
        if self._undefined:
            return self._missing
        return max(_percentile(distances, areas, percent) for distances, areas in self._both)

    @property
    def mean_mm(self) -> float:
        """Mean distance over both surfaces taken together (average symmetric surface distance)."""
        if self._undefined:
            return self._missing
        sums = [_sum(distances, areas) for distances, areas in self._both]
        return sum(total for total, _ in sums) / sum(area for _, area in sums)

    @property
    def means_mm(self) -> tuple[float, float]:
        """Mean distance from the predicted surface to the reference, and from the reference to the predicted one."""
        if self._undefined:
            return self._missing, self._missing
        first, second = (total / area for total, area in (_sum(*one) for one in self._both))
        return first, second

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces within the tolerance (doi:10.2196/26151)."""
        if self._undefined:
            return 0.0 if math.isinf(self._missing) else math.nan
        within = sum(_sum(distances <= tolerance_mm, areas)[0] for distances, areas in self._both)
        return within / sum(_sum(*one)[1] for one in self._both)

    @property
    def _both(self) -> tuple[tuple[np.ndarray, np.ndarray | None], ...]:
        return (
            (self.predicted_to_reference, self.predicted_areas),
            (self.reference_to_predicted, self.reference_areas),
        )

    @property
    def _undefined(self) -> bool:
        return not (self.predicted_to_reference.size and self.reference_to_predicted.size)

    @property
    def _missing(self) -> float:
        one = self.predicted_to_reference.size or self.reference_to_predicted.size
        return math.inf if one else math.nan


def surface_distances(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: np.ndarray, elements: str = "corners"
) -> SurfaceDistances:
    """Distances between the surfaces of two boolean masks of the same shape.

    Args:
        predicted: (I, J, K).
        reference: (I, J, K).
        spacing_mm: of the voxels, shape (3,).
        elements: `corners` or `voxels`, see above.

    Raises:
        LabelError: `elements` is neither.

    >>> a = np.zeros((5, 5, 5), bool); a[1:4, 1:4, 1:4] = True
    >>> surface_distances(a, a, np.ones(3)).hd95_mm
    0.0
    """
    if elements not in ELEMENTS:
        raise LabelError(f"elements are {elements!r}, wanted {' or '.join(ELEMENTS)}")
    if not (predicted.any() and reference.any()):
        missing = [np.full(int(mask.any()), np.inf) for mask in (predicted, reference)]
        return SurfaceDistances(*missing)
    box = content_slices(predicted | reference)
    if elements == "voxels":
        outlines = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (predicted, reference)]
        return SurfaceDistances(*_between(outlines, spacing_mm))
    codes = [neighbourhoods(mask[box]) for mask in (predicted, reference)]
    surfaces = [(code != 0) & (code != 255) for code in codes]
    areas = corner_areas_mm2(spacing_mm)
    weights = [areas[code[surface]] for code, surface in zip(codes, surfaces, strict=True)]
    return SurfaceDistances(*_between(surfaces, spacing_mm), *weights)


def _between(surfaces: list[np.ndarray], spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each element of one surface to the other, and of each of the other to the one, as memory has them."""
    spacing = np.asarray(spacing_mm, dtype=float)
    padded = [np.pad(surface, NEAR).ravel() for surface in surfaces]
    strides = np.cumprod([1, *(n + 2 * NEAR for n in surfaces[0].shape[:0:-1])])[::-1]
    places = [np.flatnonzero(surface) for surface in padded]
    steps = _steps(spacing, strides)

    def points(at: np.ndarray) -> np.ndarray:
        return np.stack([at // strides[0], at % strides[0] // strides[1], at % strides[1]], 1) * spacing

    found = []
    for one, other in ((0, 1), (1, 0)):
        distances, far = _near(places[one], padded[other], steps)
        if far.size:
            tree = cKDTree(points(places[other]), balanced_tree=False, compact_nodes=False)
            distances[far] = tree.query(points(places[one][far]), workers=-1)[0]
        found.append(distances)
    return found[0], found[1]


def _near(places: np.ndarray, other: np.ndarray, steps: dict[float, list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Distances to elements of the other surface a few voxels away, and which places have none there."""
    distances = np.zeros(len(places))
    left = np.arange(len(places))
    for length, offsets in steps.items():
        if not left.size:
            break
        hit = other[places[left] + offsets[0]]
        for offset in offsets[1:]:
            hit |= other[places[left] + offset]
        distances[left[hit]] = length
        left = left[~hit]
    return distances, left


def _steps(spacing_mm: np.ndarray, strides: np.ndarray) -> dict[float, list[int]]:
    """Ways to places up to NEAR voxels away, shortest first: length in mm, and steps in memory of that length."""
    steps: dict[float, list[int]] = {}
    for offset in itertools.product(range(-NEAR, NEAR + 1), repeat=3):
        length = float(np.linalg.norm(np.array(offset) * spacing_mm))
        if length < (NEAR + 1) * spacing_mm.min():  # no shorter one leads farther away
            steps.setdefault(length, []).append(int(np.dot(offset, strides)))
    return dict(sorted(steps.items()))


def _percentile(distances: np.ndarray, areas: np.ndarray | None, percent: float) -> float:
    if areas is None:
        return float(np.percentile(distances, percent))
    order = np.argsort(distances)
    cumulative = np.cumsum(areas[order])
    place = np.searchsorted(cumulative / cumulative[-1], percent / 100)
    return float(distances[order][min(int(place), len(order) - 1)])


def _sum(values: np.ndarray, areas: np.ndarray | None) -> tuple[float, float]:
    """Sum of values weighed by area, and of the areas."""
    if areas is None:
        return float(values.sum()), float(values.size)
    return float((values * areas).sum()), float(areas.sum())
