"""A folder of DICOM files read as one scan."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.errors import ScanError
from phantomseg.image.finding import Finding
from phantomseg.image.header import check_memory
from phantomseg.image.image import Image
from phantomseg.image.slices import Slice, ordered, place, slices_of
from phantomseg.image.stream import SUFFIXES, explained, is_dicom
from phantomseg.image.voxels import fill, mask

LOOKED_AT = 20  # files that tell whether a folder is one of DICOM
OTHERS = (
    *(*SUFFIXES, ".json", ".txt", ".csv", ".tsv", ".html", ".xml", ".pdf"),
    *(".jpg", ".jpeg", ".png", ".bval", ".bvec"),
)
NAMED = 4  # series named in a message
TAGS = [
    *("SeriesInstanceUID", "SeriesDescription", "ImageType", "Rows", "Columns", "SamplesPerPixel", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


def is_dicom_folder(path: Path) -> bool:
    """Whether one of the first files in a folder is DICOM, by its mark; False for what is no folder.

    Files whose names say that they are something else do not count among the first.
    """
    try:
        if not os.path.isdir(path):
            return False
        unknown = (file for file in _files(path) if not file.name.lower().endswith(OTHERS))
        return any(is_dicom(file) for file in itertools.islice(unknown, LOOKED_AT))
    except OSError:  # a folder that may not be looked into
        return False


def read_dicom(folder: Path, most_bytes: int | None = None) -> Image:
    """The one series in a folder as float32 voxels (columns, rows, slices), slices in order, Hounsfield units for CT.

    Nothing is resampled: slices of a tilted gantry make an oblique grid.

    Args:
        folder: files directly in it are read; those that are no DICOM images are passed over.
        most_bytes: memory that the voxels may take; 16 GB by default.

    Raises:
        ScanError: the extra `dicom` is not installed, several series or none, slices missing, or damaged files.
        GeometryError: its places make no sense.
    """
    read = _reader()
    with explained(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every value that is not quite by the standard
        title, slices = _one_series(folder, read)
        try:
            slices = ordered(slices)
            affine, doubts = place(slices)
        except ScanError as error:
            raise ScanError(f"{folder}: {error}") from error
        rows, columns = slices[0].shape
        check_memory(folder, (columns, rows, len(slices)), most_bytes)
        voxels, masked = _voxels(slices)
    doubts += mask(folder, voxels, masked)
    if voxels.min() == voxels.max():
        raise ScanError(f"{folder} holds the value {voxels.flat[0]:g} everywhere; wanted an image of a head")
    found = Finding("ok", f"DICOM series {title!r} of {len(slices)} slices")
    return Image(voxels, affine, _header(affine), (found, *doubts))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _reader() -> Any:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ScanError("reading DICOM needs pydicom; install it with: pip install 'phantomseg[dicom]'") from error
    return dcmread


def _one_series(folder: Path, read: Any) -> tuple[str, list[Slice]]:
    """Title of the series, and its slices in no order."""
    series: dict[str, dict[Path, Any]] = {}
    for path in filter(is_dicom, _files(folder)):
        with explained(path):
            with _mapped(path) as content:
                dataset = read(content, stop_before_pixels=True, specific_tags=TAGS)
            if "Rows" in dataset and "Columns" in dataset:  # no report, and no table of contents
                series.setdefault(str(getattr(dataset, "SeriesInstanceUID", "")), {})[path] = dataset
    if not series:
        raise ScanError(f"{folder} holds no DICOM image; give the folder of a series")
    if len(series) > 1:
        named = [f"{_title(found)}: {len(found)}" for found in itertools.islice(series.values(), NAMED)]
        more = ", …" if len(series) > NAMED else ""
        raise ScanError(
            f"{folder} holds {len(series)} series ({', '.join(named)}{more} images), wanted one; give each a folder of "
            "its own"
        )
    (found,) = series.values()
    slices = []
    for path, dataset in found.items():
        with explained(path):
            slices += slices_of(dataset, path)
    return _title(found), slices


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A file of which no more can be read than there is, whatever lengths it claims."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            yield content
        except ValueError as error:
            if "seek out of range" not in str(error):
                raise
            raise ScanError(f"{path} claims more than it holds; it is damaged or cut short, copy it again") from error


def _title(found: dict[Path, Any]) -> str:
    return str(getattr(next(iter(found.values())), "SeriesDescription", "") or "without a name")


def _voxels(slices: list[Slice]) -> tuple[np.ndarray, int]:
    """Values after scaling, (columns, rows, slices), and how many of them are no use."""
    from pydicom.pixels.utils import pixel_array

    rows, columns = slices[0].shape
    voxels = np.empty((columns, rows, len(slices)), dtype=np.float32, order="F")
    masked = 0
    for number, part in enumerate(slices):
        with explained(part.path):
            with _mapped(part.path) as content:
                pixels = pixel_array(content, index=part.frame)
            if pixels.shape != part.shape:
                raise ScanError(f"{part.path} has pixels of shape {pixels.shape}, wanted {part.shape}; copy it again")
            slope, inter = part.scale
            scaled = pixels if part.scale == (1, 0) else pixels * np.float64(slope) + inter
            masked += fill(voxels[..., number], scaled.T)
    return voxels, masked


def _header(affine: np.ndarray) -> Any:
    """A NIfTI header with the affine; a qform cannot say that axes are oblique to each other."""
    header: Any = nib.Nifti1Header()
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    if not np.allclose(header.get_qform(), affine, atol=1e-3):
        header.set_qform(affine, code="unknown")
    header.set_xyzt_units("mm")
    return header
