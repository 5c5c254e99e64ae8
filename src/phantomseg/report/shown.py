"""A scan and its labels as a page shows them: turned upright, cut to the content, made coarse enough to embed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from phantomseg.errors import GeometryError, LabelError
from phantomseg.image.grid import canonical, content_box
from phantomseg.image.image import Image
from phantomseg.image.intensity import is_tomography, windowed
from phantomseg.labels import LabelSet

MOST_VOXELS = 6_000_000
DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles, the one of all voxels, the other of what is labelled
BRAIN_WINDOW_HU = (-40.0, 120.0)
DARK = 0.08  # share of the range of values below which a voxel is taken for air
ENOUGH = 8_000_000  # voxels, of which the content can be told
FEW = 0.004  # share of bright voxels below which a slice is taken for air


@dataclass(frozen=True, eq=False)
class Shown:
    """Grey values and channels of a label set, both 8 bits, shape (I, J, K), axes to right, anterior, superior.

    `low` and `high` are the scan's values at grey 0 and 255; what lies outside `window` is best shown black or white.
    """

    grey: np.ndarray
    channels: np.ndarray
    affine: np.ndarray  # from index to world, in mm
    to_file: np.ndarray  # from index to the voxel of the scan's own grid
    low: float
    high: float
    window: tuple[float, float]
    unit: str  # "HU", or "" where it is not known

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between voxel centres along each axis, shape (3,)."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(0)))


def shown(
    scan: Image, labels_image: Image, labels: LabelSet, ct: bool | None = None, most_voxels: int = MOST_VOXELS
) -> Shown:
    """Bring a scan and its label map to at most so many voxels; an axis coarser than the others stays as it is.

    Args:
        scan: any grid; computed tomography is windowed to soft tissue.
        labels_image: ids of `labels` on the grid of the scan; unknown ids count as background.
        labels: at most 256.
        ct: whether the scan is computed tomography; by default, values tell.
        most_voxels: of the result.

    Raises:
        GeometryError: the two have different shapes.
        LabelError: too many labels for 8 bits.
    """
    if scan.shape != labels_image.shape:
        raise GeometryError(f"label map has shape {labels_image.shape}, the scan {scan.shape}; give both on one grid")
    if len(labels) > 256:
        raise LabelError(f"label set {labels.name} has {len(labels)} labels, a page shows at most 256; merge some")
    upright, ids = canonical(scan), canonical(scan.with_voxels(labels_image.voxels)).voxels
    ct = is_tomography(upright.voxels) if ct is None else ct
    low, high = _range(windowed(_regular_subset(upright.voxels), ct), _regular_subset(ids) > 0)
    box_low, box_high = _content(upright.voxels, ids, low + DARK * (high - low))
    inside = tuple(slice(a, b) for a, b in zip(box_low, box_high, strict=True))
    shape = _fewer(box_high - box_low, upright.spacing_mm, most_voxels)
    affine = upright.affine @ _step(box_low, box_high, shape)
    return Shown(
        grey=_shrink(_eight_bits(upright.voxels[inside], low, high), shape),
        channels=labels.index_of_ids(_nearest(ids[inside], shape)).clip(min=0).astype(np.uint8),
        affine=affine,
        to_file=np.linalg.inv(scan.affine) @ affine,
        low=low,
        high=high,
        window=BRAIN_WINDOW_HU if ct else (low, high),
        unit="HU" if ct else "",
    )


def _regular_subset(voxels: np.ndarray) -> np.ndarray:
    """About half a million voxels; an odd step does not fall in with the even sizes of volumes."""
    return np.asarray(voxels.reshape(-1)[:: (voxels.size // 2**19) | 1])


def _range(values: np.ndarray, labelled: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, DARKEST), np.percentile(values[labelled] if labelled.any() else values, BRIGHTEST)
    return float(low), float(high) if high > low else float(low) + 1.0


def _content(voxels: np.ndarray, ids: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Box of what is bright or labelled, with a margin; specks in the air do not count."""
    step = max(1, round((voxels.size / ENOUGH) ** (1 / 3)))
    bright = voxels[::step, ::step, ::step] > threshold
    low, high = content_box(ids > 0) if (ids > 0).any() else (np.array(voxels.shape), np.zeros(3, dtype=int))
    for axis in range(3):
        share = bright.mean(axis=tuple({0, 1, 2} - {axis}))
        hits = np.flatnonzero(share > FEW)
        if hits.size:
            low[axis], high[axis] = min(low[axis], hits[0] * step), max(high[axis], hits[-1] * step + 1)
    margin = step + 1
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, voxels.shape)
    return (low, high) if (low < high).all() else (np.zeros(3, dtype=int), np.array(voxels.shape))


def _fewer(shape: np.ndarray, spacing_mm: np.ndarray, most_voxels: int) -> tuple[int, int, int]:
    """Shape with the finest axes made coarser together until there are few enough voxels.

    >>> _fewer(np.array([200, 200, 10]), np.array([1.0, 1.0, 5.0]), 100_000)
    (100, 100, 10)
    """
    extent_mm, finest_mm = shape * spacing_mm, float(spacing_mm.min())
    coarser = np.asarray(shape, dtype=int)
    while coarser.prod() > most_voxels:
        finest_mm *= 1.01
        coarser = np.maximum(np.round(extent_mm / np.maximum(spacing_mm, finest_mm)), 1).astype(int)
    i, j, k = coarser.tolist()
    return i, j, k


def _step(low: np.ndarray, high: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Matrix from index in the result to index before it; the outer faces of both boxes coincide."""
    step = (high - low) / shape
    matrix = np.diag([*step, 1.0])
    matrix[:3, 3] = low + (step - 1) / 2
    return matrix


def _eight_bits(voxels: np.ndarray, low: float, high: float) -> np.ndarray:
    grey = np.empty(voxels.shape, np.uint8)
    for place, slice_ in enumerate(voxels):  # one by one, as a copy of the whole would be large
        grey[place] = np.round(((slice_.astype(np.float32) - low) * (255 / (high - low))).clip(0, 255))
    return grey


def _shrink(grey: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Averages over the voxels that fall into each new one."""
    for axis in range(3):
        if grey.shape[axis] != shape[axis]:
            rows = np.moveaxis(grey, axis, 0)
            flat = Picture.fromarray(np.ascontiguousarray(rows.reshape(len(rows), -1)))
            small = flat.resize((flat.width, shape[axis]), Picture.Resampling.HAMMING)
            grey = np.moveaxis(np.asarray(small).reshape(shape[axis], *rows.shape[1:]), 0, axis)
    return np.ascontiguousarray(grey)


def _nearest(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    axes = [((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(values.shape, shape, strict=True)]
    return np.asarray(values[np.ix_(*axes)])
