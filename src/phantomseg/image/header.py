"""What the header of a NIfTI or MGH file claims, believed only as far as the file can bear it."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, header_dtype

from phantomseg.errors import GeometryError, ScanError, one_sentence
from phantomseg.image.finding import Finding
from phantomseg.image.image import check_affine
from phantomseg.image.stream import Stream

NIFTI: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
MGH: Any = nib.MGHImage.header_class
PAIRS = (b"ni1", b"ni2")
FARTHEST_MM = 1e6  # beyond, voxels and places in the world no longer match to a hair
MOST_BYTES = 16 * 10**9  # of one volume in float32


@dataclass(frozen=True, eq=False)
class Stored:
    """Where the voxels lie in a file, what they are, and how they are placed."""

    header: Any  # nibabel's, with its small repairs
    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype
    offset: int
    scale: tuple[float, float]  # slope and intercept
    sizes_mm: np.ndarray  # voxel sizes as they stand in the file; nibabel would take 1 for 0
    placed: bool  # the header says which way the axes run
    findings: tuple[Finding, ...] = ()

    def volume_bytes(self) -> int:
        """Bytes of one volume in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Stream) -> Stored:
    """The header of a file, checked, with no voxel touched.

    Raises:
        ScanError: no NIfTI or MGH, not a volume of numbers, or more voxels claimed than the file can hold.
    """
    start = stream.content.read(4)
    with quiet():  # a doubtful header is judged here
        if start == b"\0\0\0\1":
            stored = _mgh(stream, start + stream.take(header_dtype.itemsize - 4))
        else:
            order = next((o for o in ("<", ">") if int(np.frombuffer(start.ljust(4), f"{o}i4")[0]) in NIFTI), "")
            if not order:
                raise ScanError(f"{stream.path} is no NIfTI or MGH file by its first bytes; copy or convert it again")
            size = int(np.frombuffer(start, f"{order}i4")[0])
            stored = _nifti(stream, start + stream.take(size - 4), order)
    _check_size(stream, stored)
    return stored


def check_memory(path: Path, shape: tuple[int, ...], most_bytes: int | None) -> None:
    """Refuse a volume that would take more memory than allowed.

    Raises:
        ScanError: says how much, and how much may be.
    """
    wanted, most = 4 * math.prod(shape), MOST_BYTES if most_bytes is None else most_bytes
    if wanted > most:
        raise ScanError(
            f"{path} has {_times(shape)} voxels, which take {amount(wanted)} of memory, wanted at most {amount(most)}; "
            "crop it to the head"
        )


def affine_of(stored: Stored) -> np.ndarray:
    """From voxel index to world, (4, 4), as the header says.

    Raises:
        GeometryError: it says nothing, or nonsense.
    """
    check_sizes(stored)
    if not stored.placed:
        raise GeometryError(
            "qform and sform codes are both 0, so left and right are unknown; set one of them in the header, or "
            "declare which way the axes run, after making sure which side is which"
            if isinstance(stored.header, nib.Nifti1Header)
            else "goodRASFlag is 0, so left and right are unknown; declare which way the axes run, after making sure "
            "which side is which"
        )
    try:
        with quiet(), np.errstate(all="ignore"):
            affine = np.asarray(stored.header.get_best_affine(), dtype=float)
            check_affine(affine)
    except GeometryError:
        raise
    except Exception as error:
        raise GeometryError(f"qform is no rotation ({one_sentence(error)}); repair the header of the scan") from error
    if (np.abs(affine[:3, 3]) > FARTHEST_MM).any():
        raise GeometryError(
            f"first voxel lies {np.abs(affine[:3, 3]).max() / 1e6:.3g} km from the origin; repair the header"
        )
    return affine


def check_sizes(stored: Stored) -> None:
    """Refuse voxel sizes that are none.

    Raises:
        GeometryError: not finite, or not above 0.
    """
    sizes = stored.sizes_mm
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise GeometryError(
            f"voxel size is {tuple(sizes.tolist())} mm, wanted more than 0 along each axis; "
            "repair the header of the scan"
        )


def amount(count: float) -> str:
    """Bytes in words.

    >>> amount(108e12), amount(12_400_000), amount(348)
    ('108.0 TB', '12.4 MB', '348 bytes')
    """
    if count >= 1e15:
        return "over 1000 TB"
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


def _nifti(stream: Stream, raw: bytes, order: str) -> Stored:
    kind = NIFTI[len(raw)]
    as_stored = kind(raw, endianness=order, check=False)
    magic = as_stored["magic"].item()
    if magic in PAIRS:
        raise ScanError(f"{stream.path} is the header of a pair of .hdr and .img; convert the pair to one .nii.gz file")
    if magic != kind.single_magic:
        raise ScanError(
            f"{stream.path} has a header of {len(raw)} bytes without the mark of NIfTI, perhaps that of ANALYZE, which "
            "does not tell left from right; convert it to NIfTI first"
        )
    shape, volumes = _shape(stream.path, as_stored["dim"])
    dtype = _dtype(stream.path, as_stored)
    offset = float(as_stored["vox_offset"]) or kind.single_vox_offset
    if not (math.isfinite(offset) and kind.single_vox_offset <= offset == int(offset)):
        raise ScanError(
            f"{stream.path} claims that its voxels begin at byte {offset:g}, wanted {kind.single_vox_offset} or more; "
            "copy or convert it again"
        )
    header = kind(raw, endianness=order, check=True)
    slope, inter = header.get_slope_inter()
    return Stored(
        header=header,
        shape=shape,
        volumes=volumes,
        dtype=dtype,
        offset=int(offset),
        scale=(1.0 if slope is None else slope, 0.0 if inter is None else inter),
        sizes_mm=np.abs(as_stored["pixdim"][1:4].astype(float)),
        placed=bool(header["qform_code"] or header["sform_code"]),
        findings=_doubts(as_stored, dtype),
    )


def _mgh(stream: Stream, raw: bytes) -> Stored:
    header = MGH(raw, check=True)
    shape, volumes = _shape(stream.path, [4, *header["dims"]])
    as_stored = np.frombuffer(raw, header_dtype)[0]
    return Stored(
        header=header,
        shape=shape,
        volumes=volumes,
        dtype=_dtype(stream.path, header),
        offset=DATA_OFFSET,
        scale=(1.0, 0.0),
        sizes_mm=np.asarray(header["delta"], dtype=float),
        placed=bool(as_stored["goodRASFlag"]),
    )


def _shape(path: Path, dims: Any) -> tuple[tuple[int, int, int], int]:
    """Voxels along each axis, and how many volumes of them."""
    axes = int(dims[0])
    if not 1 <= axes <= 7:
        raise ScanError(f"{path} claims {axes} axes, wanted 3 or 4; copy or convert it again")
    shape = tuple(int(n) for n in dims[1 : axes + 1])
    if min(shape) < 1:
        raise ScanError(f"{path} claims {_times(shape)} voxels, wanted 1 or more along each axis; convert it again")
    if len(shape) < 3 or min(shape[:3]) < 2 or any(n > 1 for n in shape[4:]):
        raise ScanError(f"{path} has shape {shape}, wanted a volume of three axes; stack the slices")
    i, j, k = shape[:3]
    return (i, j, k), math.prod(shape[3:])


def _dtype(path: Path, header: Any) -> np.dtype:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (KeyError, nib.spatialimages.HeaderDataError):
        dtype = np.dtype("V")
    if not dtype.itemsize:
        raise ScanError(f"{path} has an unknown code for its kind of number; copy or convert it again")
    if dtype.fields:
        raise ScanError(f"{path} holds colours, wanted one number a voxel; convert it to grey values")
    if dtype.kind not in "iuf":
        raise ScanError(f"{path} holds {dtype.name} values, wanted numbers; convert it to grey values")
    return dtype


def _doubts(header: Any, dtype: np.dtype) -> tuple[Finding, ...]:
    bits = int(header["bitpix"])
    if bits == 8 * dtype.itemsize:
        return ()
    what = f"header claims {bits} bits a voxel, though {dtype.name} has {8 * dtype.itemsize}; the latter is used"
    return (Finding("warning", what, "look at the picture of the labels, or convert the scan again"),)


def _check_size(stream: Stream, stored: Stored) -> None:
    claimed = stored.volumes * stored.volume_bytes()
    if stored.offset + claimed <= stream.most_bytes:
        return
    shape = stored.shape if stored.volumes == 1 else (*stored.shape, stored.volumes)
    start = f" from byte {stored.offset:.10g}" if stored.offset > 4096 else ""
    raise ScanError(
        f"{stream.path} claims {_times(shape)} voxels ({amount(claimed)}){start}, but holds "
        f"{'at most ' if stream.packed else ''}{amount(stream.most_bytes)}; the file is damaged or cut short, copy it "
        "again"
    )


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
