"""What a step of training costs, part by part.

    python benchmarks/step.py LABEL_MAPS [--threads 2] [--steps 20] [--no-compile]

Medians of one sample a step of the recipe `head`, from the shipped weights, after ten steps that are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path

import phantomseg  # noqa: F401, before torch: it sets the environment

import torch  # isort: skip
from torch import nn

from phantomseg.models import find_model
from phantomseg.runtime import hardware, keep_freed_memory, set_threads
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import load_templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.optimiser import build_optimisers
from phantomseg.training.state import TrainState
from phantomseg.training.step import Supervised, batch_loss, compile_encoder, detail_block

SEED = 77
NOT_COUNTED = 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    keep_freed_memory()
    recipe, templates = load_recipe("head"), load_templates(arguments.templates)
    network = find_model("head").network.train().to(memory_format=torch.channels_last_3d)
    state = TrainState(network, network, build_optimisers(network, "muon", 1e-3, 1e-3))
    config, supervised = TrainConfig(steps=1), Supervised(network)
    if arguments.compile:
        compile_encoder(network)
    seconds: dict[str, list[float]] = defaultdict(list)
    for index in range(NOT_COUNTED + arguments.steps):
        marks = [time.perf_counter()]
        batch = generate(recipe, templates, SEED, range(index, index + 1))
        marks.append(time.perf_counter())
        network.zero_grad(set_to_none=True)
        loss = batch_loss(supervised, batch, detail_block(config, batch, index))
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        for optimiser in state.optimisers:
            optimiser.step()
        marks.append(time.perf_counter())
        state.round_off()
        marks.append(time.perf_counter())
        names = ("drawing the sample", "forward pass and loss", "backward pass", "optimiser", "rounding off")
        for name, begin, end in zip(names, marks, marks[1:], strict=False):
            seconds[name].append(end - begin)
    medians = {name: statistics.median(values[NOT_COUNTED:]) for name, values in seconds.items()}
    total = sum(medians.values())
    print(f"| part, {hardware(torch.device('cpu'))} | ms | share |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {1000 * value:.0f} | {value / total:.0%} |")
    print(f"| sum: {1 / total:.2f} samples a second | {1000 * total:.0f} | |")


if __name__ == "__main__":
    main()
