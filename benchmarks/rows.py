"""Rows of a table: networks trained on equal budgets, each scored alike, for `ablation.py` and `arms.py`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from accuracy import ALSO, MEAN_OF
from heads import flair, load_fine, t1_like
from populations import atrophy

from phantomseg.evaluation.dataset import find_cases
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model, load_model
from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.studies.degrade import inverted, thickened
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train
from phantomseg.training.state import CHECKPOINT

STRUCTURES = MEAN_OF + ALSO
SMALL = ("pallidum", "amygdala", "3rd ventricle", "accumbens area")


def parser(description: str, rows: Iterable[str]) -> argparse.ArgumentParser:
    """What every table is told; names of rows have semicolons between."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("data", type=Path)
    made.add_argument("scans", type=Path)
    made.add_argument("templates", type=Path)
    made.add_argument("-o", "--output", type=Path, required=True)
    made.add_argument("--rows", default=";".join(rows))
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--print", action="store_true")
    return made


def begin(arguments: argparse.Namespace) -> Templates:
    """Threads, memory, the folder of the rows, and the label maps."""
    set_threads(arguments.threads)
    keep_freed_memory()
    arguments.output.mkdir(parents=True, exist_ok=True)
    return load_fine(arguments.templates)


def trained(
    folder: Path, recipe: Recipe, templates: Templates, config: TrainConfig, start: Model, compiled: bool = True
) -> Model:
    """Train a network in `folder`, go on where that was interrupted, or read it where it is finished.

    Raises:
        SystemExit: interrupted.
    """
    if (folder / "model").exists():
        model = load_model(folder / "model")
        if model.record["steps"] == config.steps:
            return model
    run = Run(folder, resume=(folder / CHECKPOINT).exists(), start=start, compile=compiled)
    model = train(recipe, templates, config, run)
    if model.record["steps"] != config.steps:
        raise SystemExit("interrupted; run the same command again")
    return model


def score(model: Model, arguments: argparse.Namespace, templates: Templates) -> dict[str, float]:
    """Mean Dice of the 16 structures under each condition; slices of 5 mm are those along the last axis.

    Where the label maps are a folder, the relative error of atrophy of two heads is the last column.
    """
    data, scans = arguments.data, arguments.scans
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
    thin = {}
    if arguments.templates.is_dir():
        _, thin["atrophy error, %"], _ = next(atrophy(arguments.templates, 2, model, False))
    return {
        **{name: float(np.mean(values)) for name, values in found.items()},
        "FLAIR head": float(np.mean([real[s] for s in STRUCTURES])),
        "T1-like heads": float(np.mean([row["freesurfer"][s] for row in heads for s in STRUCTURES])),
        "their tissues": float(np.mean([np.nanmean(list(row["siam"].values())) for row in heads])),
        **thin,
    }


def write_row(path: Path, model: Model, scores: dict[str, float]) -> None:
    """Steps, minutes and scores as JSON."""
    row = {"steps": model.record["steps"], "minutes": model.record["minutes"], **scores}
    path.write_text(json.dumps(row, indent=1) + "\n")
    print(path.stem, row, flush=True)


def print_folder(folder: Path, names: Iterable[str] = ()) -> None:
    """The table in Markdown of the rows that are there: in the order of `names`, else of the alphabet."""
    rows = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    shown = {name: rows[name] for name in names if name in rows} or rows
    columns = list(next(iter(shown.values())))
    width = max(map(len, shown))
    print(f"| {'row':{width}} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in shown.items():
        print(f"| {name:{width}} | " + " | ".join(_cell(row[c]).rjust(len(c)) for c in columns) + " |")


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
