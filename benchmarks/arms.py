"""Which step, batch and crop teach most: branches of one start, on the same samples, each decayed to zero.

    python benchmarks/arms.py DATA SCANS TEMPLATES -o DIR --rows "0.2 %;0.5 %" [--samples 2800] [--seed 40]

DATA as in accuracy.py, SCANS and TEMPLATES as in heads.py. Every row sees about as many voxels: `--samples` crops of
the recipe, fewer where crops are larger. Rows whose JSON is in DIR are not run again, so rows may be shared out over
several processes; where only the network is there, it is scored again. `--print` makes the table. Scores are without
flip averaging; 64 held-out samples have seeds that training cannot draw.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rows

from phantomseg.models import find_model
from phantomseg.network.model import Model
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.validate import held_out_dice

HELD_OUT = 64
START = "head"


@dataclass(frozen=True)
class Arm:
    """What one row changes."""

    relative_step: float = 0.002
    batch: int = 1
    crop_voxels: tuple[int, int, int] = (112, 144, 112)


ARMS = {
    "0.1 %": Arm(0.001),
    "0.2 %": Arm(0.002),
    "0.5 %": Arm(0.005),
    "1 %": Arm(0.01),
    "0.2 %, batch 4": Arm(0.002, batch=4),
    "0.4 %, batch 4": Arm(0.004, batch=4),
    "0.1 %, brain crops": Arm(0.001, crop_voxels=(144, 192, 160)),
    "0.2 %, brain crops": Arm(0.002, crop_voxels=(144, 192, 160)),
}


def run_arm(arm: Arm, folder: Path, templates: Templates, samples: int, seed: int) -> Model:
    """Train one row, unless that was done, and return its averaged network."""
    recipe = crops_of(load_recipe("head"), arm.crop_voxels)
    share = float(np.prod(Arm.crop_voxels) / np.prod(arm.crop_voxels))
    config = TrainConfig(
        steps=round(samples * share / arm.batch),
        batch=arm.batch,
        seed=seed,
        learning_rate=3e-3,
        relative_step=arm.relative_step,
        validate_every=10**6,
    )
    return rows.trained(folder, recipe, templates, config, find_model(START))


def crops_of(recipe: Recipe, crop_voxels: tuple[int, int, int]) -> Recipe:
    """The recipe with crops of another size."""
    assert recipe.pose is not None
    return dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=crop_voxels))


def main() -> None:
    """Run the rows asked for, or print what is there."""
    parser = rows.parser(__doc__.splitlines()[0], ARMS)
    parser.add_argument("--samples", type=int, default=2800)
    parser.add_argument("--seed", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.print:
        return rows.print_folder(arguments.output)
    templates = rows.begin(arguments)
    for name in arguments.rows.split(";"):
        result = arguments.output / f"{name}, seed {arguments.seed}.json"
        if result.exists():
            continue
        if name == "start":
            model = find_model(START)
        else:
            model = run_arm(ARMS[name], result.with_suffix(""), templates, arguments.samples, arguments.seed)
        held_out = held_out_dice(model.network, load_recipe("head"), templates, HELD_OUT)["dice_held_out"]
        views = {result: model}
        if "brain crops" in name:  # whose norms may be as good over all of the view
            views = {result.with_stem(f"{result.stem}, norms over the view"): unblocked(model), **views}
        for path, seen in views.items():
            scores = rows.score(seen, arguments, templates)
            rows.write_row(path, model, {**scores, "held-out samples": held_out})
    return None


def unblocked(model: Model) -> Model:
    """The model without a record of its crops, so that its norms are taken over all of the view."""
    return dataclasses.replace(model, record={})


if __name__ == "__main__":
    main()
