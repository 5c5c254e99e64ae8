"""What each ingredient of a recipe, and each size of network, is worth: short runs of equal budget.

    python benchmarks/ablation.py DATA SCANS TEMPLATES -o DIR --steps 1500 [--rows full,no-shape] [--threads 1]
    python benchmarks/ablation.py DATA SCANS TEMPLATES -o DIR --minutes 20 --rows fast,wide,deep,unet

DATA as in accuracy.py, SCANS and TEMPLATES as in heads.py. Rows whose JSON is in DIR are not run again, so rows may be
shared out over several processes; where only the network is there, it is scored again. `--print` makes the table. With
`--minutes`, each row gets as many steps as it makes in that time on its threads, measured at the start of the row;
with `--steps`, the same number.

All rows train on smaller crops, those of the recipe a narrow network as well: differences, not levels, are what to
look at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accuracy import ALSO, MEAN_OF
from heads import flair, t1_like

from phantomseg.evaluation.dataset import find_cases
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model
from phantomseg.rng import Constant
from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.studies.degrade import inverted, thickened
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates, load_templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train

STRUCTURES = MEAN_OF + ALSO
SMALL = ("pallidum", "amygdala", "3rd ventricle", "accumbens area")
NARROW = {"features": [16, 32, 64, 128], "convolutions": [2, 2, 2, 2], "detail": 8}
SMALL_CROP = (96, 112, 96)
DIVISIBLE_CROP = (96, 128, 96)  # by 32, for the network with five levels
CALIBRATION_STEPS = 12


def without(*steps: str) -> Callable[[Recipe], Recipe]:
    """The recipe with whole steps left out."""
    return lambda recipe: dataclasses.replace(recipe, **dict.fromkeys(steps))


def one_gaussian(recipe: Recipe) -> Recipe:
    """One Gaussian of white noise a tissue."""
    tissues = dataclasses.replace(
        recipe.tissues, subclass_probability=0.0, regions_probability=0.0, texture=Constant(0), ct_probability=0.0
    )
    return dataclasses.replace(recipe, tissues=tissues)


def no_artefacts(recipe: Recipe) -> Recipe:
    """No k-space artefacts, no cut views, Gaussian noise."""
    bare = without("artefacts", "view")(recipe)
    assert bare.resolution is not None
    plain = dataclasses.replace(bare.resolution, magnitude_probability=0.0, g_factor_log_std=Constant(0))
    return dataclasses.replace(bare, resolution=plain)


def no_warp(recipe: Recipe) -> Recipe:
    """Affine poses alone."""
    return dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, warp_std_mm=Constant(0)))


def simple(recipe: Recipe) -> Recipe:
    """None of shapes, findings, sub-classes, texture, artefacts."""
    return no_artefacts(one_gaussian(without("shape", "findings")(recipe)))


def partial_volume(recipe: Recipe) -> Recipe:
    """Painted at 0.5 mm and averaged, soft targets."""
    return dataclasses.replace(recipe, fine_voxels_per_mm=2)


RECIPES: dict[str, Callable[[Recipe], Recipe]] = {
    "full": lambda recipe: recipe,
    "no-shape": without("shape"),
    "no-lesions": without("findings"),
    "no-texture": one_gaussian,
    "no-artefacts": no_artefacts,
    "no-resolution": without("resolution"),
    "no-warp": no_warp,
    "no-bias": without("bias"),
    "no-strip": without("strip"),
    "simple": simple,
    "partial-volume": partial_volume,
}
NETWORKS = {
    "fast": {},
    "narrow": {"features": [24, 48, 96, 192]},
    "wide": {"features": [48, 80, 144, 256], "convolutions": [2, 2, 2, 2]},
    "deep": {"features": [32, 64, 128, 160, 160], "convolutions": [2, 2, 3, 3, 3]},
    "detailed": {"detail": 24},
    "refined": {"detail_convolutions": 2},
    "unet": {},
}


def run_row(name: str, folder: Path, templates: Templates, budget: argparse.Namespace) -> Model:
    """Train one row, unless that was done, and return its averaged network."""
    if (folder / "run" / "model").exists():
        return load_model(folder / "run" / "model")
    recipe = load_recipe("head")
    config = {"classes": len(label_set(recipe.target))}
    kind = "unet" if name == "unet" else "fast"
    if name in RECIPES:
        recipe, crop = RECIPES[name](recipe), SMALL_CROP
        config |= NARROW
    else:
        crop = DIVISIBLE_CROP
        config |= NETWORKS[name]
    recipe = dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=crop))
    torch.manual_seed(0)
    start = Model(build_network(kind, config), label_set(recipe.target))

    def attempt(steps: int, where: Path) -> Model:
        settings = TrainConfig(network=kind, steps=steps, validate_every=10**6)
        model = train(recipe, templates, settings, Run(where, start=start, compile=kind == "fast"))
        if model.record["steps"] < steps:
            raise SystemExit(f"interrupted; remove {where} before that row is run again")
        return model

    steps = budget.steps
    if steps is None:
        attempt(CALIBRATION_STEPS, folder / "warm")  # compiles
        started = time.perf_counter()
        attempt(CALIBRATION_STEPS, folder / "timed")
        steps = int(60 * budget.minutes / ((time.perf_counter() - started) / CALIBRATION_STEPS))
    return attempt(steps, folder / "run")


def score(model: Model, data: Path, scans: Path, templates: Templates) -> dict[str, float]:
    """Mean Dice of the 16 structures under each condition; slices of 5 mm are those along the last axis."""
    found: dict[str, list[float]] = {"T1": [], "T1 small": [], "inverted": [], "5 mm": []}
    for case in find_cases(data):
        scan, reference = case.read()
        for name, image in (("T1", scan), ("inverted", inverted(scan)), ("5 mm", thickened(scan, 2))):
            labels = segment(image, model, flip=False).image.voxels
            dice = structure_dice(labels, reference.voxels, label_set("evaluation"), merged=True)
            found[name].append(float(np.mean([dice[s] for s in STRUCTURES])))
            if name == "T1":
                found["T1 small"].append(float(np.mean([dice[s] for s in SMALL])))
    real = flair(scans, model, False)
    heads = t1_like(templates, 4, model, False)
    return {
        **{name: float(np.mean(values)) for name, values in found.items()},
        "FLAIR head": float(np.mean([real[s] for s in STRUCTURES])),
        "T1-like heads": float(np.mean([row["freesurfer"][s] for row in heads for s in STRUCTURES])),
        "their tissues": float(np.mean([np.nanmean(list(row["siam"].values())) for row in heads])),
    }


def print_table(folder: Path) -> None:
    """All rows in the folder, in the order of this file."""
    rows = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    print_rows({name: rows[name] for name in [*RECIPES, *NETWORKS] if name in rows})


def print_rows(rows: dict[str, dict[str, float]]) -> None:
    """Rows by name as a table in Markdown."""
    columns = list(next(iter(rows.values())))
    width = max(map(len, rows))
    print(f"| {'row':{width}} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name:{width}} | " + " | ".join(_cell(row[c]).rjust(len(c)) for c in columns) + " |")


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def main() -> None:
    """Run the rows asked for, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("scans", type=Path)
    parser.add_argument("templates", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(RECIPES))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--print", action="store_true")
    arguments = parser.parse_args()
    if arguments.print:
        return print_table(arguments.output)
    set_threads(arguments.threads)
    keep_freed_memory()
    templates = load_templates(arguments.templates)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.rows.split(","):
        result = arguments.output / f"{name}.json"
        if result.exists():
            continue
        model = run_row(name, arguments.output / name, templates, arguments)
        scores = score(model, arguments.data, arguments.scans, templates)
        row = {"steps": model.record["steps"], "minutes": model.record["minutes"], **scores}
        result.write_text(json.dumps(row, indent=1) + "\n")
        print(name, row, flush=True)
    return None


if __name__ == "__main__":
    main()
