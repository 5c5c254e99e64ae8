"""Who training is thin on: newborns, fetuses, old brains whose cortex gets thinner, lesions of the white matter.

    python benchmarks/populations.py NEONATES FETUSES TEMPLATES [--model head] [--no-flip] [--heads 8] [--csv FILE]

NEONATES holds `NAME_T1w.nii.gz`, `NAME_T2w.nii.gz` and `NAME_tissues.nii.gz` (values of ALBERTs: 2 cortex, 3, 5 and 6
white matter), FETUSES `NAME_T2w.nii.gz` and `NAME_labels.nii.gz` (5 cortex, 1 and 8 white matter, 2 ventricles), of
which those that are never trained on are scored. TEMPLATES is a folder of label maps as for `phantomseg train`: heads
of theirs are thinned as in `phantomseg study atrophy`, others, under new poses and seeds that training cannot draw, get
lesions, in the contrast of T1-weighted scans and of FLAIR.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accuracy import ready, save, scoring
from heads import RECIPE, Contrast, drawn_head, load_fine

from phantomseg.evaluation.overlap import overlap
from phantomseg.image.files import read_image, read_labels, scan_paths
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model
from phantomseg.studies.atrophy import LEVELS_MM
from phantomseg.studies.t1like import draw_contrast
from phantomseg.studies.thinning import thinned
from phantomseg.synth.recipe import parse_recipe
from phantomseg.synth.templates import Templates

KEPT_ASIDE = ("GA24_notoperated", "GA28_operated", "GA33_operated")
CORTEX, WHITE, LESIONS = (3, 42), (2, 41), (25, 57)
VENTRICLES = (4, 5, 14, 15, 43, 44)
SEED = 2**31 + 13  # the command line takes smaller ones
LESION_RECIPE = {
    **RECIPE,
    "findings": {
        "lesions_removed_probability": 1.0,
        "lesions_pasted_probability": 1.0,
        "lesion_load": {"loguniform": [0.008, 0.06]},
        "lesion_mm": {"loguniform": [4, 15]},
    },
}
LEAST_ML = 5.0  # of lesions, that their Dice is told of
FLAIR = {
    "csf": (25, 8), "white matter": (115, 8), "cortical grey matter": (140, 9), "subcortical grey matter": (140, 9),
    "lesion": (205, 15), "brain-stem": (120, 9), "cerebellum": (140, 9),
}  # fmt: skip
Row = tuple[str, float, float]  # what, mean, worst


def newborns(folder: Path, model: Model, flip: bool) -> Iterator[Row]:
    """Dice of cortex and white matter for each contrast."""
    for contrast in ("T1w", "T2w"):
        pairs: list[tuple[float, float]] = []
        for path in sorted(folder.glob(f"*_{contrast}.nii.gz")):
            found = segment(read_image(path), model, "freesurfer", flip).image.voxels
            truth = read_labels(path.with_name(path.name.replace(contrast, "tissues"))).voxels
            pairs.append((dice_of(found, truth, CORTEX, (2,)), dice_of(found, truth, WHITE, (3, 5, 6))))
        if not pairs:
            raise SystemExit(f"no scans in {folder}, wanted NAME_{contrast}.nii.gz and NAME_tissues.nii.gz")
        for name, values in zip(("cortex", "white matter"), np.array(pairs).T, strict=True):
            yield f"newborns {contrast}: {name}", float(values.mean()), float(values.min())


def fetuses(folder: Path, model: Model, flip: bool) -> Iterator[Row]:
    """Dice of cortex, white matter and ventricles of the templates that are kept aside."""
    rows = []
    for name in KEPT_ASIDE:
        found = segment(read_image(folder / f"{name}_T2w.nii.gz"), model, "freesurfer", flip).image.voxels
        truth = read_labels(folder / f"{name}_labels.nii.gz").voxels
        wanted = ((CORTEX, (5,)), (WHITE, (1, 8)), (VENTRICLES, (2,)))
        rows.append([dice_of(found, truth, ours, theirs) for ours, theirs in wanted])
    for name, values in zip(("cortex", "white matter", "ventricles"), np.array(rows).T, strict=True):
        yield f"fetuses T2w: {name}", float(values.mean()), float(values.min())


def atrophy(folder: Path, heads: int, model: Model, flip: bool) -> Iterator[Row]:
    """Relative error of the atrophy of the cortex in percent, and the share of heads that show the smallest step."""
    errors, seen = [], []
    for number, path in enumerate(scan_paths(folder)[:heads]):
        levels = [thinned(path, mm, number, level) for level, mm in enumerate(LEVELS_MM)]
        volumes = [cortex_mm3(one.image, model, flip) for one in levels]
        induced = [100 * (1 - one.cortex_mm3 / levels[0].cortex_mm3) for one in levels[1:]]
        predicted = [100 * (1 - volume / volumes[0]) for volume in volumes[1:]]
        errors.append(float(np.mean([100 * abs(p - i) / i for p, i in zip(predicted, induced, strict=True)])))
        seen.append(float(predicted[0] > 0))
    yield "atrophy: relative error, %", float(np.mean(errors)), float(np.max(errors))
    yield f"atrophy: {LEVELS_MM[1]:g} mm seen, share of heads", float(np.mean(seen)), float(np.min(seen))


def dice_of(found: np.ndarray, truth: np.ndarray, ours: tuple[int, ...], theirs: tuple[int, ...]) -> float:
    """Dice of some values of one label map and some of another."""
    masks = [np.isin(values, wanted).astype(np.uint8) for values, wanted in ((found, ours), (truth, theirs))]
    return float(overlap(*masks, np.array([1])).dice[0])


def cortex_mm3(scan: Image, model: Model, flip: bool) -> float:
    """Volume of the cerebral cortex in the label map."""
    found = segment(scan, model, "freesurfer", flip)
    return sum(one.hard_mm3 for one in found.structures if one.name.endswith("cerebral cortex"))


def lesions(templates: Templates, heads: int, model: Model, flip: bool) -> Iterator[Row]:
    """Dice and error of the volume, in percent, of lesions of 5 ml and more."""
    recipe = parse_recipe(LESION_RECIPE)
    for kind, contrast in (("T1", draw_contrast), ("FLAIR", flair_contrast)):
        dice, errors = [], []
        for index in range(heads):
            scan, values = drawn_head(recipe, templates, SEED, index, contrast)
            truth = np.isin(values, LESIONS)
            if truth.sum() < LEAST_ML * 1000:
                continue
            found = segment(scan, model, "lesions", flip).image.voxels
            dice.append(dice_of(found, truth, (77,), (1,)))
            errors.append(abs(100 * ((found == 77).sum() / truth.sum() - 1)))
        if not dice:
            raise SystemExit(f"none of {heads} heads has {LEAST_ML:g} ml of lesions; give more --heads")
        yield f"lesions, {kind}-like: Dice", float(np.mean(dice)), float(np.min(dice))
        yield f"lesions, {kind}-like: error of the volume, %", float(np.mean(errors)), float(np.max(errors))


def flair_contrast(rng: np.random.Generator) -> Contrast:
    """Mean and standard deviation of each channel, as in FLAIR: lesions are brighter than all else of the brain."""
    mean, std = draw_contrast(rng)
    pairs = [
        FLAIR.get(label.tissue, (m, s)) for label, m, s in zip(label_set("generation").labels, mean, std, strict=True)
    ]
    means, spreads = zip(*pairs, strict=True)
    return means, spreads


def main() -> None:
    """Print the table."""
    parser = scoring(__doc__, "neonates", "fetuses", "templates")
    parser.add_argument("--heads", type=int, default=8)
    arguments = parser.parse_args()
    model, flip = ready(arguments.model), arguments.flip
    table: list[tuple[object, ...]] = [("measure", "mean", "worst")]
    rows = [
        newborns(arguments.neonates, model, flip),
        fetuses(arguments.fetuses, model, flip),
        atrophy(arguments.templates, arguments.heads, model, flip),
    ]
    if model.reaches("lesions"):
        rows.append(lesions(load_fine(arguments.templates), arguments.heads, model, flip))
    for name, mean, worst in (row for group in rows for row in group):
        digits = 1 if "%" in name else 3
        table.append((name, f"{mean:.{digits}f}", f"{worst:.{digits}f}"))
        print(f"{name:44}{mean:>10.{digits}f}{worst:>10.{digits}f}", flush=True)
    save(table, arguments.csv)


if __name__ == "__main__":
    main()
