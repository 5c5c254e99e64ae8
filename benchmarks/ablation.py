"""What each ingredient of a recipe, and each size of network, is worth: short runs of equal budget.

    python benchmarks/ablation.py DATA SCANS TEMPLATES -o DIR --steps 1500 [--rows "full;no-shape"] [--threads 1]
    python benchmarks/ablation.py DATA SCANS TEMPLATES -o DIR --minutes 20 --rows "fast;wide;deep;unet"

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
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import rows
import torch
from rows import trained

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network
from phantomseg.rng import Constant
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig

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
    recipe = load_recipe("head")
    told = {"classes": len(label_set(recipe.target))}
    kind = "unet" if name == "unet" else "fast"
    if name in RECIPES:
        recipe, crop = RECIPES[name](recipe), SMALL_CROP
        told |= NARROW
    else:
        crop = DIVISIBLE_CROP
        told |= NETWORKS[name]
    recipe = dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=crop))
    torch.manual_seed(0)
    start = Model(build_network(kind, told), label_set(recipe.target))

    def train_for(steps: int, where: Path) -> Model:
        config = TrainConfig(network=kind, steps=steps, validate_every=10**6)
        return trained(where, recipe, templates, config, start, kind == "fast")

    steps = budget.steps or steps_in(budget.minutes, train_for, folder)
    return train_for(steps, folder / "run")


def steps_in(minutes: float, train_for: Callable[[int, Path], Model], folder: Path) -> int:
    """So many steps does a row make in `minutes`, by a trial that is made once."""
    kept = folder / f"steps in {minutes:g} minutes.txt"
    if not kept.exists():
        train_for(CALIBRATION_STEPS, folder / "warm")  # compiles
        shutil.rmtree(folder / "timed", ignore_errors=True)  # of a trial that was interrupted
        started = time.perf_counter()
        train_for(CALIBRATION_STEPS, folder / "timed")
        seconds = (time.perf_counter() - started) / CALIBRATION_STEPS
        kept.write_text(str(int(60 * minutes / seconds)))
    return int(kept.read_text())


def main() -> None:
    """Run the rows asked for, or print what is there."""
    parser = rows.parser(__doc__.splitlines()[0], RECIPES)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    arguments = parser.parse_args()
    if arguments.print:
        return rows.print_folder(arguments.output, [*RECIPES, *NETWORKS])
    templates = rows.begin(arguments)
    for name in arguments.rows.split(";"):
        result = arguments.output / f"{name}.json"
        if not result.exists():
            model = run_row(name, arguments.output / name, templates, arguments)
            rows.write_row(result, model, rows.score(model, arguments, templates))
    return None


if __name__ == "__main__":
    main()
