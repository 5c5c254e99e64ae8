"""Reorient, resample, crop and pad; each change of grid knows its way back."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from phantomseg.image.image import Image


@dataclass(frozen=True, eq=False)
class Placed:
    """An image on a new grid, with the matrix from old voxel indices to new ones."""

    image: Image
    old_shape: tuple[int, int, int]
    old_affine: np.ndarray

    @property
    def old_to_new(self) -> np.ndarray:
        """Matrix from old voxel index to new voxel index, shape (4, 4)."""
        return np.asarray(np.linalg.inv(self.image.affine) @ self.old_affine)


def canonical(image: Image) -> Placed:
    """Axes permuted and flipped to run towards right, anterior, superior; no interpolation.

    >>> image = Image(np.zeros((2, 3, 4)), np.diag([-1, 1, 1, 1]))
    >>> canonical(image).image.affine[0, 0]
    np.float64(1.0)
    """
    transform = nib.orientations.io_orientation(image.affine)
    voxels = nib.orientations.apply_orientation(image.voxels, transform)
    affine = image.affine @ nib.orientations.inv_ornt_aff(transform, image.shape)
    return Placed(Image(np.ascontiguousarray(voxels), affine), image.shape, image.affine)


def resample(image: Image, new_spacing_mm: float = 1.0, tolerance_mm: float = 0.05, order: int = 1) -> Placed:
    """Image at isotropic spacing, covering the same field of view; left alone within the tolerance.

    Axes that lose resolution are blurred first (Gaussian, sigma a quarter of new over old spacing, in voxels).
    `order=0` (nearest, no blur) is for label maps.
    """
    spacing = image.spacing_mm
    if (np.abs(spacing - new_spacing_mm) <= tolerance_mm).all():
        return Placed(image, image.shape, image.affine)
    step = new_spacing_mm / spacing  # old voxels a new voxel
    shape = tuple(max(1, round(n / s)) for n, s in zip(image.shape, step, strict=True))
    scale = np.diag([*step, 1.0])
    # outer faces of the two fields of view coincide about their common centre
    scale[:3, 3] = (np.array(image.shape) - 1) / 2 - step * (np.array(shape) - 1) / 2
    voxels = image.voxels
    if order > 0:
        voxels = voxels.astype(np.float32)
        sigma = np.where(step > 1 + tolerance_mm, 0.25 * step, 0.0)
        voxels = ndimage.gaussian_filter(voxels, sigma)
    voxels = ndimage.affine_transform(
        voxels, scale[:3, :3].diagonal(), scale[:3, 3], shape, order=order, mode="nearest"
    )
    return Placed(Image(voxels, image.affine @ scale), image.shape, image.affine)


def crop(image: Image, low: np.ndarray, high: np.ndarray) -> Placed:
    """Voxels from index `low` up to and without `high`; indices outside the grid are padded with zeros."""
    low, high = np.asarray(low, dtype=int), np.asarray(high, dtype=int)
    shape = np.array(image.shape)
    inner_low, inner_high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    inner = image.voxels[tuple(slice(a, b) for a, b in zip(inner_low, inner_high, strict=True))]
    voxels = np.pad(inner, list(zip(inner_low - low, high - inner_high, strict=True)))
    shift = np.eye(4)
    shift[:3, 3] = low
    return Placed(Image(voxels, image.affine @ shift), image.shape, image.affine)


def content_box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest index and one past the highest index of the true voxels; the whole grid where there is none.

    >>> mask = np.zeros((4, 4, 4), bool); mask[1:3, 2, 0:2] = True
    >>> [corner.tolist() for corner in content_box(mask)]
    [[1, 2, 0], [3, 3, 2]]
    """
    if not mask.any():
        return np.zeros(3, dtype=int), np.array(mask.shape)
    low, high = [], []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        low.append(hits[0])
        high.append(hits[-1] + 1)
    return np.array(low), np.array(high)
