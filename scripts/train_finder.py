"""Train the head finder: a small network on 4 mm voxels (see docs/training.md).

phantomseg prepare --templates LABEL_MAPS --spacing 4 -o templates4.npz
python scripts/train_finder.py templates4.npz RUN --minutes 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network
from phantomseg.runtime import set_threads
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import load_templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train
from phantomseg.training.validate import held_out_dice

SMALL = {"features": [16, 32, 64], "convolutions": [2, 2, 2], "detail": 4}


def main() -> None:
    """Train, and say how well held-out samples are found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    recipe, templates = load_recipe("find"), load_templates(arguments.templates)
    torch.manual_seed(0)
    labels = label_set(recipe.target)
    network = build_network("fast", {"classes": len(labels), **SMALL})
    start = Model(network, labels, templates.spacing_mm)
    config = TrainConfig(minutes=arguments.minutes, batch=4, seed=3, validate_every=1000)
    scores = (lambda net: held_out_dice(net, recipe, templates, 32),)

    def report(state: object, progress: float) -> None:
        if state.step % 250 == 0:  # type: ignore[attr-defined]
            print(state.rows[-1], f"{progress:.0%}", flush=True)  # type: ignore[attr-defined]

    train(recipe, templates, config, Run(arguments.run, start=start, scores=scores, report=report))


if __name__ == "__main__":
    main()
