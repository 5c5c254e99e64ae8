"""Whole heads: a FLAIR head against labels of the same person, synthetic T1-like heads, and pictures to look at.

    python benchmarks/heads.py SCANS TEMPLATES [--model head] [--no-flip] [--number 10] [--pictures DIR] [--csv FILE]

SCANS holds `flair_head_5p5mm.nii.gz` with `flair_head_5p5mm_gif-labels_1mm.nii.gz` (values of GIF 3, on a grid of
their own), and `t1_head_0p7mm.nii.gz` and `ct_head.nii.gz` for the pictures. TEMPLATES as for `phantomseg train`.
The synthetic heads have the contrast of T1-weighted scans, the anatomy of the templates under new poses, warps and
shapes, and seeds that training cannot draw.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from accuracy import ALSO, MEAN_OF, ready, save, scoring
from scipy import ndimage

from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set, merge
from phantomseg.network.model import Model
from phantomseg.report.figures import draw_overlay
from phantomseg.studies.t1like import draw_contrast
from phantomseg.synth.generate import apply_draws, draw_sample
from phantomseg.synth.recipe import Recipe, parse_recipe
from phantomseg.synth.templates import Templates, load_templates

STRUCTURES = MEAN_OF + ALSO
Contrast = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel
PICTURES = ("t1_head_0p7mm", "t2_brain_1mm", "flair_head_5p5mm", "ct_head")
SEED = 2**31 + 7  # the command line takes smaller ones

RECIPE = {
    "target": "head",
    "pose": {
        "crop_voxels": [176, 224, 208],
        "rotation_deg": {"uniform": [-10, 10]},
        "scaling": {"uniform": [0.92, 1.08]},
        "translation_mm": {"uniform": [-5, 5]},
        "warp_std_mm": {"uniform": [1, 3]},
    },
    "shape": {
        "pial": {"probability": 0.5, "mm": {"uniform": [-0.4, 0.4]}},
        "ventricles": {"probability": 0.5, "mm": {"uniform": [-0.5, 2]}},
        "skull": {"probability": 0.5, "mm": {"uniform": [-1, 1]}},
    },
    "tissues": {},
    "bias": {"log_std": {"uniform": [0, 0.25]}, "nodes_mm": 60},
    "resolution": {
        "fine_probability": 1.0,
        "isotropic_probability": 0.0,
        "least_sigma_mm": 0.45,
        "noise_std": {"uniform": [0, 0.03]},
    },
}


def flair(folder: Path, model: Model, flip: bool) -> dict[str, float]:
    """Dice of each structure of the FLAIR head, on the grid of its reference, sides merged."""
    scan = read_image(folder / "flair_head_5p5mm.nii.gz")
    reference = read_labels(folder / "flair_head_5p5mm_gif-labels_1mm.nii.gz")
    values = merge("gif", "evaluation").apply(reference.voxels)
    found = segment(scan, model, "freesurfer", flip).image
    to_scan = np.linalg.inv(found.affine) @ reference.affine
    on_grid = ndimage.affine_transform(found.voxels, to_scan[:3, :3], to_scan[:3, 3], reference.shape, order=0)
    return structure_dice(on_grid, values, label_set("evaluation"), merged=True)


def t1_like(templates: Templates, number: int, model: Model, flip: bool) -> list[dict[str, dict[str, float]]]:
    """Dice of each structure of synthetic heads, in the sets `freesurfer` (sides merged) and `siam`."""
    recipe = parse_recipe(RECIPE)
    rows = []
    for index in range(number):
        scan, truth = drawn_head(recipe, templates, SEED, index)
        row = {}
        for name, merged in (("freesurfer", True), ("siam", False)):
            found = segment(scan, model, name, flip).image.voxels
            reference = merge("head", name).apply(truth)
            row[name] = structure_dice(found, reference, label_set(name), merged)
        rows.append(row)
    return rows


def load_fine(path: Path) -> Templates:
    """Label maps that tell all labels apart, as what is drawn from them is the truth.

    Raises:
        SystemExit: some do not.
    """
    templates = load_templates(path)
    if templates.groups is not None:
        raise SystemExit(
            f"some label maps of {path} are of a coarse label set, wanted those of generation; leave them out"
        )
    return templates


def drawn_head(
    recipe: Recipe, templates: Templates, seed: int, index: int, contrast: Callable[..., Contrast] = draw_contrast
) -> tuple[Image, np.ndarray]:
    """A head in a contrast of its own, by default that of T1-weighted scans, and its values of the set `head`."""
    draw = draw_sample(recipe, templates, seed, index)
    mean, std = contrast(np.random.default_rng([seed, index]))
    tissues = dataclasses.replace(draw.tissues, mean=mean, std=std)
    batch = apply_draws([dataclasses.replace(draw, tissues=tissues)], templates)
    return Image(batch.image[0, 0].numpy(), np.eye(4)), label_set("head").ids[batch.target[0].numpy()]


def main() -> None:
    """Print the tables, and draw the pictures."""
    parser = scoring(__doc__, "scans", "templates")
    parser.add_argument("--number", type=int, default=10)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    model = ready(arguments.model)
    real = flair(arguments.scans, model, arguments.flip)
    rows = t1_like(load_fine(arguments.templates), arguments.number, model, arguments.flip)
    synthetic = {name: float(np.mean([row["freesurfer"][name] for row in rows])) for name in STRUCTURES}
    table = [(name, real[name], synthetic[name]) for name in STRUCTURES]
    table.append(("mean of 16 structures", *np.mean([row[1:] for row in table], axis=0).tolist()))
    tissues = {name: float(np.nanmean([row["siam"][name] for row in rows])) for name in rows[0]["siam"]}
    table += [(f"set siam: {name}", math.nan, value) for name, value in tissues.items()]
    table.append(("set siam: mean of 16", math.nan, float(np.mean(list(tissues.values())))))
    cells = [("structure", "FLAIR head", "T1-like heads")]
    cells += [(name, *("" if math.isnan(v) else f"{v:.4f}" for v in values)) for name, *values in table]
    for name, first, second in cells:
        print(f"{name:32}{first:>12}{second:>16}")
    save(cells, arguments.csv)
    for name in PICTURES if arguments.pictures else ():
        scan = read_image(arguments.scans / f"{name}.nii.gz")
        path = arguments.pictures / f"{name}_overlay.png"
        draw_overlay(path, scan, segment(scan, model, "siam", arguments.flip))
        print(path)


if __name__ == "__main__":
    main()
