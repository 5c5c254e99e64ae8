"""How much accuracy is lost when the same scans are acquired otherwise, and how well a rescan agrees.

    python benchmarks/robustness.py DATA [--model head] [--no-flip] [--csv FILE]

DATA as in accuracy.py. The score is the mean Dice of the 16 structures of accuracy.py, left and right merged.

- slices of 3, 5 and 7 mm along each axis;
- contrast inverted; a smooth gain (log standard deviation 0.3); noise of 5 % of the brightest tissue;
- the head turned by 20° about each axis (scan and reference resampled alike); voxels 0.8 and 1.2 times as large;
- rescan: two simulated acquisitions with different gain, noise, contrast curve and sharpness, labelled one against the
  other: Dice of grey matter (cerebral cortex), beside that of each against the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from accuracy import ALSO, MEAN_OF, ready, save, scoring
from scipy import ndimage

from phantomseg.evaluation.dataset import find_cases
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model
from phantomseg.studies.degrade import acquisitions, gained, inverted, noisy, thickened

Pair = tuple[Image, Image]  # scan, reference
STRUCTURES = MEAN_OF + ALSO


def turned(pair: Pair, axis: int, degrees: float = 20.0) -> Pair:
    """Scan (linear) and reference (nearest) turned about an axis through the middle."""
    scan, reference = pair
    plane = tuple(a for a in range(3) if a != axis)
    moved = ndimage.rotate(scan.voxels, degrees, plane, reshape=False, order=1)
    labels = ndimage.rotate(reference.voxels, degrees, plane, reshape=False, order=0)
    return scan.with_voxels(moved), reference.with_voxels(labels)


def scaled(pair: Pair, factor: float) -> Pair:
    """The same voxels, `factor` times as large."""
    larger = np.diag([factor, factor, factor, 1.0])
    scan, reference = (Image(image.voxels, larger @ image.affine) for image in pair)
    return scan, reference


def on_scan(change: Callable[[Image], Image]) -> Callable[[Pair], Pair]:
    """A condition that leaves the reference alone."""
    return lambda pair: (change(pair[0]), pair[1])


CONDITIONS: dict[str, Callable[[Pair], Pair]] = {
    "as is": lambda pair: pair,
    "inverted": on_scan(inverted),
    **{
        f"{mm} mm, axis {axis}": on_scan(lambda scan, mm=mm, axis=axis: thickened(scan, axis, mm))
        for mm in (3, 5, 7)
        for axis in range(3)
    },
    "gain": on_scan(lambda scan: gained(scan, 1)),
    "noise": on_scan(lambda scan: noisy(scan, 1)),
    **{f"20 degrees, axis {axis}": lambda pair, axis=axis: turned(pair, axis) for axis in range(3)},
    "scaled by 0.8": lambda pair: scaled(pair, 0.8),
    "scaled by 1.2": lambda pair: scaled(pair, 1.2),
}


def mean_dice(scan: Image, reference: Image, model: Model, flip: bool) -> float:
    """Mean over the 16 structures."""
    found = segment(scan, model, "freesurfer", flip).image.voxels
    dice = structure_dice(found, reference.voxels, label_set("evaluation"), merged=True)
    return float(np.mean([dice[name] for name in STRUCTURES]))


def rescan(pair: Pair, model: Model, flip: bool) -> list[float]:
    """Dice of the cortex: first against second acquisition, each against the reference."""
    maps = [segment(scan, model, "freesurfer", flip).image.voxels for scan in acquisitions(pair[0])]
    pairs = ((maps[0], maps[1]), (maps[0], pair[1].voxels), (maps[1], pair[1].voxels))
    chosen = label_set("evaluation")
    return [structure_dice(a, b, chosen, merged=True)["cerebral cortex"] for a, b in pairs]


def main() -> None:
    """Print the table."""
    arguments = scoring(__doc__).parse_args()
    model = ready(arguments.model)
    pairs = [case.read() for case in find_cases(arguments.data)]
    table = []
    for name, change in CONDITIONS.items():
        score = float(np.mean([mean_dice(*change(pair), model, arguments.flip) for pair in pairs]))
        table.append((name, score, round(score - (table[0][1] if table else score), 4)))
        print(f"{name:20}{score:8.3f}{table[-1][2]:+8.3f}", flush=True)
    for mm in (3, 5, 7):
        scores = [row[1] for row in table if row[0].startswith(f"{mm} mm")]
        table.append((f"{mm} mm, mean", float(np.mean(scores)), round(float(np.mean(scores)) - table[0][1], 4)))
        print(f"{table[-1][0]:20}{table[-1][1]:8.3f}{table[-1][2]:+8.3f}")
    scores = np.mean([rescan(pair, model, arguments.flip) for pair in pairs], axis=0).tolist()
    for name, score in zip(("first to second", "first to labels", "second to labels"), scores, strict=True):
        table.append((f"rescan, cortex, {name}", score, ""))
        print(f"{table[-1][0]:32}{score:8.3f}")
    save([("condition", "dice", "difference"), *table], arguments.csv)


if __name__ == "__main__":
    main()
