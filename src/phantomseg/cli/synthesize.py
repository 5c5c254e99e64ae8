"""`phantomseg synthesize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.options import Device, OptionalTemplates, RecipeName, Threads, begin, read_templates


def run(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the samples.")],
    templates: OptionalTemplates = None,
    recipe: RecipeName = "head",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many samples.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Name of the series of samples.")] = 0,
    first: Annotated[int, typer.Option(min=0, help="Index of the first sample.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Draw samples: image, target and the record that replays each, and a contact sheet to look at."""
    from phantomseg.report.samples import write_samples
    from phantomseg.synth.recipe import load_recipe

    place = begin(device, threads)
    settings = load_recipe(recipe)
    loaded = read_templates(templates, settings).to(place)
    sheet = write_samples(output, settings, loaded, seed, range(first, first + number))
    print(f"{number} samples in {output}")
    print(f"  {sheet}")
