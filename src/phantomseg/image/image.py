"""Where a voxel is: an array and the affine that places it in the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from phantomseg.errors import GeometryError
from phantomseg.image.finding import Finding


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels, shape (I, J, K), with the affine from voxel index to world R, A, S in mm.

    `header` is the file's own header, kept so that what is written has the same codes and units; `findings` is what
    was doubtful when the file was read.
    """

    voxels: np.ndarray
    affine: np.ndarray
    header: Any = field(default=None, repr=False)
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise GeometryError(f"image has shape {self.voxels.shape}, wanted three axes; select one volume")
        check_affine(self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between voxel centres along each axis, in mm, shape (3,).

        >>> Image(np.zeros((2, 2, 2)), np.diag([1, 2, 3, 1])).spacing_mm.tolist()
        [1.0, 2.0, 3.0]
        """
        return spacing_mm(self.affine)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_voxels(self, voxels: np.ndarray) -> Image:
        """The same grid with other voxels."""
        if voxels.shape != self.shape:
            raise GeometryError(f"voxels have shape {voxels.shape}, the grid has {self.shape}; resample first")
        return Image(voxels, self.affine, self.header)


def spacing_mm(affine: np.ndarray) -> np.ndarray:
    """Lengths of the affine's columns, in mm, shape (3,)."""
    return np.sqrt((np.asarray(affine, dtype=float)[:3, :3] ** 2).sum(0))


def check_affine(affine: np.ndarray) -> None:
    """Reject affines that place no voxel.

    Raises:
        GeometryError: wrong shape, not finite, or singular.
    """
    affine = np.asarray(affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise GeometryError("affine is not a finite 4 × 4 matrix; repair the header of the scan")
    spacing = spacing_mm(affine)
    if (spacing < 1e-3).any():
        raise GeometryError(
            f"voxel size is {tuple(np.round(spacing, 4).tolist())} mm, wanted more than 0 along each axis; "
            "repair the header of the scan"
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise GeometryError("affine is singular (two voxel axes are parallel); repair the header of the scan")
