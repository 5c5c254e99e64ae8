"""From probabilities on the network's grid to labels on the scan's own grid, one block at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
import torch

from phantomseg.image.grid import Grid, content_slices, contiguous
from phantomseg.image.image import Image
from phantomseg.inference.prepare import Prepared
from phantomseg.labels import LabelSet

LEAST_PROBABILITY = 0.02  # a class that stays below it in a whole block is left out there
BLOCK_VOXELS = 48


def restore(probabilities: torch.Tensor, prepared: Prepared, labels: LabelSet) -> Image:
    """Label map with the scan's shape, affine and header.

    In each block of the scan, the probabilities of the classes found there are brought to the scan's grid
    (trilinear), and the highest wins; classes × voxels of the scan are never held.

    Args:
        probabilities: (C, I, J, K) on the network's grid.
        prepared: the scan's way to that grid.
        labels: set of the channels.
    """
    return onto_scan(label_values(probabilities, prepared.grid, prepared.canonical, labels), prepared.scan)


def label_values(probabilities: torch.Tensor, grid: Grid, onto: Grid, labels: LabelSet) -> np.ndarray:
    """Ids of the most probable labels on another grid with the same axes, uint8 or int16."""
    places = places_on(grid, onto)
    inside = [_inside(place, size) for place, size in zip(places, grid.shape, strict=True)]
    smallest = labels.ids.astype(np.uint8 if labels.ids.max() < 256 else np.int16)
    values = np.zeros(onto.shape, dtype=smallest.dtype)  # outside the network's grid there is background
    for block in _blocks(inside):
        near = [place[s] for place, s in zip(places, block, strict=True)]
        values[block] = smallest[_most_probable(probabilities, near)]
    return values


def restored_probability(probability: torch.Tensor, prepared: Prepared, outside: float) -> np.ndarray:
    """Probability of one label (I, J, K) on the scan's own grid, float32, `outside` where the network did not look."""
    return restored(probability, prepared, outside).clip(0, 1)  # tiles add up to 1.002 at most


def restored(field: torch.Tensor, prepared: Prepared, outside: float) -> np.ndarray:
    """Values (I, J, K) of the network's grid on the scan's own, float32, `outside` where the network did not look."""
    box = content_slices((field != outside).numpy(), margin=1)  # a voxel farther, all is `outside`
    near = field[box]
    places = [place - s.start for place, s in zip(places_on(prepared.grid, prepared.canonical), box, strict=True)]
    inside = [_inside(place, size) for place, size in zip(places, near.shape, strict=True)]
    value = _interpolated(near[None].float(), [place[slice(*ends)] for place, ends in zip(places, inside, strict=True)])
    voxels = np.full(prepared.canonical.shape, outside, dtype=np.float32)
    voxels[tuple(slice(*ends) for ends in inside)] = value[0].numpy()
    return onto_scan(voxels, prepared.scan).voxels


def places_on(grid: Grid, onto: Grid) -> list[np.ndarray]:
    """Where the voxels of `onto` lie along each axis of `grid`, in voxels: the map is a factor and a shift an axis."""
    to_grid = np.linalg.inv(grid.affine) @ onto.affine
    return [to_grid[axis, axis] * np.arange(n) + to_grid[axis, 3] for axis, n in enumerate(onto.shape)]


def _most_probable(probabilities: torch.Tensor, places: list[np.ndarray]) -> np.ndarray:
    """Channel of the highest probability at the grid of `places`, one ascending list an axis."""
    low = [int(max(np.floor(place[0]), 0)) for place in places]
    box = tuple(slice(a, int(np.ceil(place[-1])) + 1) for a, place in zip(low, places, strict=True))
    near = probabilities[(slice(None), *box)]
    present = (near.flatten(1).amax(1) > LEAST_PROBABILITY).nonzero()[:, 0]
    if len(present) < 2:
        return np.full([len(place) for place in places], int(present[0]) if len(present) else 0, dtype=np.uint8)
    from_box = [place - start for place, start in zip(places, low, strict=True)]
    value = _interpolated(near.index_select(0, present).float(), from_box)
    return highest(value, present.tolist()).numpy()


def highest(values: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """Channel of the highest of the values (C, ...), the first one among equals, uint8; argmax strides over memory.

    >>> highest(torch.tensor([[0.5, 0.2], [0.5, 0.3]]), [4, 7]).tolist()
    [4, 7]
    """
    best, chosen = values[0], torch.full(values.shape[1:], channels[0], dtype=torch.uint8)
    for channel, candidate in zip(channels[1:], values[1:], strict=True):
        chosen.masked_fill_(candidate > best, channel)
        best = torch.maximum(best, candidate)
    return chosen


def _interpolated(value: torch.Tensor, places: list[np.ndarray]) -> torch.Tensor:
    """Values (C, I, J, K) at the grid of the places, linear, nearest beyond the border."""
    for axis, place in reversed(list(enumerate(places, start=1))):  # along memory first, while there is little of it
        value = _interpolate(value, axis, place)
    return value


def _interpolate(value: torch.Tensor, axis: int, place: np.ndarray) -> torch.Tensor:
    """Values at the places along one axis, linear, nearest beyond the border."""
    size = value.shape[axis]
    at = torch.from_numpy(np.clip(place, 0, size - 1))
    low = at.floor().long().clamp(max=max(size - 2, 0))
    weight = (at - low).float()
    if len(low) == size and torch.equal(at, torch.arange(size, dtype=at.dtype)):
        return value
    shape = [1] * value.ndim
    shape[axis] = -1
    upper = value.index_select(axis, (low + 1).clamp(max=size - 1))
    return torch.lerp(value.index_select(axis, low), upper, weight.view(shape))


def _inside(place: np.ndarray, size: int) -> tuple[int, int]:
    """First index, and one past the last, whose place lies in the network's grid."""
    found = np.flatnonzero((place > -0.5) & (place < size - 0.5))
    return (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)


def _blocks(ranges: list[tuple[int, int]]) -> Iterator[tuple[slice, ...]]:
    """Blocks that share out the ranges of the three axes."""
    starts = [range(low, high, BLOCK_VOXELS) for low, high in ranges]
    ends = [high for _, high in ranges]
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + BLOCK_VOXELS, end)) for a, end in zip(corner, ends, strict=True))


def onto_scan(values: np.ndarray, scan: Image) -> Image:
    """Values along canonical axes, back along the axes of the scan."""
    to_canonical = nib.orientations.io_orientation(scan.affine)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to_canonical)
    return scan.with_voxels(contiguous(nib.orientations.apply_orientation(values, back)))
