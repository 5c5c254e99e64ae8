"""Reorient, resample, crop and pad; affines follow."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch

from phantomseg.image.image import Image, spacing_mm
from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix

SLAB = 16  # voxels copied at once along the last axis
COARSER = 1.05  # old voxels a new one, from which on an axis is blurred first


def canonical(image: Image) -> Image:
    """Axes permuted and flipped to run towards right, anterior, superior; no interpolation.

    >>> image = Image(np.zeros((2, 3, 4)), np.diag([-1, 1, 1, 1]))
    >>> canonical(image).affine[0, 0]
    np.float64(1.0)
    """
    transform = nib.orientations.io_orientation(image.affine)
    voxels = nib.orientations.apply_orientation(image.voxels, transform)
    affine = image.affine @ nib.orientations.inv_ornt_aff(transform, image.shape)
    return Image(contiguous(voxels), affine)


def contiguous(voxels: np.ndarray) -> np.ndarray:
    """The voxels in order of memory; copied slab by slab, which caches like better than line by line.

    >>> contiguous(np.zeros((2, 3, 4), order="F")).flags.c_contiguous
    True
    """
    if voxels.flags.c_contiguous:
        return voxels
    ordered = np.empty(voxels.shape, voxels.dtype)
    for low in range(0, voxels.shape[-1], SLAB):
        ordered[..., low : low + SLAB] = voxels[..., low : low + SLAB]
    return ordered


def resample(image: Image, new_spacing_mm: float = 1.0, tolerance_mm: float = 0.05, order: int = 1) -> Image:
    """Image at isotropic spacing, covering the same field of view; left alone within the tolerance.

    Axes that lose resolution are blurred first (Gaussian, sigma a quarter of new over old spacing, in voxels).
    `order=0` (nearest, no blur) is for label maps.
    """
    grid = resampled_grid(image, new_spacing_mm, tolerance_mm)
    if grid.affine is image.affine:
        return image
    return resample_box(image, grid, np.zeros(3, dtype=int), np.array(grid.shape), order)


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and affine of an image without its voxels."""

    shape: tuple[int, int, int]
    affine: np.ndarray


def resampled_grid(image: Image | Grid, new_spacing_mm: float, tolerance_mm: float = 0.05) -> Grid:
    """The grid of isotropic spacing whose outer faces lie, about a common centre, nearest to the image's."""
    spacing = spacing_mm(image.affine)
    if (np.abs(spacing - new_spacing_mm) <= tolerance_mm).all():
        return Grid(image.shape, image.affine)
    step = new_spacing_mm / spacing  # old voxels a new voxel
    i, j, k = (max(1, round(n / s)) for n, s in zip(image.shape, step, strict=True))
    scale = np.diag([*step, 1.0])
    scale[:3, 3] = (np.array(image.shape) - 1) / 2 - step * (np.array([i, j, k]) - 1) / 2
    return Grid((i, j, k), image.affine @ scale)


def resample_box(
    image: Image, grid: Grid, low: np.ndarray, high: np.ndarray, order: int = 1, outside: float = 0.0
) -> Image:
    """The voxels `low` up to and without `high` of a grid whose axes are the image's; `outside` beyond the grid.

    Blur and interpolation of one axis are one small matrix, so nothing is computed, or held, beside the box.
    """
    to_old = np.linalg.inv(image.affine) @ grid.affine
    step = to_old[:3, :3].diagonal()
    inner = [(max(int(a), 0), min(int(b), n)) for a, b, n in zip(low, high, grid.shape, strict=True)]
    if np.allclose(to_old[:3, :3], np.eye(3)) and np.allclose(to_old[:3, 3].round(), to_old[:3, 3], atol=1e-6):
        shift = to_old[:3, 3].round().astype(int)
        return crop(image, np.asarray(low) + shift, np.asarray(high) + shift, outside)
    places = [to_old[a, a] * np.arange(*ends) + to_old[a, 3] for a, ends in enumerate(inner)]
    if order == 0:
        nearest = [np.clip(np.floor(p + 0.5), 0, n - 1).astype(int) for p, n in zip(places, image.shape, strict=True)]
        voxels = image.voxels[np.ix_(*nearest)]
    else:
        matrices = [_sampling(p, n, s) for p, n, s in zip(places, image.shape, step, strict=True)]
        volume = torch.from_numpy(np.asarray(image.voxels, dtype=np.float32))
        voxels = apply_along_axes(volume[None, None], matrices)[0, 0].numpy()
    beyond = [(a - int(lo), int(hi) - b) for (a, b), lo, hi in zip(inner, low, high, strict=True)]
    voxels = np.pad(voxels, beyond, constant_values=outside)
    origin = np.eye(4)
    origin[:3, 3] = low
    return Image(voxels, grid.affine @ origin)


def _sampling(places: np.ndarray, count: int, step: float) -> torch.Tensor:
    """Matrix (1, new, old) that blurs an axis of `count` voxels, where it gets coarser, and samples it."""
    blur = gaussian_matrix(count, 0.25 * step if step > COARSER else 0.0)
    return (interpolation_matrix(torch.from_numpy(places), torch.arange(count)) @ blur)[None]


def crop(image: Image, low: np.ndarray, high: np.ndarray, outside: float = 0.0) -> Image:
    """Voxels from index `low` up to and without `high`; indices outside the grid hold `outside`."""
    low, high = np.asarray(low, dtype=int), np.asarray(high, dtype=int)
    shape = np.array(image.shape)
    inner_low, inner_high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    inner = image.voxels[tuple(slice(a, b) for a, b in zip(inner_low, inner_high, strict=True))]
    beyond = list(zip(inner_low - low, high - inner_high, strict=True))
    voxels = np.pad(inner, beyond, constant_values=outside)
    shift = np.eye(4)
    shift[:3, 3] = low
    return Image(voxels, image.affine @ shift)


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


def content_slices(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Slices of the box around the true voxels, with a margin as far as the grid reaches.

    >>> mask = np.zeros((4, 4, 4), bool); mask[1:3, 2, 0:2] = True
    >>> mask[content_slices(mask)].shape, mask[content_slices(mask, 1)].shape
    ((2, 1, 2), (4, 3, 3))
    """
    low, high = content_box(mask)
    return tuple(
        slice(max(a - margin, 0), min(b + margin, size)) for a, b, size in zip(low, high, mask.shape, strict=True)
    )
