"""Which step, batch and crop teach most: branches of one start, on the same samples, each decayed to zero.

    python benchmarks/arms.py DATA SCANS TEMPLATES -o DIR --rows "0.2 %;0.5 %" [--samples 2800] [--seed 40]

DATA as in accuracy.py, SCANS and TEMPLATES as in heads.py. Every row sees about as many voxels: `--samples` crops of
the recipe, fewer where crops are larger. Rows whose JSON is in DIR are not run again, so rows may be shared out over
several processes; where only the network is there, it is scored again. `--print` makes the table. Scores are without
flip averaging; 64 held-out samples have seeds that training cannot draw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ablation import print_rows, score

from phantomseg.models import find_model
from phantomseg.network.model import Model, load_model
from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates, load_templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train
from phantomseg.training.state import CHECKPOINT
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
    if (folder / "model").exists():
        return load_model(folder / "model")
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
    resume = (folder / CHECKPOINT).exists()
    model = train(recipe, templates, config, Run(folder, resume, find_model(START), compile=True))
    if model.record["steps"] < (config.steps or 0):
        raise SystemExit("interrupted; run the same command again")
    return model


def crops_of(recipe: Recipe, crop_voxels: tuple[int, int, int]) -> Recipe:
    """The recipe with crops of another size."""
    assert recipe.pose is not None
    return dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=crop_voxels))


def main() -> None:
    """Run the rows asked for, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("scans", type=Path)
    parser.add_argument("templates", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", default=";".join(ARMS))
    parser.add_argument("--samples", type=int, default=2800)
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--print", action="store_true")
    arguments = parser.parse_args()
    if arguments.print:
        return print_rows({p.stem: json.loads(p.read_text()) for p in sorted(arguments.output.glob("*.json"))})
    set_threads(arguments.threads)
    keep_freed_memory()
    templates = load_templates(arguments.templates)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.rows.split(";"):
        result = arguments.output / f"{name}, seed {arguments.seed}.json"
        if result.exists():
            continue
        if name == "start":
            model = find_model(START)
        else:
            model = run_arm(ARMS[name], result.with_suffix(""), templates, arguments.samples, arguments.seed)
        told = {"steps": model.record["steps"], "minutes": model.record["minutes"]}
        held_out = held_out_dice(model.network, load_recipe("head"), templates, HELD_OUT)["dice_held_out"]
        views = {result: model}
        if "brain crops" in name:  # whose norms may be as good over all of the view
            views[result.with_stem(f"{result.stem}, norms over the view")] = dataclasses.replace(model, record={})
        for path, seen in reversed(views.items()):
            scores = score(seen, arguments.data, arguments.scans, templates)
            row = {**told, **scores, "held-out samples": held_out}
            path.write_text(json.dumps(row, indent=1) + "\n")
            print(path.stem, row, flush=True)
    return None


if __name__ == "__main__":
    main()
