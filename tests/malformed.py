"""Files that are no scans: how to make each of them, and the message it earns."""

from __future__ import annotations

import bz2
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command
import nibabel as nib
import numpy as np
import phantom

Maker = Callable[[Path], object]
SCAN = command.head_scan()
KINDS: dict[str, Any] = {"nifti": nib.Nifti1Image, "nifti2": nib.Nifti2Image, "mgh": nib.MGHImage}
TEXT = b"this is no scan\n"
HUGE = (3, 30000, 30000, 30000, 1, 1, 1, 1)


def good(kind: str = "nifti", order: str = "<") -> bytes:
    """A valid file, not packed."""
    header = KINDS[kind].header_class(endianness=order) if kind != "mgh" else None
    return bytes(KINDS[kind](SCAN, np.eye(4), header).to_bytes())


def changed(kind: str = "nifti", order: str = "<", **fields: object) -> Maker:
    """A valid file with other values in its header, packed if its name says so."""

    def make(path: Path) -> None:
        raw = bytearray(good(kind, order))
        dtype = KINDS[kind].header_class.template_dtype
        header = np.frombuffer(raw, dtype.newbyteorder("=" if kind == "mgh" else order), count=1)
        if kind == "mgh":
            header = np.frombuffer(raw, dtype, count=1)
        for name, value in fields.items():
            header[name] = value
        write(path, bytes(raw))

    return make


def write(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(("gz", "mgz")) else content)


def raw(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content)


def packed(content: bytes) -> Maker:
    return lambda path: path.write_bytes(gzip.compress(content, mtime=0))


def cut(share: float, kind: str = "nifti") -> Maker:
    """The first part of what would be a valid file."""

    def make(path: Path) -> None:
        write(path, good(kind))
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return make


def spoilt(at: int, value: int = 0x55) -> Maker:
    """A packed scan with one byte changed, counted from the end."""

    def make(path: Path) -> None:
        content = bytearray(gzip.compress(good(), mtime=0))
        content[at] ^= value
        path.write_bytes(content)

    return make


def voxels(array: np.ndarray, affine: np.ndarray | None = None) -> Maker:
    return lambda path: phantom.save(path, array, np.eye(4) if affine is None else affine)


def ones(*shape: int) -> Maker:
    return voxels(np.ones(shape, dtype=np.float32))


def colours(*names: str) -> np.ndarray:
    return np.zeros((4, 5, 6), dtype=[(name, "u1") for name in names])


NAMED_FOR_EVER = b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"a" * 2**17
DICOM = b"\0" * 128 + b"DICM" + b"\0" * 300
GZ, NII, MGZ = "a.nii.gz", "a.nii", "a.mgz"
SHORT = "the file is damaged or cut short, copy it again"
REPAIR = "repair the header"

SCANS: dict[str, tuple[str, Maker, str]] = {
    "missing": (GZ, lambda path: None, "a.nii.gz does not exist or is no file; check the path"),
    "folder": (GZ, lambda path: path.mkdir(), "does not exist or is no file|holds no scans"),
    "pipe": (NII, os.mkfifo, "does not exist or is no file"),
    "long name": ("a" * 300 + ".nii", lambda path: None, "cannot be read .*File name too long"),
    "broken link": (NII, lambda path: path.symlink_to("nowhere.nii"), "does not exist or is no file"),
    "text": (GZ, raw(TEXT), "is no NIfTI or MGH file by its first bytes; copy or convert it again"),
    "text, plain": (NII, raw(TEXT), "is no NIfTI or MGH file"),
    "text, mgz": (MGZ, raw(TEXT), "is no NIfTI or MGH file"),
    "text, packed": (GZ, packed(TEXT), "is no NIfTI or MGH file"),
    "empty": (GZ, raw(b""), "is empty; copy it again"),
    "empty, plain": (NII, raw(b""), "is empty; copy it again"),
    "empty, packed": (MGZ, packed(b""), "is empty; copy it again"),
    "one byte": (NII, raw(b"\x5c"), "is no NIfTI or MGH file"),
    "half a header": (NII, raw(good()[:200]), "ends before its voxels do; the file is cut short"),
    "header alone": (NII, raw(good()[:348]), f"claims 20 × 22 × 18 voxels .* but holds 348 bytes; {SHORT}"),
    "truncated": (GZ, cut(0.5), "cannot be read as an image .*ended before the end-of-stream.*; copy or convert"),
    "truncated, plain": (NII, cut(0.5), f"claims 20 × 22 × 18 voxels .31.7 kB., but holds 16.0 kB; {SHORT}"),
    "truncated, mgz": (MGZ, cut(0.5, "mgh"), "cannot be read as an image .*ended before"),
    "truncated, mgh": ("a.mgh", cut(0.5, "mgh"), f"claims 20 × 22 × 18 voxels .* but holds 16.0 kB; {SHORT}"),
    "cut, then packed": (GZ, packed(good()[:20000]), "ends before its voxels do; the file is cut short"),
    "checksum": (GZ, spoilt(-6), "cannot be read as an image .CRC check failed .*; copy or convert it again"),
    "length": (GZ, spoilt(-2), "cannot be read as an image .Incorrect length of data.*; copy or convert it again"),
    "no checksum": (GZ, raw(gzip.compress(good())[:-8]), "cannot be read as an image .*ended before"),
    "damaged inside": (GZ, spoilt(10, 0xFF), "cannot be read as an image .*invalid.*; copy or convert it again"),
    "unknown packing": (GZ, spoilt(2), "cannot be read as an image .*; copy or convert it again"),
    "gzip cut": (GZ, raw(gzip.compress(good())[:12]), "is a gzip file that is damaged or cut short"),
    "gzip name": (GZ, raw(NAMED_FOR_EVER), "is a gzip file that is damaged or cut short"),
    "packed twice": (GZ, packed(gzip.compress(good())), "is packed twice; unpack it once"),
    "zip": (GZ, raw(b"PK\x03\x04" + b"\0" * 400), "is a zip archive; unpack it first"),
    "bzip2": (NII, raw(bz2.compress(good())), "is a bzip2 file; unpack it first"),
    "picture": (NII, raw(b"\x89PNG\r\n\x1a\n" + b"\0" * 400), "is a PNG picture"),
    "web page": (GZ, raw(b"<!DOCTYPE html><html>login</html>"), "is a web page or XML text; download the scan"),
    "DICOM inside": (NII, raw(DICOM), "is one DICOM image by its content; give the folder of its series"),
    "DICOM": ("a.dcm", raw(DICOM), "is one DICOM image; give the folder of its series"),
    "pair, header": ("a.hdr", changed(magic=b"ni1"), "is half of a pair of .hdr and .img; convert the pair to one"),
    "pair, voxels": ("a.img", raw(good()[352:]), "is half of a pair of .hdr and .img"),
    "pair, renamed": (NII, changed(magic=b"ni1"), "is the header of a pair of .hdr and .img"),
    "ANALYZE": (NII, changed(magic=b""), "without the mark of NIfTI.*ANALYZE.*; convert it to NIfTI"),
    "NIfTI-2 mark": (NII, changed("nifti2", magic=b"n+1"), "without the mark of NIfTI"),
    "suffix": ("a.png", raw(TEXT), "is not a .nii.gz, .nii, .mgz, .mgh file; convert it to NIfTI"),
    "size of header": (NII, changed(sizeof_hdr=1543569408 - 1), "is no NIfTI or MGH file"),
    "version": ("a.mgh", changed("mgh", version=2), "is no NIfTI or MGH file"),
    "2-D": (GZ, ones(5, 6), r"has shape \(5, 6\), wanted a volume of three axes; stack the slices"),
    "one slice": (GZ, ones(5, 6, 1), r"has shape \(5, 6, 1\), wanted a volume of three axes"),
    "5-D": (GZ, ones(5, 6, 7, 1, 3), r"has shape \(5, 6, 7, 1, 3\), wanted a volume"),
    "no axes": (NII, changed(dim=(0, *HUGE[1:])), "claims 0 axes, wanted 3 or 4; copy or convert it again"),
    "nine axes": (NII, changed(dim=(9, *HUGE[1:])), "claims 9 axes, wanted 3 or 4"),
    "minus axes": (GZ, changed(dim=(-3, *HUGE[1:])), "claims -3 axes, wanted 3 or 4"),
    "no voxels": (NII, changed(dim=(3, 20, 0, 18, 1, 1, 1, 1)), "claims 20 × 0 × 18 voxels, wanted 1 or more"),
    "minus voxels": (GZ, changed(dim=(3, 20, 22, -18, 1, 1, 1, 1)), "claims 20 × 22 × -18 voxels, wanted 1 or more"),
    "a surface": (GZ, changed(dim=(3, -1, 1, 1, 1, 1, 1, 1), glmin=10**9), "claims -1 × 1 × 1 voxels"),
    "claims": (
        NII,
        changed(dim=HUGE),
        rf"claims 30000 × 30000 × 30000 voxels \(108.0 TB\), but holds 32.0 kB; {SHORT}",
    ),
    "claims, packed": (GZ, changed(dim=HUGE), rf"claims 30000 × .* \(108.0 TB\), but holds at most [\d.]+ kB; {SHORT}"),
    "claims, other order": (NII, changed(order=">", dim=HUGE), r"claims 30000 × 30000 × 30000 voxels \(108.0 TB\)"),
    "claims volumes": (NII, changed(dim=(4, 20, 22, 18, 32767, 1, 1, 1)), "claims 20 × 22 × 18 × 32767 voxels"),
    "claims, NIfTI-2": (
        NII,
        changed("nifti2", dim=(3, *[2**62] * 3, 1, 1, 1, 1)),
        f"claims 4611686018427387904.*{SHORT}",
    ),
    "claims, mgz": (MGZ, changed("mgh", dims=[2**31 - 1] * 4), "claims 2147483647 × 2147483647 × .* damaged"),
    "no voxels, mgz": (MGZ, changed("mgh", dims=(20, 22, 0, 1)), "claims 20 × 22 × 0 × 1 voxels, wanted 1 or more"),
    "minus voxels, mgh": ("a.mgh", changed("mgh", dims=(20, -22, 18, 1)), "claims 20 × -22 × 18 × 1 voxels"),
    "offset": (NII, changed(vox_offset=1e30), r"claims 20 × 22 × 18 voxels .* from byte 1.0+15e\+30, but holds"),
    "offset, packed": (GZ, changed(vox_offset=1e9), f"from byte 1000000000, but holds at most .*; {SHORT}"),
    "offset beyond": (NII, changed(vox_offset=32000), f"from byte 32000, but holds 32.0 kB; {SHORT}"),
    "offset minus": (NII, changed(vox_offset=-352), "claims that its voxels begin at byte -352, wanted 352 or more"),
    "offset NaN": (NII, changed(vox_offset=np.nan), "claims that its voxels begin at byte nan, wanted 352"),
    "offset inside": (NII, changed(vox_offset=12), "claims that its voxels begin at byte 12, wanted 352"),
    "offset, NIfTI-2": (NII, changed("nifti2", vox_offset=-(2**62)), "begin at byte -4.6.*, wanted 544 or more"),
    "kind unknown": (NII, changed(datatype=77), "has an unknown code for its kind of number; copy or convert"),
    "kind none": (GZ, changed(datatype=0), "has an unknown code for its kind of number"),
    "kind bits": (NII, changed(datatype=1), "has an unknown code for its kind of number"),
    "kind unknown, mgz": (MGZ, changed("mgh", type=99), "has an unknown code for its kind of number"),
    "complex": (GZ, voxels(SCAN.astype(np.complex64)), "holds complex64 values, wanted numbers"),
    "RGB": (GZ, voxels(colours("R", "G", "B")), "holds colours, wanted one number a voxel; convert it to grey"),
    "RGBA": (NII, voxels(colours("R", "G", "B", "A")), "holds colours, wanted one number a voxel"),
    "zeros": (GZ, voxels(0 * SCAN), "holds the value 0 everywhere; wanted an image of a head"),
    "all NaN": (GZ, voxels(np.nan * SCAN), "holds no voxel that is a finite number; convert it again"),
    "all huge": (GZ, voxels(SCAN.astype(np.float64) + 1e300), "holds no voxel that is a finite number"),
    "slope": (NII, changed("nifti2", scl_slope=1e300, scl_inter=1e300), "holds no voxel that is a finite number"),
    "intercept": (NII, changed(scl_slope=1, scl_inter=np.inf), "cannot be read as an image .*invalid intercept inf"),
    "no voxel size": (NII, changed(pixdim=(1, 0, 1, 1, 1, 1, 1, 1)), rf"voxel size is \(0.0, 1.0, 1.0\) mm.*{REPAIR}"),
    "voxel size NaN": (NII, changed(pixdim=(1, 1, np.nan, 1, 1, 1, 1, 1)), r"size is \(1.0, nan, 1.0\) mm.*repair"),
    "voxel size, mgz": (MGZ, changed("mgh", delta=(1, 1, np.inf)), r"voxel size is \(1.0, 1.0, inf\) mm.*repair"),
    "no column": (NII, changed(srow_x=(0, 0, 0, 0)), rf"voxel size is \(0.0, 1.0, 1.0\) mm.*{REPAIR}"),
    "singular": (NII, changed(srow_x=(1, 1, 0, 0), srow_y=(1, 1, 0, 0)), f"affine is singular .*; {REPAIR}"),
    "singular, mgz": (MGZ, changed("mgh", Mdc=np.ones((3, 3))), f"affine is singular .*; {REPAIR}"),
    "affine NaN": (NII, changed(srow_x=(1, 0, 0, np.nan)), f"affine is not a finite 4 × 4 matrix; {REPAIR}"),
    "affine infinite": (NII, changed(srow_z=(0, 0, np.inf, 0)), "affine is not a finite 4 × 4 matrix"),
    "far away": (NII, changed(srow_y=(0, 1, 0, 3e37)), f"first voxel lies 3e.31 km from the origin; {REPAIR}"),
    "no codes": (NII, changed(sform_code=0), "codes are both 0, so left and right are unknown; set one of them"),
    "unknown codes": (NII, changed(sform_code=77, qform_code=-5), "codes are both 0, so left and right"),
    "no directions, mgz": (MGZ, changed("mgh", goodRASFlag=0), "goodRASFlag is 0, so left and right are unknown"),
    "quaternion": (
        NII,
        changed(sform_code=0, qform_code=1, quatern_b=1, quatern_c=1, quatern_d=1),
        f"qform is no rotation .*; {REPAIR}",
    ),
    "quaternion NaN": (
        NII,
        changed(sform_code=0, qform_code=1, quatern_b=np.nan),
        f"a.nii: (qform is no rotation|affine is not a finite).*; {REPAIR}",
    ),
    "huge": (GZ, voxels(SCAN, np.diag([30, 1, 1, 1])), "600.* 22.* 18.* mm, wanted 15 to 400 mm"),
    "tiny": (GZ, voxels(SCAN, np.diag([0.1, 0.1, 0.1, 1])), "field of view .* mm, wanted 15 to 400 mm"),
}
