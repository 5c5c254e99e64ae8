"""A head in a nutshell: a label map of ellipsoids with values of the set `generation`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (40, 48, 40)
SEMI_AXES = {511: (19, 23, 19), 515: (17, 21, 17), 24: (15, 19, 15), 3: (13, 17, 13), 2: (10, 14, 10), 4: (4, 6, 4)}
RIGHT = {3: 42, 2: 41, 4: 43}


def head(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Skin, bone, CSF, cortex, white matter, ventricle, and a putamen a side; axes run to R, A, S."""
    i, j, k = np.indices(shape)
    centre = (np.array(shape) - 1) / 2
    x, y, z = i - centre[0], j - centre[1], k - centre[2]
    values = np.zeros(shape, dtype=np.int16)
    for value, (a, b, c) in SEMI_AXES.items():
        values[(x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 <= 1] = value
    for value, right in RIGHT.items():
        values[(values == value) & (x > 0)] = right
    values[(abs(x + 7) <= 2) & (abs(y - 3) <= 3) & (abs(z) <= 2)] = 12  # left: negative x
    values[(abs(x - 7) <= 2) & (abs(y - 3) <= 3) & (abs(z) <= 2)] = 51
    return values


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file with 1 mm voxels about the origin, unless an affine is given."""
    if affine is None:
        affine = np.eye(4)
        affine[:3, 3] = -(np.array(voxels.shape[:3]) - 1) / 2
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path
