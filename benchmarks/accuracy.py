"""Dice on labelled scans: as they are, contrast-inverted, and thickened to 5 mm along each axis.

    python benchmarks/accuracy.py DATA [--model head] [--no-flip] [--csv FILE]

DATA is a folder with a `data.toml`, or such a file (see `phantomseg.evaluation.dataset.find_cases`), for instance

    folder = "miccai2012"
    image = "*_SS.nii.gz"
    reference = "*_glm.nii.gz"
    labels = "neuromorphometrics"

Left and right are merged; the mean is over the 14 structures marked with a star. The laterality error is the share
of voxels on the wrong side among those with the right structure, its mean over scans.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phantomseg.evaluation.dataset import find_cases
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.evaluation.laterality import laterality_error
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.models import find_model
from phantomseg.network.model import Model
from phantomseg.runtime import choose_device, keep_freed_memory, set_threads
from phantomseg.studies.degrade import inverted, thickened
from phantomseg.studies.views import SIXTEEN

MEAN_OF = SIXTEEN[:14]
ALSO = SIXTEEN[14:]

CONDITIONS = {
    "as is": lambda scan: scan,
    "inverted": inverted,
    "5 mm axis 0": lambda scan: thickened(scan, 0),
    "5 mm axis 1": lambda scan: thickened(scan, 1),
    "5 mm axis 2": lambda scan: thickened(scan, 2),
}


def ready(name: str) -> Model:
    """The model on the best device, threads and memory as the command line sets them."""
    set_threads()
    keep_freed_memory()
    model = find_model(name)
    model.network.to(choose_device())
    return model


def save(table: Iterable[Iterable[object]], path: Path | None) -> None:
    """Write the rows as CSV, where that is asked for."""
    if path:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(table)


def scoring(text: str, *folders: str) -> argparse.ArgumentParser:
    """What every benchmark that scores a model is told; `text` is its module's, `folders` are DATA by default."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    for name in folders or ("data",):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="head")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--csv", type=Path)
    return parser


def main() -> None:
    """Print the table."""
    parser = scoring(__doc__)
    parser.add_argument("--only", choices=list(CONDITIONS), help="run one condition")
    arguments = parser.parse_args()
    model = ready(arguments.model)
    cases, chosen = find_cases(arguments.data), label_set("evaluation")
    wanted = [arguments.only] if arguments.only else list(CONDITIONS)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    sides: dict[str, list[float]] = {name: [] for name in wanted}
    seconds = []
    for case in cases:
        scan, reference = case.read()
        for name in wanted:
            changed = CONDITIONS[name](scan)
            started = time.perf_counter()
            found = segment(changed, model, "freesurfer", arguments.flip).image.voxels
            seconds.append(time.perf_counter() - started)
            scores[name].append(structure_dice(found, reference.voxels, chosen, merged=True))
            sides[name].append(laterality_error(found, reference.voxels, chosen))
    rows = [(f"{structure} *", structure) for structure in MEAN_OF] + [(structure, structure) for structure in ALSO]
    print(f"{'structure':28}" + "".join(f"{name:>13}" for name in wanted))
    table = [["structure", *wanted]]
    for shown, structure in rows:
        values = [float(np.mean([row[structure] for row in scores[name]])) for name in wanted]
        print(f"{shown:28}" + "".join(f"{value:13.3f}" for value in values))
        table.append([structure, *(f"{value:.4f}" for value in values)])
    for title, structures in (("mean of 14 *", MEAN_OF), ("mean of 16", MEAN_OF + ALSO)):
        values = [float(np.mean([row[s] for row in scores[name] for s in structures])) for name in wanted]
        print(f"{title:28}" + "".join(f"{value:13.3f}" for value in values))
        table.append([title, *(f"{value:.4f}" for value in values)])
    swapped = [100 * float(np.mean(sides[name])) for name in wanted]
    print(f"{'wrong side, % of voxels':28}" + "".join(f"{value:13.2f}" for value in swapped))
    table.append(["wrong side, % of voxels", *(f"{value:.2f}" for value in swapped)])
    for number, case in enumerate(cases):
        values = [np.mean([scores[name][number][s] for s in MEAN_OF]) for name in wanted]
        print(f"  {case.name:26}" + "".join(f"{value:13.3f}" for value in values))
    print(f"{len(cases)} scans, flip averaging {'on' if arguments.flip else 'off'}, {np.mean(seconds):.1f} s a scan")
    save(table, arguments.csv)


if __name__ == "__main__":
    main()
