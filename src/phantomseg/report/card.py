"""A model card out of the record that training left in the model, and tables and pictures given to it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phantomseg.errors import ModelError
from phantomseg.image.files import write_atomically
from phantomseg.network.model import Model, network_name
from phantomseg.training.stages import stages

Captioned = tuple[str, Path]


def write_card(
    path: Path, name: str, model: Model, notes: Path | None, tables: Iterable[Captioned], pictures: Iterable[Captioned]
) -> None:
    """Write a Markdown file about a model.

    Args:
        path: file to write.
        name: what the model is called.
        model: with the record of its training.
        notes: Markdown put after the tables, for what no record can know.
        tables: captions and CSV files with a header.
        pictures: captions and picture files.

    Raises:
        ModelError: the model has no record, or a file is missing.
    """
    if "steps" not in model.record:
        raise ModelError(f"model {name} has no record of its training; give a model that `phantomseg train` wrote")
    paragraphs = [f"# Model card: {name}", _summary(model), _facts(model), _runs(stages(model.record))]
    for caption, file in tables:
        paragraphs += [f"## {caption}", _table(file)]
    if notes is not None:
        paragraphs.append(_read(notes).strip())
    for caption, file in pictures:
        where = Path(os.path.relpath(file, path.parent)).as_posix()
        paragraphs += [f"![{caption}]({where})", f"*{caption}.*"]
    text = "\n\n".join(paragraphs) + "\n"
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _summary(model: Model) -> str:
    sides = "left and right apart" if any(label.side for label in model.labels.labels) else "without sides"
    if not model.record["templates"]:
        return (
            f"Finds the brain, at {model.spacing_mm:g} mm in humans and at the scale of the brain in other species. "
            "Trained on shapes that are drawn out of nothing: no scan, and no label map of any anatomy. "
            "For research use; not for diagnosis."
        )
    return (
        f"Labels {len(model.labels) - 1} structures of the set `{model.labels.name}`, {sides}, at "
        f"{model.spacing_mm:g} mm. Trained on {_learnt(stages(model.record))}. For research use; not for diagnosis."
    )


def _learnt(runs: list[dict[str, Any]]) -> str:
    """What the runs learnt from: label maps alone, real scans, or one after the other."""
    scans = {name for run in runs if run.get("supervised") for name in run["templates"]}
    if not scans:
        return "synthetic samples of label maps alone; no real scan"
    real = f"{len(scans)} real scan{'s' if len(scans) > 1 else ''} with their label maps"
    if any(run["recipe"].get("pose", {}).get("flip_swaps_sides") is False for run in runs if "recipe" in run):
        real += ", mirrored without exchanging left and right"
    return real if all(run.get("supervised") for run in runs) else f"{real}, and on synthetic samples of label maps"


def _facts(model: Model) -> str:
    weights = sum(p.numel() for p in model.network.parameters())
    runs = stages(model.record)
    rows = [
        ("network", f"`{network_name(model.network)}`, {weights / 1e6:.2f} M weights, {2 * weights / 1e6:.1f} MB"),
        ("scans" if model.record.get("supervised") else "label maps", _templates(model.record["templates"])),
        ("steps, samples", f"{sum(r['steps'] for r in runs):,}, {sum(r['steps'] * _batch(r) for r in runs):,}"),
        ("training time", f"{sum(r['minutes'] for r in runs):.0f} minutes in {len(runs)} runs"),
    ]
    if "averaged" in model.record:
        rows.append(("weights", f"mean of {len(model.record['averaged'])} models of these runs"))
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _templates(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])} …" if names else "none"


def _runs(runs: list[dict[str, Any]]) -> str:
    """One line a run, the first one first."""
    titles = ("run", "steps", "batch", "highest rate", "relative step", "minutes", "on", "last loss", "scores")
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for number, run in enumerate(runs, start=1):
        rate = run["config"]["learning_rate"]
        scores = ", ".join(f"{key} {value:.3f}" for key, value in run["scores"].items())
        cells = (number, f"{run['steps']:,}", _batch(run), f"{rate:g}", _relative_step(run), run["minutes"])
        lines.append(
            "| " + " | ".join(map(str, cells)) + f" | {run.get('hardware', '')} | {run['last_loss']} | {scores} |"
        )
    return "\n".join(lines)


def _batch(run: dict[str, Any]) -> int:
    return int(run["config"]["batch"]) * int(run.get("processes", 1))


def _relative_step(run: dict[str, Any]) -> str:
    """Share of their length by which a step turned filters, of runs that held it."""
    step = run["config"].get("relative_step")
    return f"{100 * step:g} %" if step and run["config"]["optimiser"] == "muon" else ""


def _table(file: Path) -> str:
    rows = list(csv.reader(_read(file).splitlines()))
    if not rows:
        raise ModelError(f"{file} is empty; wanted a CSV table with a header")
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def _cell(text: str) -> str:
    """A number with three digits after the point, anything else as it is."""
    whole, point, digits = text.lstrip("+-").partition(".")
    return f"{float(text):.3f}" if point and whole.isdigit() and digits.isdigit() else text


def _read(file: Path) -> str:
    if not Path(file).is_file():
        raise ModelError(f"{file} does not exist; check the path")
    return Path(file).read_text(encoding="utf-8")
