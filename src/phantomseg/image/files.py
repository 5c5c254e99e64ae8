"""Scans in and out: NIfTI and MGZ, geometry untouched, files written whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.errors import GeometryError, PhantomSegError, ScanError, one_sentence
from phantomseg.image.image import Image

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")


def stem(path: Path) -> str:
    """File name without the suffix of an image.

    >>> stem(Path("a/sub-01_T1w.nii.gz"))
    'sub-01_T1w'
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def scan_paths(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name."""
    return sorted(p for p in Path(folder).iterdir() if p.name.lower().endswith(SUFFIXES) and p.is_file())


def read_image(path: Path) -> Image:
    """A scan as float32 voxels, with its affine and header.

    Raises:
        ScanError: missing, not an image, truncated, not three-dimensional, constant or not finite.
        GeometryError: the header places no voxel.

    Voxels that are NaN or infinite are an error: their neighbours would be wrong without a sign of it.
    """
    file, voxels = _load(path, np.float32)
    if not np.isfinite(voxels).all():
        count = int((~np.isfinite(voxels)).sum())
        raise ScanError(f"{path} holds {count} voxels that are NaN or infinite; set them to 0 first")
    if voxels.min() == voxels.max():
        raise ScanError(f"{path} holds the value {voxels.flat[0]:g} everywhere; wanted an image of a head")
    return _image(path, voxels, file)


def read_labels(path: Path) -> Image:
    """A label map as int32 voxels, with its affine and header.

    Raises:
        ScanError: as for `read_image`, or values that are no whole numbers.
    """
    file, voxels = _load(path, np.float64)
    if not np.isfinite(voxels).all() or (voxels != np.round(voxels)).any():
        raise ScanError(f"{path} holds values that are not whole numbers; wanted a label map, not an image")
    if voxels.min() < 0 or voxels.max() > np.iinfo(np.int32).max:
        raise ScanError(f"{path} holds values from {voxels.min():g} to {voxels.max():g}, wanted 0 to 2147483647")
    return _image(path, voxels.astype(np.int32), file)


def _load(path: Path, dtype: type) -> tuple[Any, np.ndarray]:
    path = Path(path)
    if not path.is_file():
        raise ScanError(f"{path} does not exist or is no file; check the path")
    if not path.name.lower().endswith(SUFFIXES):
        raise ScanError(f"{path} is not a {', '.join(SUFFIXES)} file; convert it to NIfTI first")
    try:
        with _quiet():  # a doubtful header is judged by check_affine
            file: Any = nib.load(path)
            shape = file.shape
            if len(shape) == 4 and shape[3] > 1:
                raise ScanError(f"{path} holds {shape[3]} volumes, wanted one; split the file and give one volume")
            volume_axes = [n for n in shape[3:] if n != 1]
            if len(shape) < 3 or volume_axes or min(shape[:3]) < 2:
                raise ScanError(f"{path} has shape {tuple(shape)}, wanted a volume of three axes; stack the slices")
            voxels = np.asarray(file.dataobj)
            if voxels.dtype.kind not in "iufb":
                raise ScanError(f"{path} holds {voxels.dtype} values, wanted numbers; convert it to grey values")
            return file, voxels.reshape(shape[:3]).astype(dtype)
    except PhantomSegError:
        raise
    except Exception as error:
        reason = one_sentence(error)
        raise ScanError(f"{path} cannot be read as an image ({reason}); copy or convert it again") from error


def _image(path: Path, voxels: np.ndarray, file: Any) -> Image:
    try:
        zooms = _stored_zooms(file)
        if not np.isfinite(zooms).all() or (zooms <= 0).any():
            raise GeometryError(
                f"voxel size is {tuple(zooms.tolist())} mm, wanted more than 0 along each axis; "
                "repair the header of the scan"
            )
        if isinstance(file.header, nib.Nifti1Header) and not (file.header["qform_code"] or file.header["sform_code"]):
            raise GeometryError(
                "qform and sform codes are both 0, so left and right are unknown; set one of them in the header, "
                "after making sure which side is which"
            )
        return Image(voxels, np.asarray(file.affine, dtype=float), file.header.copy())
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what nibabel says of a header, by warning or by log."""
    logger = nib.imageglobals.logger
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _stored_zooms(file: Any) -> np.ndarray:
    """Voxel sizes as they stand in the file, shape (3,); nibabel takes 1 for 0 when it loads."""
    header = file.header
    if isinstance(header, nib.Nifti1Header):
        with file.file_map["image"].get_prepare_fileobj("rb") as stream:
            header = type(header)(stream.read(header.sizeof_hdr), check=False)
    return np.abs(np.asarray(header.get_zooms()[:3], dtype=float))


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
    if isinstance(header, nib.Nifti1Header):
        file = kind(voxels, image.affine, _clean(header, voxels.dtype))
        # the affine of a file comes from one of the two; both are kept, bit for bit
        for name in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "pixdim"):
            file.header[name] = header[name]
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            file.header[name] = header[name]
        file.header["xyzt_units"] = header["xyzt_units"]
    write_atomically(path, lambda temporary: nib.save(file, temporary))


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
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
