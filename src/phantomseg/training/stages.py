"""Stages of a run: their settings, which of them may change, and the record that a model carries."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phantomseg.errors import RecipeError, TrainingError, one_sentence
from phantomseg.synth.recipe import Recipe, parse_recipe, record
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.state import Checkpoint, TrainState

LISTED = ("template_labels", "weights")  # recorded of lists of label maps alone
FREE = ("config.steps", "config.minutes", "config.validate_every")  # may change within a stage
MAX_NAMED = 3


def settings_of(
    recipe: Recipe, templates: Templates, config: TrainConfig, network: torch.nn.Module, processes: int = 1
) -> dict[str, Any]:
    """Settings of a run, in types of JSON."""
    return {
        "processes": processes,
        "config": plain(dataclasses.asdict(config)),
        "network": plain(dataclasses.asdict(network.config)),  # type: ignore[call-overload]
        "recipe": plain(record(recipe)),
        **facts_of(templates),
    }


def facts_of(templates: Templates) -> dict[str, Any]:
    """What a record tells of label maps or scans; of label maps alone, label set and weight of each."""
    facts = {
        "templates": list(templates.names),
        "supervised": templates.images is not None,
        "values": templates.values,
    }
    if templates.smallest_head_ml is not None:
        facts["smallest_head_ml"] = templates.smallest_head_ml
    if templates.label_sets:
        facts["template_labels"] = list(templates.label_sets)
    if templates.weights:
        facts["weights"] = list(templates.weights)
    return facts


def plain(value: Any) -> Any:
    """The value with lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def recipe_of(found: Checkpoint, path: Path) -> Recipe:
    """The recipe of a checkpoint.

    Raises:
        TrainingError: another version wrote it.
    """
    try:
        return parse_recipe(found.settings["recipe"])
    except RecipeError as error:
        reason = one_sentence(error)
        raise TrainingError(f"checkpoint {path} was made by another version ({reason}); start anew") from error


def check_same(found: Checkpoint, settings: dict[str, Any], path: Path) -> None:
    """Refuse to resume with changed settings; budget and intervals may change.

    Raises:
        TrainingError: other settings differ.
    """
    recipe = plain(record(recipe_of(found, path)))  # with today's keys
    known = {"processes": 1, "smallest_head_ml": settings.get("smallest_head_ml")}  # where a checkpoint does not say
    before = {**known, **found.settings, "recipe": recipe}
    compared = {key: before.get(key) for key in {*settings, *LISTED}}
    names = [name for name in differences(compared, settings) if name not in FREE]
    if names:
        shown = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
        raise TrainingError(
            f"checkpoint {path} was made with other settings ({shown}); resume with the same, start in a new folder, "
            "or add --new-stage to change them"
        )


def differences(before: Any, now: Any) -> list[str]:
    """Keys, with dots between, whose values differ.

    >>> differences({"pose": {"shear": 0, "flip": 1}}, {"pose": {"shear": 0, "flip": 2}, "gamma": 1})
    ['gamma', 'pose.flip']
    """
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [""]
    found = []
    for key in sorted({*before, *now}):
        inner = differences(before.get(key), now.get(key))
        found += [f"{key}.{name}".removesuffix(".") for name in inner]
    return found


def begin_stage(state: TrainState, settings: dict[str, Any]) -> None:
    """Start a stage; the one before, trained under `settings`, is recorded if it made any step."""
    if state.step > state.stage_step:
        state.earlier = [*state.earlier, summary(state, settings)]
    state.stage_step, state.stage_seconds = state.step, state.seconds


def summary(state: TrainState, settings: dict[str, Any]) -> dict[str, Any]:
    """Record of the present stage."""
    rows = [row for row in state.rows if row["step"] > state.stage_step]
    losses = [row["loss"] for row in rows]
    steps, seconds = state.step - state.stage_step, max(state.seconds - state.stage_seconds, 1e-9)
    samples = steps * settings["config"]["batch"] * settings.get("processes", 1)
    return {
        **settings,
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "samples_per_second": round(samples / seconds, 2),
        "waited_for_samples": round(sum(row["generation_seconds"] for row in rows) / seconds, 3),
        "last_loss": round(float(np.mean(losses[-100:])), 4) if losses else None,
        "scores": {k: v for row in rows for k, v in row.items() if k.startswith("dice")},
    }


def stages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All runs and stages that led to a model, oldest first, each without its `earlier`."""
    this = {key: value for key, value in record.items() if key != "earlier"}
    return [*record.get("earlier", []), this] if this else []
