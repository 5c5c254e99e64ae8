"""One real scan, stored and spoiled in every way we know: is the grid kept, and are the labels those of the plain scan?

    python benchmarks/torture.py SCAN [--model head] [--keep DIR] [--quick] [--csv FILE]

SCAN is a 1 mm scan. Each condition of `distortions.py` is written to a file, read, segmented and written as
`phantomseg segment` does it; then

- shape, affine and header codes of the label map must be those of the file;
- the label map is compared with that of the plain scan, brought to the same grid: by the same flips and cuts; to finer
  voxels by nearest neighbour; to coarser ones by majority (each label's share of the volume of the voxel, the largest
  wins), which is what a perfect segmenter of the fine scan would say there. Dice is the mean over the 16 structures of
  accuracy.py, those with at least 20 voxels there, left and right merged, and each side by itself.

Exit code 1 if any geometry differs, or a Dice is below 0.90 where no voxel is longer than 3 mm.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from accuracy import ALSO, MEAN_OF, ready, save
from distortions import Condition, conditions

from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.image.files import read_image, write_image
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model

LEAST_DICE = 0.90
COARSEST_MM = 3.0
LEAST_VOXELS = 20
FREESURFER = label_set("freesurfer")
CODES = ("sform_code", "qform_code", "pixdim", "xyzt_units", "srow_x", "srow_y", "srow_z")
CODES += ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


@dataclass(frozen=True)
class Row:
    """What came out of one condition: what of the geometry differs, and the mean Dice of `structures` structures."""

    name: str
    shape: tuple[int, ...]
    longest_mm: float
    differs: tuple[str, ...]
    merged: float
    apart: float
    structures: int
    identical: bool
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether this must not be."""
        bad = not min(self.merged, self.apart) >= LEAST_DICE
        return bool(self.differs) or (bad and self.longest_mm <= COARSEST_MM + 0.01)

    def __str__(self) -> str:
        """One line of the table."""
        shape = " × ".join(str(n) for n in self.shape)
        kept = ", ".join(self.differs) or "kept"
        note = "identical" if self.identical else ""
        return (
            f"{self.name:24}{shape:>16}{self.longest_mm:6.1f}  {kept:8}{self.merged:8.3f}{self.apart:8.3f}"
            f"{self.structures:5d}{self.seconds:7.1f} s  {note:10}{'FAILED' if self.failed else ''}"
        )


def tortured(condition: Condition, model: Model, folder: Path) -> Row:
    """Write, read, segment, write, read back, compare."""
    path, written = folder / condition.file, folder / f"{condition.file.split('.')[0]}_dseg.nii.gz"
    condition.write(path)
    started = time.perf_counter()
    scan = read_image(path, condition.volume)
    write_image(written, segment(scan, model, "freesurfer").image)
    seconds = time.perf_counter() - started
    found = np.asarray(nib.load(written).dataobj)
    merged, apart, count = dice(found, condition.reference) if found.shape == condition.reference.shape else (0, 0, 0)
    return Row(
        name=condition.name,
        shape=found.shape,
        longest_mm=float(scan.spacing_mm.max()),
        differs=differences(path, written),
        merged=merged,
        apart=apart,
        structures=count,
        identical=np.array_equal(found, condition.reference),
        seconds=seconds,
    )


def differences(path: Path, written: Path) -> tuple[str, ...]:
    """What of the geometry of a file is not in its label map."""
    given, found = nib.load(path), nib.load(written)
    names = []
    if given.shape[:3] != found.shape:
        names.append("shape")
    exact = isinstance(given, nib.Nifti1Image)
    if not (np.array_equal if exact else np.allclose)(given.affine, found.affine):
        names.append("affine")
    for code in CODES if exact else ():
        values = [
            np.asarray(image.header[code])[..., :4] if code == "pixdim" else image.header[code]
            for image in (given, found)
        ]
        if code == "xyzt_units":
            values = [int(value) & 7 for value in values]
        if not np.array_equal(*values):
            names.append(code)
    return tuple(names)


def dice(found: np.ndarray, reference: np.ndarray) -> tuple[float, float, int]:
    """Mean with the sides merged, mean of each side by itself, and how many merged structures there are."""
    counts = np.bincount(reference.ravel(), minlength=int(FREESURFER.ids.max()) + 1)
    voxels: dict[str, int] = {}
    for label in FREESURFER.labels:
        voxels[label.structure] = voxels.get(label.structure, 0) + int(counts[label.id])
    means, structures = [], [name for name in MEAN_OF + ALSO if voxels[name] >= LEAST_VOXELS]
    for merged in (True, False):
        scores = structure_dice(found, reference, FREESURFER, merged)
        if merged:
            wanted = structures
        else:
            of = {label.name: label for label in FREESURFER.labels}
            wanted = [n for n in scores if of[n].structure in MEAN_OF + ALSO and counts[of[n].id] >= LEAST_VOXELS]
        means.append(float(np.mean([scores[name] for name in wanted])))
    return means[0], means[1], len(structures)


@contextlib.contextmanager
def place(kept: Path | None) -> Iterator[Path]:
    """A folder for the files: one that stays, or one that goes."""
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--model", default="head")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files there")
    parser.add_argument("--quick", action="store_true", help="one or two of each kind")
    parser.add_argument("--only", default="", metavar="TEXT", help="conditions whose name holds this")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    model = ready(arguments.model)
    plain = read_image(arguments.scan)
    labels = segment(plain, model, "freesurfer").image.voxels
    rows: list[Row] = []
    print(f"{'condition':24}{'shape':>16}{'mm':>6}  {'grid':8}{'merged':>8}{'apart':>8}{'of':>5}{'time':>9}")
    with place(arguments.keep) as folder:
        for condition in conditions(plain, labels, arguments.quick):
            if arguments.only in condition.name:
                rows.append(tortured(condition, model, folder))
                print(rows[-1], flush=True)
            if not arguments.keep:
                for path in folder.iterdir():
                    path.unlink()
    save([list(vars(rows[0])), *(list(vars(row).values()) for row in rows)], arguments.csv)
    print(f"\n{len(rows)} conditions; the worst:")
    for row in sorted(rows, key=lambda row: min(row.merged, row.apart))[:8]:
        print(row)
    failed = [row for row in rows if row.failed]
    print(f"{len(failed)} failed" + "".join(f"\n  {row.name}" for row in failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
