"""The same scan as if it had been acquired otherwise: thicker slices, another contrast, another scanner."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from phantomseg.image.image import Image
from phantomseg.image.separable import smooth_noise

SIGMA_A_FWHM = 2.355


def inverted(scan: Image) -> Image:
    """Maximum minus value wherever it is above 0; the background of stripped scans stays 0."""
    inside = scan.voxels > 0
    return scan.with_voxels(np.where(inside, scan.voxels.max() - scan.voxels, 0).astype(np.float32))


def thickened(scan: Image, axis: int, thick_mm: float = 5.0) -> Image:
    """What a scan with thick slices along a voxel axis would have measured, linearly back on the grid."""
    spacing = scan.spacing_mm[axis]
    sigma = np.zeros(3)
    sigma[axis] = thick_mm / spacing / SIGMA_A_FWHM
    blurred = ndimage.gaussian_filter(scan.voxels, sigma)
    count = scan.shape[axis]
    at = np.arange(0, count, thick_mm / spacing)
    where = np.arange(count) * spacing / thick_mm
    low = np.clip(np.floor(where).astype(int), 0, len(at) - 1)
    high = np.clip(low + 1, 0, len(at) - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = (where - low).clip(0, 1).reshape(shape).astype(np.float32)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, count - 1)
    share = (at - before).reshape(shape).astype(np.float32)
    slices = np.take(blurred, before, axis=axis) * (1 - share) + np.take(blurred, after, axis=axis) * share
    back = np.take(slices, low, axis=axis) * (1 - weight) + np.take(slices, high, axis=axis) * weight
    return scan.with_voxels(back.astype(np.float32))


def gained(scan: Image, seed: int, log_std: float = 0.3) -> Image:
    """Times a smooth gain that varies over 60 mm."""
    rng = np.random.default_rng(seed)
    field = smooth_noise(rng, scan.shape, 60 / float(scan.spacing_mm.mean()), torch.device("cpu"))
    return scan.with_voxels((scan.voxels * np.exp(log_std * field.numpy())).astype(np.float32))


def noisy(scan: Image, seed: int, share: float = 0.05) -> Image:
    """Plus Gaussian noise, relative to the brightest tissue; the border of stripped scans stays 0."""
    level = share * np.percentile(scan.voxels, 99.5)
    noise = level * np.random.default_rng(seed).standard_normal(scan.shape)
    return scan.with_voxels(np.where(scan.voxels > 0, scan.voxels + noise, 0).clip(0).astype(np.float32))


def acquisitions(scan: Image) -> tuple[Image, Image]:
    """The same head from two simulated scanners: other gain, noise, contrast curve and sharpness."""
    first = noisy(gained(scan, 11, 0.2), 12, 0.02)
    top = float(scan.voxels.max())
    curve = scan.with_voxels((top * (scan.voxels / top).clip(0) ** 0.8).astype(np.float32))
    soft = curve.with_voxels(ndimage.gaussian_filter(curve.voxels, 0.5))
    return first, noisy(gained(soft, 13, 0.2), 14, 0.03)
