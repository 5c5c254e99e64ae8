"""Voxels of one volume, read a slab at a time, so that they are held once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import footer_dtype

from phantomseg.errors import ScanError
from phantomseg.image.finding import Finding
from phantomseg.image.header import MGH, Stored
from phantomseg.image.stream import Stream

FOOTER_BYTES = footer_dtype.itemsize
SLAB_VOXELS = 2**18
LARGEST = 1e30  # beyond, sums and squares are no longer safe in float32
MOST_REST = 2**26  # bytes read after the voxels to see that a packed file is whole


def read_grey(stream: Stream, stored: Stored, volume: int) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """One volume as float32, (I, J, K), and what was doubtful in it.

    Raises:
        ScanError: the file ends early, or no voxel is a number.
    """
    voxels = np.empty(stored.shape, dtype=np.float32, order="F")
    flat, masked = voxels.reshape(-1, order="F"), 0
    for at, slab in _slabs(stream, stored, volume):
        masked += fill(flat[at], slab)
    return voxels, mask(stream.path, voxels, masked)


def read_whole(stream: Stream, stored: Stored, volume: int) -> np.ndarray:
    """One volume of whole numbers as int32, (I, J, K).

    Raises:
        ScanError: the file ends early, or a value is no whole number or too large.
    """
    voxels = np.empty(stored.shape, dtype=np.int32, order="F")
    flat, low, high = voxels.reshape(-1, order="F"), math.inf, -math.inf
    for at, slab in _slabs(stream, stored, volume):
        if slab.dtype.kind == "f" and not (np.isfinite(slab).all() and (slab == np.round(slab)).all()):
            raise ScanError(f"{stream.path} holds values that are not whole numbers; wanted a label map, not an image")
        low, high = min(low, slab.min()), max(high, slab.max())
        with np.errstate(invalid="ignore"):
            flat[at] = slab
    if low < 0 or high > np.iinfo(np.int32).max:
        raise ScanError(f"{stream.path} holds values from {low:g} to {high:g}, wanted 0 to 2147483647")
    return voxels


def fill(part: np.ndarray, slab: np.ndarray) -> int:
    """Copy values into float32, NaN for those that are no use; returns how many those are.

    >>> part = np.empty(4, dtype=np.float32)
    >>> fill(part, np.array([1.5, np.inf, 1e300, -2])), part.tolist()
    (2, [1.5, nan, nan, -2.0])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        part[...] = slab
        if slab.dtype.kind != "f":
            return 0
        unusable = ~(np.abs(part) <= LARGEST)
    count = int(unusable.sum())
    if count:
        part[unusable] = np.nan
    return count


def mask(path: Any, voxels: np.ndarray, count: int) -> tuple[Finding, ...]:
    """Set NaN voxels, of which there are `count`, to the smallest value there is.

    Raises:
        ScanError: no voxel is a number.
    """
    if not count:
        return ()
    if count == voxels.size:
        raise ScanError(f"{path} holds no voxel that is a finite number; convert it again")
    voxels[np.isnan(voxels)] = np.fmin.reduce(voxels, axis=None)
    share = 100 * count / voxels.size
    what = f"{count} voxels ({share:.2g} %) are NaN, infinite or beyond {LARGEST:g}; the lowest value is taken there"
    return (Finding("warning", what, "see that they lie outside the head"),)


def read_rest(stream: Stream, stored: Stored) -> tuple[Any, tuple[Finding, ...]]:
    """The header with what stands after the voxels, and whether a packed file was whole.

    Raises:
        ScanError: the checksum of the file is not that of its bytes.
    """
    if stored.volumes > 1:  # the rest would be as long as the file
        return stored.header, ()
    footer = stream.content.read(FOOTER_BYTES) if isinstance(stored.header, MGH) else b""
    header = MGH(stored.header.binaryblock[:-FOOTER_BYTES] + footer) if footer else stored.header
    if not stream.packed:
        return header, ()
    try:
        rest = 0
        while rest < MOST_REST and (taken := stream.content.read(SLAB_VOXELS)):
            rest += len(taken)
    except OSError as error:  # gzip tells both by the same error
        if "Not a gzipped file" not in str(error):
            raise
        what = "bytes that are no part of the scan follow its end"
        return header, (Finding("warning", what, "copy the file again if it should have none"),)
    return header, ()


def _slabs(stream: Stream, stored: Stored, volume: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Voxels of a volume in the order of the file, some at a time, with their values after scaling."""
    slope, inter = np.float64(stored.scale[0]), np.float64(stored.scale[1])
    count = math.prod(stored.shape)
    stream.content.seek(stored.offset + volume * stored.volume_bytes())
    for low in range(0, count, SLAB_VOXELS):
        at = slice(low, min(low + SLAB_VOXELS, count))
        slab = np.frombuffer(stream.take((at.stop - low) * stored.dtype.itemsize), stored.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            yield at, slab if stored.scale == (1, 0) else slab * slope + inter
