"""A wrong header repaired in memory: the axes of the voxels declared anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.errors import GeometryError
from phantomseg.image.finding import Finding
from phantomseg.image.image import Image

MM, SPACE = 2, 7  # of the field xyzt_units
AXES = ("LR", "PA", "IS")  # towards below and above 0, for each axis of the world


def reoriented(scan: Image, axcodes: str) -> Image:
    """The same voxels, declared to run towards `axcodes`, about the same middle and at the same spacing.

    Args:
        scan: voxels stay as they are; what its affine says of directions is forgotten.
        axcodes: where the first, second and third voxel axis run to, of L or R, P or A, I or S each once.

    Raises:
        GeometryError: other codes.

    Where the codes are not those of the affine, a finding says so.

    >>> scan = reoriented(Image(np.zeros((3, 3, 3)), np.diag([2, 1, 1, 1])), "ALS")
    >>> scan.affine.tolist()
    [[0.0, -1.0, 0.0, 3.0], [2.0, 0.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    before = "".join(str(code) for code in nib.aff2axcodes(scan.affine))
    said = []
    if before != axcodes.upper():
        what = f"axes declared to run to {axcodes.upper()}, not to {before}: results have the declared affine"
        said.append(Finding("warning", what, "repair the file's header too, or they will not overlay"))
    affine = np.eye(4)
    affine[:3, :3] = _directions(axcodes) * scan.spacing_mm
    middle = (np.array(scan.shape) - 1) / 2
    affine[:3, 3] = scan.affine[:3, :3] @ middle + scan.affine[:3, 3] - affine[:3, :3] @ middle
    return replace(scan, affine=affine, header=_header_with(scan.header, affine), findings=(*scan.findings, *said))


def _directions(axcodes: str) -> np.ndarray:
    """Unit vectors of the three axes, as columns."""
    codes = axcodes.upper()
    found = [next((n for n, pair in enumerate(AXES) if code in pair), -1) for code in codes]
    if sorted(found) != [0, 1, 2]:
        raise GeometryError(
            f"axes are declared as {axcodes!r}, wanted three letters, one of L and R, one of P and A, one of I and S, "
            "such as LAS"
        )
    directions = np.zeros((3, 3))
    for axis, (world, code) in enumerate(zip(found, codes, strict=True)):
        directions[world, axis] = 1 if code == AXES[world][1] else -1
    return directions


def _header_with(header: Any, affine: np.ndarray) -> Any:
    """A NIfTI header that says the affine by both of its ways; none for other kinds."""
    if not isinstance(header, nib.Nifti1Header):
        return None
    repaired = header.copy()
    repaired.set_sform(affine, code="scanner")
    repaired.set_qform(affine, code="scanner")
    repaired["xyzt_units"] = MM | int(repaired["xyzt_units"]) & ~SPACE  # time as it was
    return repaired
