"""Overlapping tiles of a volume, blended by Gaussian weights that add up to 1 in every voxel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.network.volume import Block

OVERLAP_VOXELS = 64  # at least, between neighbours
SIGMA = 0.125  # of the tile's length, as in sliding windows elsewhere


def fitting(shape: np.ndarray, multiple: int) -> np.ndarray:
    """Smallest shape around another that a network takes.

    At least two voxels are left at its coarsest level: one has no spread to normalise by.

    >>> fitting(np.array([1, 32, 33]), 16)
    array([32, 32, 48])
    """
    counts: np.ndarray = np.maximum(-(-shape // multiple), 2)
    return counts * multiple


@dataclass(frozen=True)
class Tiles:
    """Tiles of `size` voxels that cover a volume of `shape` voxels; all ends are multiples of `multiple`."""

    shape: tuple[int, int, int]
    size: tuple[int, int, int]
    multiple: int

    def __iter__(self) -> Iterator[Block]:
        starts = [self._starts(axis) for axis in range(3)]
        for i, j, k in itertools.product(*starts):
            corner = zip((i, j, k), self.size, strict=True)
            a, b, c = (slice(low, low + length) for low, length in corner)
            yield a, b, c

    def __len__(self) -> int:
        counts = [len(self._starts(axis)) for axis in range(3)]
        return counts[0] * counts[1] * counts[2]

    def weight(self, block: Block) -> torch.Tensor:
        """Weight of each voxel of one tile, float32, shape `size`.

        >>> tiles = Tiles((192, 16, 16), (128, 16, 16), 16)
        >>> first, second = (tiles.weight(block)[:, 0, 0] for block in tiles)
        >>> first[0].item(), round((first[100] + second[36]).item(), 6)
        (1.0, 1.0)
        """
        along = [self._along(axis, s.start) for axis, s in enumerate(block)]
        return along[0][:, None, None] * along[1][None, :, None] * along[2][None, None]

    def _starts(self, axis: int) -> list[int]:
        size, length = self.shape[axis], self.size[axis]
        if length >= size:
            return [0]
        overlap = min(OVERLAP_VOXELS, length // 2)
        count = -(-(size - overlap) // (length - overlap))
        places = [round(n * (size - length) / (count - 1) / self.multiple) * self.multiple for n in range(count)]
        return sorted(set(places))

    def _along(self, axis: int, start: int) -> torch.Tensor:
        """Share of the tile that begins at `start` in each of its places along an axis."""
        length = self.size[axis]
        place = torch.arange(self.shape[axis])[:, None] - torch.tensor(self._starts(axis))[None]  # (size, tiles)
        inside = (place >= 0) & (place < length)
        bell = torch.exp(-0.5 * ((place - (length - 1) / 2) / (SIGMA * length)) ** 2).clamp(min=1e-4) * inside
        share = bell / bell.sum(1, keepdim=True)
        return share[start : start + length, self._starts(axis).index(start)]
