"""What a checkpoint loses: 500 steps at once against 250 twice, and momentum in bfloat16 against float32.

    python benchmarks/resumed.py LABEL_MAPS -o DIR [--steps 500] [--threads 1]

The head network from the shipped weights, on crops of 64 × 80 × 64 voxels, rates falling to zero.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
from pathlib import Path

import phantomseg  # noqa: F401, before torch: it sets the environment

import torch  # isort: skip

from phantomseg.models import find_model
from phantomseg.network.model import Model
from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import load_templates
from phantomseg.training import optimiser
from phantomseg.training.inherit import configure_new
from phantomseg.training.loop import Run, train
from phantomseg.training.state import CHECKPOINT, TrainState
from phantomseg.training.validate import held_out_dice

CROP = (64, 80, 64)
SEED = 9


def main() -> None:
    """Print what the three runs came to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    keep_freed_memory()
    recipe, templates = load_recipe("head"), load_templates(arguments.templates)
    assert recipe.pose is not None
    recipe = dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=CROP))
    config = configure_new(is_started=True, steps=arguments.steps, seed=SEED, validate_every=10**6)

    def half_way(state: TrainState, progress: float) -> None:
        if state.step == arguments.steps // 2 and progress < 1:
            signal.raise_signal(signal.SIGTERM)

    def trained(name: str, run: Run) -> Model:
        model = train(recipe, templates, config, dataclasses.replace(run, folder=arguments.output / name))
        print(f"{name}: {model.record['steps']} steps, loss of the last 100 {model.record['last_loss']}", flush=True)
        return model

    start = find_model("head")
    whole = trained("at once", Run(arguments.output, start=start))
    trained("in two", Run(arguments.output, start=start, report=half_way))
    halves = trained("in two", Run(arguments.output, resume=True))
    pairs = zip(whole.network.state_dict().values(), halves.network.state_dict().values(), strict=True)
    print("the same weights:", all(torch.equal(*pair) for pair in pairs))
    size = (arguments.output / "in two" / CHECKPOINT).stat().st_size / 1e6
    print(f"checkpoint: {size:.1f} MB")
    optimiser.MOMENTUM_FORMAT = torch.float32
    exact = trained("float32 momentum", Run(arguments.output, start=start))
    for name, model in (("bfloat16", whole), ("float32", exact)):
        dice = held_out_dice(model.network, load_recipe("head"), templates, 24)["dice_held_out"]
        print(f"{name} momentum: held-out Dice {dice:.4f}")


if __name__ == "__main__":
    main()
