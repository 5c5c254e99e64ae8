"""A branch: what is shipped of a run that never ends.

A trunk keeps its rates, so that no training is ever thrown away. A branch begins with its weights and moments, and lets
the rates fall to zero, which brings what the trunk has learnt to light; the trunk goes on from where it was.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from phantomseg.synth.recipe import Recipe
from phantomseg.training.config import TrainConfig
from phantomseg.training.stages import recipe_of
from phantomseg.training.state import CHECKPOINT, read_checkpoint

SHARE = 1 / 7  # of the trunk's steps


def config_of_branch(
    trunk: Path, steps: int | None = None, minutes: float | None = None, validate_every: int | None = None
) -> TrainConfig:
    """The config of a trunk with a budget and rates that fall from its own to zero.

    Args:
        trunk: folder of a run.
        steps: of the branch; where no budget is given, a seventh of the trunk's.
        minutes: of the branch.
        validate_every: steps; by default as the trunk.

    Raises:
        TrainingError: no run there, or a damaged one.
    """
    found = read_checkpoint(trunk / CHECKPOINT)
    told: dict[str, Any] = found.settings["config"]
    if steps is None and minutes is None:
        steps = max(1, round(SHARE * found.counts["step"]))
    return dataclasses.replace(
        TrainConfig(**{**told, "features": None}),  # the network is there
        steps=steps,
        minutes=minutes,
        endless=False,
        warm_up_steps=0,
        constant_fraction=0.0,
        ema_decay=TrainConfig.ema_decay,
        validate_every=validate_every or int(told["validate_every"]),
    )


def recipe_of_trunk(trunk: Path) -> Recipe:
    """The recipe that a trunk follows now.

    Raises:
        TrainingError: no run there, or one of another version.
    """
    return recipe_of(read_checkpoint(trunk / CHECKPOINT), trunk / CHECKPOINT)
