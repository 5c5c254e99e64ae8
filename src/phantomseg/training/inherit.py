"""What a run takes over when it goes on, or branches off another: all that is not given anew.

A trunk keeps its rates, so that no training is ever thrown away. A branch begins with its weights and moments and lets
the rates fall to zero, which brings what the trunk has learnt to light; the trunk goes on from where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phantomseg.synth.recipe import Recipe
from phantomseg.training.config import TrainConfig
from phantomseg.training.stages import recipe_of
from phantomseg.training.state import CHECKPOINT, read_checkpoint

BUDGET = ("steps", "minutes", "endless")
STARTED_STEP = 0.002  # relative, of filters that are trained already
BRANCH_SHARE = 1 / 7  # of the trunk's steps
TRUNK_DECAY = 0.999  # of the average of an endless run


def fresh(is_started: bool = False, **given: Any) -> TrainConfig:
    """The config of a run that begins; what is not given is as `TrainConfig` has it.

    Args:
        is_started: the weights are those of a model, which a large step would unlearn.
        given: values of the config.

    Raises:
        TrainingError: no budget, or more than one.

    >>> fresh(steps=5).relative_step, fresh(is_started=True, steps=5).relative_step
    (0.01, 0.002)
    """
    step = {"relative_step": STARTED_STEP} if is_started else {}
    return TrainConfig(**step | (_with_average(given) if _has_budget(given) else given))


def resumed(folder: Path, **given: Any) -> tuple[TrainConfig, Recipe]:
    """Config and recipe of a run that goes on.

    Args:
        folder: of the run.
        given: values of the config in place of those it had; a budget replaces any budget.

    Raises:
        TrainingError: no run there, a damaged one, or one of another version.
    """
    path = folder / CHECKPOINT
    found = read_checkpoint(path)
    return _changed(found.settings["config"], given), recipe_of(found, path)


def branched(trunk: Path, **given: Any) -> tuple[TrainConfig, Recipe]:
    """Config and recipe of a branch, whose rates fall from the trunk's to zero at once.

    Args:
        trunk: folder of a run.
        given: as for `resumed`; without a budget, a seventh of the trunk's steps.

    Raises:
        TrainingError: no run there, a damaged one, or one of another version.
    """
    path = trunk / CHECKPOINT
    found = read_checkpoint(path)
    if not _has_budget(given):
        given |= {"steps": max(1, round(BRANCH_SHARE * found.counts["step"]))}
    told = {**found.settings["config"], "warm_up_steps": 0, "constant_fraction": 0.0}
    return _changed(told, given), recipe_of(found, path)


def _changed(before: dict[str, Any], given: dict[str, Any]) -> TrainConfig:
    features = before["features"]
    told = {**before, "features": None if features is None else tuple(features)}
    if _has_budget(given):
        told |= {"steps": None, "minutes": None, "endless": False}
        given = _with_average(given)
    return TrainConfig(**told | given)


def _has_budget(given: dict[str, Any]) -> bool:
    return any(given.get(name) for name in BUDGET)


def _with_average(given: dict[str, Any]) -> dict[str, Any]:
    """What is given, with an average that is long where the run has no end."""
    return {"ema_decay": TRUNK_DECAY if given.get("endless") else TrainConfig.ema_decay} | given
