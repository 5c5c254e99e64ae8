"""Configs of new, resumed and branched runs; resumed and branched ones inherit every setting that is not given.

A trunk is a run at constant learning rates. A branch starts from its weights and optimiser state and decays the rates
to zero, which is what a model needs to perform well; the trunk itself continues unchanged.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from phantomseg.errors import TrainingError
from phantomseg.synth.recipe import Recipe
from phantomseg.training.config import TrainConfig
from phantomseg.training.stages import recipe_of
from phantomseg.training.state import CHECKPOINT, read_checkpoint

BUDGET = ("steps", "minutes", "endless")
STARTED_STEP = 0.001  # relative step for trained filters
BRANCH_SHARE = 1 / 7  # of the trunk's steps
TRUNK_DECAY = 0.999  # of the moving average of endless runs


def configure_new(is_started: bool = False, **given: Any) -> TrainConfig:
    """Config of a new run, with the defaults of `TrainConfig` for what is not given.

    Args:
        is_started: the run starts from a trained model, which a large step would damage.
        given: fields of the config.

    Raises:
        TrainingError: no budget, or more than one.

    >>> configure_new(steps=5).relative_step, configure_new(is_started=True, steps=5).relative_step
    (0.01, 0.001)
    """
    step = {"relative_step": STARTED_STEP} if is_started else {}
    return TrainConfig(**step | _with_average(given))


def configure_resumed(folder: Path, **given: Any) -> tuple[TrainConfig, Recipe]:
    """Config and recipe of a run to resume.

    Args:
        folder: the run's.
        given: fields of the config that replace those of the run; a budget replaces any budget.

    Raises:
        TrainingError: no checkpoint there, a damaged one, or one of another version.
    """
    path = folder / CHECKPOINT
    found = read_checkpoint(path)
    return _replace(found.settings["config"], given), recipe_of(found, path)


def configure_branch(trunk: Path, **given: Any) -> tuple[TrainConfig, Recipe]:
    """Config and recipe of a branch, which decays the trunk's learning rates to zero without warm-up.

    Args:
        trunk: folder of the run to branch off.
        given: as for `configure_resumed`; the default budget is a seventh of the trunk's steps.

    Raises:
        TrainingError: no checkpoint there, a damaged one, or one of another version; no end.
    """
    if given.get("endless"):
        raise TrainingError("--branch is given with --endless, but a branch decays its rates to zero; leave one out")
    path = trunk / CHECKPOINT
    found = read_checkpoint(path)
    if not _has_budget(given):
        given |= {"steps": max(1, round(BRANCH_SHARE * found.counts["step"]))}
    fields = {**found.settings["config"], "warm_up_steps": 0, "constant_fraction": 0.0}
    return _replace(fields, given), recipe_of(found, path)


def _replace(before: dict[str, Any], given: dict[str, Any]) -> TrainConfig:
    fields = {field.name: before[field.name] for field in dataclasses.fields(TrainConfig) if field.name in before}
    fields["features"] = tuple(before["features"]) if before["features"] else None
    if _has_budget(given):
        fields |= {"steps": None, "minutes": None, "endless": False}
        given = _with_average(given)
    return TrainConfig(**fields | given)


def _has_budget(given: dict[str, Any]) -> bool:
    return any(given.get(name) for name in BUDGET)


def _with_average(given: dict[str, Any]) -> dict[str, Any]:
    """The fields given, with a longer moving average for endless runs."""
    return {"ema_decay": TRUNK_DECAY if given.get("endless") else TrainConfig.ema_decay} | given
