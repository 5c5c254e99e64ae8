"""Many volumes on one grid in one file, written one at a time, so that only one is held."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.image.files import write_atomically
from phantomseg.image.image import Image

STEPS = 255  # shares are stored in this many steps


def write_shares(path: Path, grid: Image, shares: Iterable[np.ndarray], count: int) -> None:
    """Write `count` volumes of shares between 0 and 1, each on the scan's grid, as NIfTI of 4 axes (uint8, scaled).

    Args:
        path: .nii.gz file.
        grid: shape, affine and header codes.
        shares: volumes (I, J, K).
        count: how many.
    """
    header: Any = nib.Nifti1Header()
    if max(grid.shape) > np.iinfo(np.int16).max:
        header = nib.Nifti2Header()
    header.set_data_shape((*grid.shape, count))
    header.set_data_dtype(np.uint8)
    header.set_xyzt_units("mm")
    codes = grid.header if isinstance(grid.header, nib.Nifti1Header) else None
    header.set_sform(grid.affine, int(codes["sform_code"]) or 1 if codes is not None else 1)
    header.set_qform(grid.affine, int(codes["qform_code"]) if codes is not None else 1, strip_shears=True)
    header.set_slope_inter(1 / STEPS, 0)
    header["vox_offset"] = 352 if header["sizeof_hdr"] == 348 else 544

    def write(temporary: str) -> None:
        # neither name nor time in the header: the same shares are the same bytes
        with open(temporary, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
            file.write(header.binaryblock)
            file.write(b"\0" * (int(header["vox_offset"]) - int(header["sizeof_hdr"])))
            for volume in shares:
                stored = np.rint(volume * STEPS).astype(np.uint8)
                file.write(stored.tobytes(order="F"))

    write_atomically(path, write)
