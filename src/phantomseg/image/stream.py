"""A file of a scan opened, compressed or not as its first bytes say, whatever its name."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from phantomseg.errors import PhantomSegError, ScanError, one_sentence

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")
MOST_EXPANSION = 1100  # deflate makes at most 1032 bytes of one
GZIP = b"\x1f\x8b"
NAMED, COMMENTED = 8, 16  # flags of a gzip file
HEAD_BYTES = 2**16
LONGEST_REASON = 160  # letters; some libraries tell all they read
OTHER_KINDS = {
    GZIP: "packed twice; unpack it once",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ": "an xz file; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd file; unpack it first",
    b"\x89PNG": "a PNG picture; wanted the scan itself",
    b"\xff\xd8\xff": "a JPEG picture; wanted the scan itself",
    b"\x89HDF": "an HDF5 or MINC file; convert it to NIfTI first",
    b"CDF": "a MINC file; convert it to NIfTI first",
    b"NRRD": "an NRRD file; convert it to NIfTI first",
    b"<": "a web page or XML text; download the scan itself",
}


@dataclass(frozen=True, eq=False)
class Stream:
    """Bytes of a file as they are after unpacking, and how many there can be at most."""

    path: Path
    content: IO[bytes]
    most_bytes: int
    packed: bool

    def take(self, count: int) -> bytes:
        """The next bytes, all of them.

        Raises:
            ScanError: the file ends before.
        """
        taken = self.content.read(count)
        if len(taken) < count:
            raise ScanError(f"{self.path} ends before its voxels do; the file is cut short, copy it again")
        return taken


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """A scan's file, ready to read; whatever goes wrong meanwhile becomes one sentence.

    Raises:
        ScanError: missing, a folder, another kind of file, empty, or damaged.
    """
    with explained(path):
        check_name(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD_BYTES)
            file.seek(0)
            if not head.startswith(GZIP):
                _check_kind(path, head)
                yield Stream(path, file, size, packed=False)
                return
            # without an end, the name in the file would be read to the end, a byte at a time
            if len(head) < 18 or (head[3] & (NAMED | COMMENTED) and b"\0" not in head[10:]):
                raise ScanError(f"{path} is a gzip file that is damaged or cut short; copy it again")
            with gzip.GzipFile(fileobj=file) as unpacked:
                _check_kind(path, unpacked.peek(132))
                yield Stream(path, unpacked, size * MOST_EXPANSION, packed=True)  # type: ignore[arg-type]


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Any failure to read `path` told in one sentence that names it."""
    try:
        yield
    except PhantomSegError:
        raise
    except MemoryError as error:
        raise ScanError(f"{path} needs more memory than there is; crop it, or use a larger machine") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or one_sentence(error)
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise ScanError(f"{path} cannot be read as an image ({reason}); copy or convert it again") from error


def check_name(path: Path) -> None:
    """Refuse what is no file, or not one of a scan by its name.

    Raises:
        ScanError: says what it is instead.
    """
    if path.is_dir():
        raise ScanError(f"{path} is a folder, wanted a scan, or a folder with a DICOM series that may be read")
    if not path.is_file():
        raise ScanError(f"{path} does not exist or is no file; check the path")
    name = path.name.lower()
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        raise ScanError(f"{path} is half of a pair of .hdr and .img; convert the pair to one .nii.gz file first")
    if not name.endswith(SUFFIXES):
        if is_dicom(path):
            raise ScanError(f"{path} is one DICOM image; give the folder of its series instead")
        raise ScanError(f"{path} is not a {', '.join(SUFFIXES)} file; convert it to NIfTI first")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _check_kind(path: Path, head: bytes) -> None:
    if not head:
        raise ScanError(f"{path} is empty; copy it again")
    if head[128:132] == b"DICM":
        raise ScanError(f"{path} is one DICOM image by its content; give the folder of its series instead")
    for magic, kind in OTHER_KINDS.items():
        if head.startswith(magic):
            raise ScanError(f"{path} is {kind}")
