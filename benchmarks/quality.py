"""Does the predicted Dice follow the true one on degraded real scans, and do the volume intervals hold?

    python benchmarks/quality.py DATA [--model head] [--no-flip] [--csv FILE] [--picture FILE]

DATA as in accuracy.py. Each scan is segmented as it is and with worse acquisitions: thick slices, coarse voxels, noise,
gain, ghosts, a cut field of view, and several at once. Left and right count apart. Printed are the rank correlations
(Spearman) of predicted and true Dice over all structures of all scans, within each structure (mean over structures),
and of the means of each scan; how many scans below the threshold are found; and how often the manual volume lies in
the 90 % interval, which the difference of protocols keeps low for some structures: see the coverage by structure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from accuracy import ready, save, scoring
from matplotlib.figure import Figure
from scipy import ndimage, stats

from phantomseg.evaluation.dataset import find_cases
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.studies.degrade import gained, inverted, noisy, thickened

LEAST_VOXELS = 20
Change = Callable[[Image], Image]


def coarse(scan: Image, mm: float) -> Image:
    """Isotropic voxels of `mm`, linearly back on the grid."""
    for axis in range(3):
        scan = thickened(scan, axis, mm)
    return scan


def ghosted(scan: Image, strength: float, shift: float = 0.3) -> Image:
    """Plus copies shifted along the second axis, as periodic motion makes them."""
    moved = [np.roll(scan.voxels, round(sign * shift * scan.shape[1]), axis=1) for sign in (-1, 1)]
    return scan.with_voxels((scan.voxels + strength * (moved[0] + moved[1])).astype(np.float32))


def shaken(scan: Image, degrees: float) -> Image:
    """Frequencies of three poses in turn, as motion between blocks of lines makes them."""
    poses = [ndimage.rotate(scan.voxels, d, (0, 1), reshape=False, order=1) for d in (0, degrees, -degrees)]
    spectra = [np.fft.fft(pose, axis=1) for pose in poses]
    which = (np.arange(scan.shape[1]) // 12) % 3
    mixed = np.stack([spectra[n][:, m] for m, n in enumerate(which)], axis=1)
    return scan.with_voxels(np.abs(np.fft.ifft(mixed, axis=1)).astype(np.float32))


CONDITIONS: dict[str, Change] = {
    "as is": lambda scan: scan,
    "inverted": inverted,
    "slices of 6 mm": lambda scan: thickened(scan, 2, 6.0),
    "slices of 10 mm": lambda scan: thickened(scan, 1, 10.0),
    "3 mm": lambda scan: coarse(scan, 3.0),
    "5 mm": lambda scan: coarse(scan, 5.0),
    "8 mm": lambda scan: coarse(scan, 8.0),
    "noise of 10 %": lambda scan: noisy(scan, 1, 0.1),
    "noise of 25 %": lambda scan: noisy(scan, 2, 0.25),
    "noise of 50 %": lambda scan: noisy(scan, 3, 0.5),
    "gain": lambda scan: gained(scan, 4, 0.8),
    "ghosts": lambda scan: ghosted(scan, 0.35),
    "motion of 4 degrees": lambda scan: shaken(scan, 4.0),
    "noise, gain, slices of 5 mm": lambda scan: thickened(noisy(gained(scan, 5, 0.5), 6, 0.3), 0, 5.0),
}


def main() -> None:
    """Print the figures."""
    parser = scoring(__doc__)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    model, chosen = ready(arguments.model), label_set("evaluation")
    rows: list[tuple[str, str, str, float, float, bool]] = []
    threshold = float("nan")
    for case in find_cases(arguments.data):
        scan, reference = case.read()
        counts = {label.name: int((reference.voxels == label.id).sum()) for label in chosen.labels}
        for condition, change in CONDITIONS.items():
            result = segment(change(scan), model, "freesurfer", arguments.flip)
            assert result.quality is not None, "the model has no calibration: run scripts/calibrate.py"
            threshold = result.quality.threshold
            dice = structure_dice(result.image.voxels, reference.voxels, chosen, merged=False)
            for row in result.structures:
                if counts.get(row.name, 0) >= LEAST_VOXELS and row.quality is not None:
                    true_mm3 = counts[row.name] * scan.voxel_volume_mm3
                    covered = (row.low_mm3 or 0) <= true_mm3 <= (row.high_mm3 or 0)
                    rows.append((case.name, condition, row.name, row.quality, dice[row.name], covered))
            last = [row for row in rows if row[:2] == (case.name, condition)]
            means = np.mean([row[3:5] for row in last], axis=0)
            print(f"{case.name:8}{condition:30} predicted {means[0]:.3f}  true {means[1]:.3f}", flush=True)
    _report(rows, threshold)
    save([("scan", "condition", "structure", "predicted", "true", "covered"), *rows], arguments.csv)
    if arguments.picture:
        _draw(arguments.picture, rows)


def _report(rows: list[tuple[str, str, str, float, float, bool]], threshold: float) -> None:
    predicted, true = (np.array([row[n] for row in rows]) for n in (3, 4))
    names = sorted({row[2] for row in rows})
    within = []
    print(f"\n{'structure':36}{'Spearman':>9}{'covered':>9}{'true':>8}{'predicted':>11}")
    for name in names:
        own = np.array([row[2] == name for row in rows])
        within.append(float(stats.spearmanr(predicted[own], true[own]).statistic))
        covered = np.mean([row[5] for row in rows if row[2] == name])
        print(f"{name:36}{within[-1]:9.2f}{covered:9.0%}{true[own].mean():8.3f}{predicted[own].mean():11.3f}")
    scans = sorted({row[:2] for row in rows})
    means = np.array([np.mean([row[3:5] for row in rows if row[:2] == scan], axis=0) for scan in scans])
    print(f"\nall structures of all scans: Spearman {stats.spearmanr(predicted, true).statistic:.3f}")
    print(f"within a structure, mean:    Spearman {np.nanmean(within):.3f}")
    print(f"means of scans:              Spearman {stats.spearmanr(*means.T).statistic:.3f}")
    poor, flagged = means[:, 1] < threshold, means[:, 0] < threshold
    print(f"below the threshold of {threshold}: {poor.sum()} of {len(means)} scans, {(poor & flagged).sum()} flagged;")
    print(f"  flagged beside them: {(flagged & ~poor).sum()}")
    print(f"manual volume in the 90 % interval: {np.mean([row[5] for row in rows]):.1%}")


def _draw(path: Path, rows: list[tuple[str, str, str, float, float, bool]]) -> None:
    """Predicted against true Dice: a dot a structure, a ring a scan."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axis.scatter([row[3] for row in rows], [row[4] for row in rows], s=5, alpha=0.35, label="structure of a scan")
    scans = sorted({row[:2] for row in rows})
    means = np.array([np.mean([row[3:5] for row in rows if row[:2] == scan], axis=0) for scan in scans])
    axis.scatter(*means.T, s=40, facecolors="none", edgecolors="C3", label="mean of a scan")
    axis.set(xlabel="predicted Dice", ylabel="true Dice", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.legend(loc="upper left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
