"""How much surface passes between eight voxels, by which of them are inside.

A corner where eight voxels meet is an element of a mask's surface when some of the eight are inside and some are not.
Marching cubes (Lorensen and Cline 1987, doi:10.1145/37401.37422) says how much area passes there. Turned, mirrored and
inverted neighbourhoods have the same triangles, so thirteen of them stand for all 254.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

CORNERS = tuple(itertools.product((0, 1), repeat=3))
# voxels inside, as bits of 1 << (4 i + 2 j + k), and the area vector of each triangle, in eighths of a voxel's faces
TRIANGLES: dict[int, tuple[tuple[int, int, int], ...]] = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((4, 0, 0), (2, 2, 2), (1, 1, 1)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((1, 1, 1), (3, 3, 3), (0, 2, 2), (2, 0, 2)),
    0b00011110: ((4, 0, 0), (1, 1, 1), (2, 2, 2), (1, 1, 1)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}


def neighbourhoods(mask: np.ndarray) -> np.ndarray:
    """Which of its eight voxels are inside, for each corner of a boolean mask; bits as in TRIANGLES, uint8.

    Outside the volume nothing is inside, so the result is one larger along each axis.

    >>> neighbourhoods(np.ones((1, 1, 1), bool)).ravel().tolist()
    [128, 64, 32, 16, 8, 4, 2, 1]
    """
    codes: np.ndarray = np.pad(mask, 1).view(np.uint8)
    codes = codes[:, :, :-1] | codes[:, :, 1:] << 1
    codes = codes[:, :-1] | codes[:, 1:] << 2
    return codes[:-1] | codes[1:] << 4


def corner_areas_mm2(spacing_mm: np.ndarray) -> np.ndarray:
    """Area of the surface at a corner for each neighbourhood, shape (256,).

    >>> corner_areas_mm2(np.ones(3))[[0, 1, 15, 255]].round(4).tolist()
    [0.0, 0.2165, 1.0, 0.0]
    """
    i, j, k = np.asarray(spacing_mm, dtype=float)
    vectors = _vectors() * np.array([j * k, i * k, i * j])
    areas: np.ndarray = np.linalg.norm(vectors, axis=-1).sum(-1)
    return areas


@cache
def _vectors() -> np.ndarray:
    """Area vectors of all neighbourhoods, in faces of a voxel, shape (256, 4, 3)."""
    table = np.zeros((256, 4, 3))
    for code, triangles in TRIANGLES.items():
        inside = [corner for bit, corner in enumerate(CORNERS) if code >> bit & 1]
        for order in itertools.permutations(range(3)):
            vectors = [[vector[axis] / 8 for axis in order] for vector in triangles]
            for mirror in CORNERS:
                moved = [tuple(corner[axis] ^ m for axis, m in zip(order, mirror, strict=True)) for corner in inside]
                found = sum(1 << CORNERS.index(corner) for corner in moved)
                for same in (found, 255 - found):
                    table[same, : len(vectors)] = vectors
    return table
