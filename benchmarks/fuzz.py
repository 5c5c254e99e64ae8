"""Damaged files by the thousand: each is read, or refused in one sentence, soon and in little memory.

    python benchmarks/fuzz.py [--minutes 10] [--seed 0] [--folder fuzz_found]

Bytes of tiny valid files are changed, mostly those of the header: NIfTI-1, plain and packed (before or after packing),
big-endian, with a slope, of several volumes, NIfTI-2, MGH, MGZ, and one file of a DICOM series. What can be read is
checked, and segmented by a small random network where that takes no time. A process of its own does this, with a cap
on its memory and ten seconds for each file. Files that it fails on are kept in the folder; exit code 1 then.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import io
import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from phantomseg.errors import PhantomSegError

SECONDS = 10
MEMORY = 2 * 2**30  # beyond what the process has when it begins
SEGMENTED_MM3 = 80.0**3  # fields of view up to this are segmented
HEADER_BYTES, HEADER_SHARE = 560, 0.75
GOOD = ("segmented", "read", "doubted", "refused")
BAD = ("traceback", "hang", "memory", "crash")
NUMBERS = (0, -1, 1, 7, 255, 32767, -32768, 2**31 - 1, -(2**31), 2**62, -(2**63), 1e-30, -1e-3, 1e9, 1e38, -1e300)
KINDS = ("nii", "nii.gz", "gzip", "big-endian", "scaled", "4-D", "NIfTI-2", "mgh", "mgz", "dicom")


def seed_file(kind: str) -> tuple[str, bytes]:
    """Name and content of a valid file of a kind, before packing."""
    i, j, k = np.indices((18, 20, 16))
    distance = ((i - 8.5) / 8) ** 2 + ((j - 9.5) / 9) ** 2 + ((k - 7.5) / 7) ** 2
    head = np.where(distance < 1, 400 + 300 * np.cos(6 * distance), 10 + (i + j + k) % 7).astype(np.float32)
    affine = np.array([[-1.1, 0, 0, 10], [0, 1, 0.1, -10], [0, -0.1, 1.2, -9], [0, 0, 0, 1]])
    if kind == "NIfTI-2":
        return "a.nii", nib.Nifti2Image(head, affine).to_bytes()
    if kind in ("mgh", "mgz"):
        return f"a.{kind}", nib.MGHImage(head, affine).to_bytes()
    header = nib.Nifti1Header(endianness=">" if kind == "big-endian" else "<")
    if kind == "scaled":
        header.set_data_dtype(np.int16)
        header.set_slope_inter(0.5, -20)
    if kind == "4-D":
        head = np.stack([head, head + 5, head * 2], axis=-1)
    file = nib.Nifti1Image(head, affine, header)
    file.set_qform(affine, code=1)
    return "a.nii.gz" if kind.startswith("nii.gz") else "a.nii", file.to_bytes()


def seed_series() -> list[bytes]:
    """A valid DICOM series of eight files."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    files = []
    for number in range(8):
        image, meta = Dataset(), FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        image.file_meta, image.SOPClassUID, image.SOPInstanceUID = meta, CTImageStorage, f"1.2.{number + 1}"
        image.SeriesInstanceUID, image.Modality = "1.2", "CT"
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-8, -8, 3 * number]
        image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [1.0, 1.5], 1, -1024
        image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = 16, 12, 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.PixelData = (np.arange(16 * 12, dtype=np.uint16) * 7 + 90 * number).tobytes()
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Content with one to eight changes."""
    raw = bytearray(content)
    for _ in range(2 ** rng.integers(0, 4)):
        end = min(len(raw), HEADER_BYTES) if rng.random() < HEADER_SHARE else len(raw)
        at = int(rng.integers(0, max(end, 1)))
        change = rng.integers(0, 10)
        if change < 3:
            raw[at : at + 1] = bytes([rng.integers(0, 256)])
        elif change < 8:  # a number that fields of headers do not expect, where a field may begin
            number, kind = NUMBERS[rng.integers(len(NUMBERS))], rng.choice(["i2", "i4", "i8", "f4", "f8"])
            with np.errstate(all="ignore"):
                new = np.array(float(number)).astype(f"{rng.choice(['<', '>'])}{kind}").tobytes()
            raw[at // 2 * 2 : at // 2 * 2 + len(new)] = new
        elif change == 8:
            del raw[at : at + int(rng.integers(1, 64))]
        elif rng.random() < 0.3:
            del raw[at:]
        else:
            raw[at:at] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(raw)


def write_sample(folder: Path, seed: int, index: int) -> tuple[str, Path]:
    """Write the sample of a seed and an index; its kind, and the scan to read."""
    rng = np.random.default_rng([seed, index])
    kind = KINDS[index % len(KINDS)]
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "dicom":
        files = seed_series()
        hit = int(rng.integers(len(files)))
        for number, content in enumerate(files):
            (folder / f"{number}.dcm").write_bytes(damaged(content, rng) if number == hit else content)
        return kind, folder
    name, content = seed_file(kind)
    packed = name.endswith("z")
    if kind == "gzip":
        content = damaged(gzip.compress(content, 1, mtime=0), rng)
    else:
        content = damaged(content, rng)
        content = gzip.compress(content, 1, mtime=0) if packed else content
    (folder / name).write_bytes(content)
    return kind, folder / name


def work(pipe: Connection, seed: int, first: int, deadline: float) -> None:
    """Samples from `first` on until the deadline, each told as (index, kind) before and with its outcome after."""
    import torch

    from phantomseg.labels import label_set
    from phantomseg.network.model import Model, build_network

    torch.set_num_threads(1)
    config = {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}
    model = Model(build_network("fast", config).eval(), label_set("head"))
    warnings.simplefilter("error")  # a warning is noise that nobody can act on
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    index = first
    while time.time() < deadline:
        with tempfile.TemporaryDirectory() as folder:
            kind, path = write_sample(Path(folder) / "scan", seed, index)
            pipe.send((index, kind))
            signal.alarm(SECONDS)
            outcome, told = attempt(path, model)
            signal.alarm(0)
        pipe.send((outcome, told))
        index += 1


def attempt(path: Path, model: Any) -> tuple[str, str]:
    """What becomes of one file, and what is said of it."""
    from phantomseg.image.checks import check_scan
    from phantomseg.image.files import read_image, volume_count
    from phantomseg.inference.segment import segment

    try:
        scan = read_image(path, volume_count(path) - 1)
        if any(finding.level == "error" for finding in check_scan(scan)):
            return "doubted", ""
        if np.prod(scan.spacing_mm * scan.shape) > SEGMENTED_MM3:
            return "read", ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on its own account
            segment(scan, model)
        return "segmented", ""
    except PhantomSegError as error:
        text = str(error)
        if "more memory than there is" in text:
            return "memory", text
        whole = "\n" not in text and len(text) < 600
        return ("refused" if whole else "traceback"), text
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception as error:  # noqa: BLE001  # this is what is looked for
        return ("memory" if "allocate" in str(error) else "traceback"), traceback.format_exc()


def run(seed: int, deadline: float, keep: Path) -> collections.Counter[tuple[str, str]]:
    """Start processes until the deadline, one at a time; counts of (kind, outcome)."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    context = multiprocessing.get_context("spawn")
    index = 0
    while time.time() < deadline:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(theirs, seed, index, deadline))
        process.start()
        theirs.close()
        begun = None
        with contextlib.suppress(EOFError):
            while True:
                begun = ours.recv()
                outcome, told = ours.recv()
                count(counts, keep, (seed, *begun), outcome, told)
                begun, index = None, begun[0] + 1
        process.join()
        if begun is not None:
            ended = "hang" if process.exitcode == -signal.SIGALRM else "crash"
            count(counts, keep, (seed, *begun), ended, f"process ended with code {process.exitcode}")
            index = begun[0] + 1
        elif process.exitcode:
            sys.exit(f"the process that reads could not start (code {process.exitcode})")
    return counts


def count(counts: Any, keep: Path, sample: tuple[int, int, str], outcome: str, told: str) -> None:
    """Count an outcome; keep the input if it is a bad one."""
    seed, index, kind = sample
    counts[kind, outcome] += 1
    if outcome in BAD:
        folder = keep / f"{outcome}-{seed}-{index}"
        shutil.rmtree(folder, ignore_errors=True)
        write_sample(folder, seed, index)
        (folder / "what.txt").write_text(told, encoding="utf-8")
        print(f"{outcome}: {folder}\n{told}", flush=True)


def main() -> None:
    """Print how many of each kind came to what."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("fuzz_found"), help="for the files that it fails on")
    given = parser.parse_args()
    counts = run(given.seed, time.time() + 60 * given.minutes, given.folder)
    table = Table("files", *GOOD, *BAD, box=None)
    for kind in (*KINDS, "all"):
        numbers = [
            sum(n for (of, what), n in counts.items() if what == name and kind in (of, "all")) for name in GOOD + BAD
        ]
        table.add_row(kind, *(str(number) for number in numbers))
    Console().print(table)
    sys.exit(any(what in BAD for _, what in counts))


if __name__ == "__main__":
    main()
