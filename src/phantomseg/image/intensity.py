"""Intensities on a common scale, the same function in training and in use."""

from __future__ import annotations

import math

import numpy as np
import torch

LOW, HIGH = 0.005, 0.995
AIR_HU = -900.0  # no other kind of scan goes down to here
SOFT_TISSUE_HU = (-150.0, 250.0)
LEAST_AIR, LEAST_SOFT = 0.01, 0.02  # shares of the voxels
MOST_ALONG = 64  # voxels along an axis that are looked at
MOST_VALUES = 2**16  # percentiles of a regular subset of voxels are as good, and quick


def rescale(image: torch.Tensor) -> torch.Tensor:
    """Image (B, 1, I, J, K) with its 0.5 and 99.5 percentiles at 0 and 1, clipped there.

    >>> rescale(torch.arange(1001.0).view(1, 1, 7, 11, 13)).amax().item()
    1.0
    """
    flat = image.flatten(1)
    step = -(-flat.shape[1] // MOST_VALUES)
    while any(math.gcd(step, size) > 1 for size in image.shape[2:]):
        step += 1  # a common factor would leave out whole planes
    subset = flat[:, ::step].float()
    low, high = (_quantile(subset, share)[:, None, None, None, None] for share in (LOW, HIGH))
    least = (1e-6 * torch.maximum(low.abs(), high.abs())).clamp(min=1e-30)  # of a constant image
    return (image - low).div_(torch.maximum(high - low, least)).clamp_(0, 1)


def _quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Quantile of each row (B, N), linear between two values, (B,): `torch.quantile`, which sorts all of them.

    >>> _quantile(torch.tensor([[0.0, 4.0, 3.0, 1.0]]), 0.75)
    tensor([3.2500])
    """
    count = values.shape[1]
    place = share * (count - 1)
    below = int(place)
    if share < 0.5:
        ends = values.topk(min(below + 2, count), largest=False).values[:, [below, min(below + 1, count - 1)]]
    else:
        ends = values.topk(count - below).values[:, [-1, max(-2, below - count)]]
    return ends[:, 0].lerp(ends[:, 1], place - below)


def rescaled(voxels: np.ndarray) -> np.ndarray:
    """The same of one array of voxels (I, J, K), float32.

    >>> rescaled(np.arange(1001.0).reshape(7, 11, 13)).max()
    np.float32(1.0)
    """
    image = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))
    scaled: np.ndarray = rescale(image[None, None])[0, 0].numpy()
    return scaled


def is_tomography(voxels: np.ndarray) -> bool:
    """Whether values are those of a head in Hounsfield units: some air, and soft tissue around that of water.

    >>> is_tomography(np.array([-1024.0, 30.0, 1500.0])), is_tomography(np.array([-1024.0, 3000.0, 1500.0]))
    (True, False)
    """
    some = voxels[tuple(slice(None, None, max(1, n // MOST_ALONG)) for n in voxels.shape)]
    soft = (some >= SOFT_TISSUE_HU[0]) & (some <= SOFT_TISSUE_HU[1])
    return bool((some <= AIR_HU).mean() >= LEAST_AIR and soft.mean() >= LEAST_SOFT)


def is_tomography_or_windowed(voxels: np.ndarray) -> bool:
    """The same, also of those that `windowed` has cut.

    >>> is_tomography_or_windowed(windowed(np.array([-1024.0, 30.0, 1500.0])))
    True
    """
    low, high = SOFT_TISSUE_HU
    return is_tomography(voxels) or bool(voxels.max() == high and voxels.min() == low)


def windowed(voxels: np.ndarray, ct: bool | None = None) -> np.ndarray:
    """Voxels of computed tomography in Hounsfield units cut to the window of soft tissue; others as they are.

    Between air and bone at once, all of the brain would be one grey. Unless `ct` says what the scan is, values do.

    >>> windowed(np.array([-1024.0, 30.0, 1500.0])).tolist()
    [-150.0, 30.0, 250.0]
    """
    return voxels.clip(*SOFT_TISSUE_HU) if (is_tomography(voxels) if ct is None else ct) else voxels
