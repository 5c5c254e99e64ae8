"""From probabilities on the network's grid to labels on the scan's own grid, one class at a time."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch

from phantomseg.image.grid import content_box
from phantomseg.image.image import Image
from phantomseg.inference.prepare import Prepared
from phantomseg.labels import LabelSet

LEAST_PROBABILITY = 0.02  # a class is looked at only in the box where it exceeds this


def restore(probabilities: torch.Tensor, prepared: Prepared, labels: LabelSet) -> Image:
    """Label map with the scan's shape, affine and header.

    Each class's probability is brought to the scan's grid (trilinear) within its own box, and a running maximum
    decides; classes × voxels of the scan are never held.

    Args:
        probabilities: (C, I, J, K) on the network's grid.
        prepared: the scan's way to that grid.
        labels: set of the channels.
    """
    shape = prepared.canonical.image.shape
    to_grid = np.linalg.inv(prepared.cropped.image.affine) @ prepared.canonical.image.affine
    # the grids share their axes, so the map is a factor and a shift an axis
    places = [to_grid[axis, axis] * np.arange(n) + to_grid[axis, 3] for axis, n in enumerate(shape)]
    best = torch.full(shape, 0.5, dtype=torch.float32)  # outside the network's grid nothing beats background
    chosen = torch.zeros(shape, dtype=torch.uint8)
    seen = tuple(_seen(place, size) for place, size in zip(places, probabilities.shape[1:], strict=True))
    best[seen] = _interpolate(probabilities[0].float(), [p[s] for p, s in zip(places, seen, strict=True)])
    for channel in range(1, len(probabilities)):
        found = (probabilities[channel] > LEAST_PROBABILITY).numpy()
        if not found.any():
            continue
        low, high = content_box(found)
        low, high = np.maximum(low - 1, 0), np.minimum(high + 1, found.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        target = tuple(_between(place, a, b) for place, a, b in zip(places, low, high, strict=True))
        local = [place[t] - a for place, t, a in zip(places, target, low, strict=True)]
        value = _interpolate(probabilities[channel][box].float(), local)
        better = value > best[target]
        best[target] = torch.where(better, value, best[target])
        chosen[target] = torch.where(better, torch.tensor(channel, dtype=torch.uint8), chosen[target])
    return _onto_scan(labels.ids[chosen.numpy()], prepared.scan)


def _onto_scan(values: np.ndarray, scan: Image) -> Image:
    """Label values with canonical axes, back along the axes of the scan."""
    smallest = np.uint8 if values.max(initial=0) < 256 else np.int16
    to_canonical = nib.orientations.io_orientation(scan.affine)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to_canonical)
    voxels = nib.orientations.apply_orientation(values.astype(smallest), back)
    return scan.with_voxels(np.ascontiguousarray(voxels))


def _seen(place: np.ndarray, size: int) -> slice:
    inside = np.flatnonzero((place > -0.5) & (place < size - 0.5))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


def _between(place: np.ndarray, low: int, high: int) -> slice:
    """Indices whose place lies on or between the first and the last voxel of a box."""
    inside = np.flatnonzero((place >= low - 0.5) & (place <= high - 0.5))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


def _interpolate(volume: torch.Tensor, places: list[np.ndarray]) -> torch.Tensor:
    """Values at the grid of `places` (ascending, one list an axis), trilinear, nearest beyond the border."""
    for axis, place in enumerate(places):
        size = volume.shape[axis]
        at = torch.from_numpy(np.clip(place, 0, size - 1))
        low = at.floor().long().clamp(max=max(size - 2, 0))
        weight = (at - low).float()
        if not weight.any() and len(low) == size:
            continue
        shape = [1, 1, 1]
        shape[axis] = -1
        upper = volume.index_select(axis, (low + 1).clamp(max=size - 1))
        volume = torch.lerp(volume.index_select(axis, low), upper, weight.view(shape))
    return volume
