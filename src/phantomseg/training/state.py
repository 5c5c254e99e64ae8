"""Everything a run must remember between steps, and its checkpoint on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phantomseg.errors import RecipeError, TrainingError, one_sentence
from phantomseg.image.files import write_atomically
from phantomseg.synth.recipe import parse_recipe, record


@dataclass(eq=False)
class TrainState:
    """Network, averaged network, optimisers, and how far the run has come."""

    network: nn.Module
    average: nn.Module
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)  # the log, one row a step
    earlier: list[dict[str, Any]] = field(default_factory=list)  # records of the runs that this one goes on from

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the network's, faster in the first steps."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def save_checkpoint(path: Path, state: TrainState, settings: dict[str, Any]) -> None:
    """Write the state and the run's settings, whole or not at all."""
    content = {
        "settings": settings,
        "step": state.step,
        "seconds": state.seconds,
        "rows": state.rows,
        "earlier": state.earlier,
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in state.optimisers],
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def restore_checkpoint(path: Path, state: TrainState, settings: dict[str, Any]) -> None:
    """Fill `state` from a checkpoint of a run with the same settings.

    Raises:
        TrainingError: no checkpoint, a damaged one, or one of other settings.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path} to resume from; leave --resume out to start anew")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        told = content["settings"]
        saved = {"supervised": False, "values": "", **told, "recipe": record(parse_recipe(told["recipe"]))}
        for key, value in settings.items():
            if saved.get(key) != value:  # keys that recipes have since count as left out there
                raise TrainingError(
                    f"checkpoint {path} was made with another {key}; resume with the same, or start in a new folder"
                )
        state.network.load_state_dict(content["network"])
        state.average.load_state_dict(content["average"])
        for optimiser, moments in zip(state.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(moments)
        state.step, state.seconds, state.rows = content["step"], content["seconds"], content["rows"]
        state.earlier = content["earlier"]
    except TrainingError:
        raise
    except RecipeError as error:
        reason = one_sentence(error)
        raise TrainingError(f"checkpoint {path} was made by another version ({reason}); start anew") from error
    except Exception as error:
        raise TrainingError(f"checkpoint {path} is damaged ({one_sentence(error)}); start anew") from error
