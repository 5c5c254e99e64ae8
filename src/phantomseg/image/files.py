"""Scans in and out: NIfTI, MGZ and DICOM, geometry untouched, files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.errors import GeometryError, ScanError
from phantomseg.image.dicom import is_dicom_folder, read_dicom
from phantomseg.image.header import Stored, affine_of, check_memory, check_sizes, read_header
from phantomseg.image.image import Image
from phantomseg.image.reorient import reoriented
from phantomseg.image.stream import SUFFIXES, opened
from phantomseg.image.voxels import read_grey, read_rest, read_whole


def stem(path: Path) -> str:
    """File name without the suffix of an image.

    >>> stem(Path("a/sub-01_T1w.nii.gz"))
    'sub-01_T1w'
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name if os.path.isdir(path) else path.stem  # a folder of DICOM files may have dots in its name


def scan_paths(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name."""
    return sorted(p for p in Path(folder).iterdir() if p.name.lower().endswith(SUFFIXES) and p.is_file())


def read_image(
    path: Path, volume: int | None = None, most_bytes: int | None = None, axcodes: str | None = None
) -> Image:
    """A scan as float32 voxels, with its affine and header.

    Args:
        path: NIfTI or MGZ file, or a folder that holds one DICOM series.
        volume: which of several volumes, from 0; may be left out where there is one.
        most_bytes: memory that its voxels may take; 16 GB by default.
        axcodes: directions the voxel axes run to, such as "LAS", where the header is wrong or does not say.

    Raises:
        ScanError: missing, not an image, damaged, not three-dimensional, too large, constant, or no such volume.
        GeometryError: the header places no voxel.

    Voxels that are NaN, infinite or beyond 1e30 are set to the lowest value; a finding of the image says how many.
    """
    path = Path(path)
    if is_dicom_folder(path):
        check_volume(path, volume, 1)
        image = read_dicom(path, most_bytes)
        return image if axcodes is None else reoriented(image, axcodes)
    with opened(path) as stream:
        stored = read_header(stream)
        volume = check_volume(path, volume, stored.volumes)
        check_memory(path, stored.shape, most_bytes)
        affine = _affine(path, stored, axcodes)  # before the voxels, which take long
        voxels, doubts = read_grey(stream, stored, volume)
        header, rest = read_rest(stream, stored)
    if voxels.min() == voxels.max():
        raise ScanError(f"{path} holds the value {voxels.flat[0]:g} everywhere; wanted an image of a head")
    image = Image(voxels, affine, header, (*stored.findings, *doubts, *rest))
    return image if axcodes is None else reoriented(image, axcodes)


def read_labels(path: Path, volume: int | None = None) -> Image:
    """A label map as int32 voxels, with its affine and header.

    Raises:
        ScanError: as for `read_image`, or values that are no whole numbers.
        GeometryError: the header places no voxel.
    """
    path = Path(path)
    with opened(path) as stream:
        stored = read_header(stream)
        volume = check_volume(path, volume, stored.volumes)
        check_memory(path, stored.shape, None)
        affine = _affine(path, stored, None)
        voxels = read_whole(stream, stored, volume)
        header, _ = read_rest(stream, stored)
    return Image(voxels, affine, header)


def volume_count(path: Path) -> int:
    """How many volumes a file holds, by its header alone; 1 for a DICOM series.

    Raises:
        ScanError: as for `read_image`.
    """
    path = Path(path)
    if is_dicom_folder(path):
        return 1
    with opened(path) as stream:
        return read_header(stream).volumes


def check_volume(path: Path, volume: int | None, count: int) -> int:
    """The number of the volume that is meant.

    Raises:
        ScanError: none is named and there are several, or there is no such volume.
    """
    if volume is None and count > 1:
        raise ScanError(f"{path} holds {count} volumes, wanted one; say which volume, from 0 to {count - 1}")
    volume = volume or 0
    if not 0 <= volume < count:
        which = f"{count} volumes, from 0 to {count - 1}" if count > 1 else "one volume, number 0"
        raise ScanError(f"{path} has no volume {volume}; it holds {which}")
    return volume


def _affine(path: Path, stored: Stored, axcodes: str | None) -> np.ndarray:
    """The header's affine; where axes are declared and it has none, one of the voxel sizes alone."""
    try:
        try:
            return affine_of(stored)
        except GeometryError:
            if axcodes is None:
                raise
            check_sizes(stored)
            affine = np.diag([*stored.sizes_mm, 1.0])
            affine[:3, 3] = -affine[:3, :3] @ (np.array(stored.shape) - 1) / 2
            return affine
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


def write_image(path: Path, image: Image) -> None:
    """Write to NIfTI or MGZ, by suffix, with the header codes of the file the grid came from."""
    path = Path(path)
    voxels, header = image.voxels, image.header
    if path.name.lower().endswith((".mgz", ".mgh")):
        kept = header.copy() if isinstance(header, nib.MGHImage.header_class) else None
        if kept is not None:
            kept.set_data_dtype(voxels.dtype)
        mgh: Any = nib.MGHImage(voxels, image.affine, kept)
        write_atomically(path, lambda temporary: nib.save(mgh, temporary))
        return
    kind: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    file = kind(voxels, image.affine)
    file.header.set_xyzt_units("mm")
    if isinstance(header, nib.Nifti1Header) and _says(header, image.affine):
        file = kind(voxels, image.affine, _clean(header, voxels.dtype))
        # the affine of a file comes from one of the two; both are kept, bit for bit
        for name in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "pixdim"):
            file.header[name] = header[name]
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            file.header[name] = header[name]
        file.header["xyzt_units"] = header["xyzt_units"]
    write_atomically(path, lambda temporary: nib.save(file, temporary))


def _says(header: Any, affine: np.ndarray) -> bool:
    """Whether a header places voxels as the affine does; it may come from another grid."""
    said = bool(header["qform_code"] or header["sform_code"])
    return said and np.allclose(header.get_best_affine(), affine, atol=1e-3)


def _clean(header: Any, dtype: np.dtype) -> Any:
    clean = header.copy()
    clean.set_data_dtype(dtype)
    clean["scl_slope"], clean["scl_inter"] = 1, 0
    clean["cal_min"], clean["cal_max"] = 0, 0
    clean.extensions.clear()
    return clean


def write_atomically(path: Path, write: Callable[[str], object]) -> None:
    """Have `write` fill a temporary file beside `path`, then put it in place in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk: name what was to be there
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
