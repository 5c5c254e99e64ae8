"""Seconds a 128³ sample: ours against TorchIO, same label map, same run, 2 CPU threads.

    pip install torchio
    python benchmarks/generator.py TEMPLATES [--samples 8]

TorchIO draws RandomLabelsToImage + RandomElasticDeformation + RandomAffine + RandomBiasField on a crop of 128³; ours
does the same and contrast curve, resolution, noise, skull stripping and mirroring beside it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
import torchio

from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import Templates, load_templates

SIZE = 128


def ours(templates: Templates, recipe_name: str, samples: int) -> float:
    """Median seconds a sample."""
    recipe = load_recipe(recipe_name)
    recipe = replace(recipe, pose=replace(recipe.pose, crop_voxels=(SIZE, SIZE, SIZE)))
    generate(recipe, templates, 0, range(1))
    seconds = []
    for index in range(samples):
        started = time.perf_counter()
        generate(recipe, templates, 0, range(index, index + 1))
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[samples // 2]


def theirs(templates: Templates, samples: int) -> float:
    """Median seconds a sample."""
    volume = torch.from_numpy(templates.volume(0)).long()
    low = ((templates.brain_low[0] + templates.brain_high[0]) // 2 - SIZE // 2).clamp(min=0)
    crop = volume[tuple(slice(int(a), int(a) + SIZE) for a in low)][None]
    crop = torch.nn.functional.pad(crop, [p for n in reversed(crop.shape[1:]) for p in (0, SIZE - n)])
    subject = torchio.Subject(label=torchio.LabelMap(tensor=crop))
    transform = torchio.Compose(
        [
            torchio.RandomElasticDeformation(),
            torchio.RandomAffine(),
            torchio.RandomLabelsToImage(label_key="label"),
            torchio.RandomBiasField(),
        ]
    )
    seconds = []
    for _ in range(samples):
        started = time.perf_counter()
        transform(subject)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[samples // 2]


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("--samples", type=int, default=8)
    arguments = parser.parse_args()
    threads = set_threads(2)
    keep_freed_memory()
    templates = load_templates(arguments.templates)
    other = theirs(templates, arguments.samples)
    print(f"{SIZE}³ voxels, {threads} CPU threads, median of {arguments.samples}")
    print(f"TorchIO {torchio.__version__:24} {other:8.3f} s a sample")
    for name in ("head", "synthseg"):
        mine = ours(templates, name, arguments.samples)
        print(f"PhantomSeg, recipe {name:13} {mine:8.3f} s a sample, {other / mine:6.1f} times faster")


if __name__ == "__main__":
    main()
