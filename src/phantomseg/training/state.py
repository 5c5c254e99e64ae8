"""Everything a run must remember between steps, and its checkpoint on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phantomseg.errors import TrainingError, one_sentence
from phantomseg.training.compact import read_tensors, round_off, write_tensors

CHECKPOINT = "checkpoint.safetensors"
COUNTS = ("step", "samples", "seconds", "stage_step", "stage_seconds", "average_step")
AVERAGE_EVERY = 10  # steps; smaller moves of the average would be rounded off
FIRST_STEPS = 100  # in which it follows every step


@dataclass(eq=False)
class TrainState:
    """Network, averaged network, optimisers, and how far the run has come."""

    network: nn.Module
    average: nn.Module
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    samples: int = 0  # of its series that the run has seen
    seconds: float = 0.0
    stage_step: int = 0  # where the present stage began
    stage_seconds: float = 0.0
    average_step: int = 0  # where the average began
    rows: list[dict[str, float]] = field(default_factory=list)  # the log, one row a step
    earlier: list[dict[str, Any]] = field(default_factory=list)  # records of the runs and stages before this one
    distance_voxels: int | None = None  # reach of the distances that the network predicts

    @torch.no_grad()
    def round_off(self) -> None:
        """Round the weights to what a checkpoint keeps of them, so that a resumed run is exactly the same."""
        for value in self.network.parameters():
            round_off(value)

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the network's, faster in the first steps."""
        steps = self.step - self.average_step
        every = 1 if steps <= FIRST_STEPS else AVERAGE_EVERY
        if steps % every:
            return
        decay = min(decay, (1 + steps) / (10 + steps)) ** every
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
                round_off(mean)
            else:
                mean.copy_(value)


def save_checkpoint(path: Path, state: TrainState, settings: dict[str, Any]) -> None:
    """Write the state and the run's settings, whole or not at all; the log stays where it is."""
    network, average = state.network.state_dict(), state.average.state_dict()
    tensors = {f"network/{name}": value for name, value in network.items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    near = {f"average/{name}": f"network/{name}" for name, value in average.items() if value.dtype == torch.float32}
    for name, moments in _moments(state):
        tensors |= {f"{key}/{name}": value for key, value in moments.items()}
    counts = {key: getattr(state, key) for key in COUNTS}
    write_tensors(path, tensors, near, {"settings": settings, "counts": counts, "earlier": state.earlier})


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What `save_checkpoint` wrote: tensors by kind and name, settings and counters."""

    tensors: dict[str, dict[str, torch.Tensor]]
    settings: dict[str, Any]
    counts: dict[str, Any]
    earlier: list[dict[str, Any]]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path} to resume from; leave --resume out to start anew")
    try:
        tensors, metadata = read_tensors(path)
        kinds: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            kind, name = key.split("/", 1)
            kinds.setdefault(kind, {})[name] = value
        return Checkpoint(
            kinds, dict(metadata["settings"]), {k: metadata["counts"][k] for k in COUNTS}, list(metadata["earlier"])
        )
    except Exception as error:
        raise TrainingError(
            f"checkpoint {path} is damaged or from another version ({one_sentence(error)}); start anew"
        ) from error


def fill(state: TrainState, found: Checkpoint) -> None:
    """Bring a state to where a checkpoint of the same network is; average and moments may be missing there."""
    state.network.load_state_dict(found.tensors["network"])
    state.average.load_state_dict(found.tensors.get("average", found.tensors["network"]))
    kinds = [kind for kind in found.tensors if kind not in ("network", "average")]
    for optimiser, parameter, name in _parameters(state):
        moments = {kind: found.tensors[kind][name] for kind in kinds if name in found.tensors[kind]}
        if moments:
            optimiser.state[parameter] = {kind: _placed(value, parameter) for kind, value in moments.items()}
    for key, value in found.counts.items():
        setattr(state, key, value)
    state.earlier = found.earlier


def _placed(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A moment with the device and the order in memory of its parameter; a count of steps stays where it is."""
    return torch.empty_like(like, dtype=value.dtype).copy_(value) if value.dim() else value


def _parameters(state: TrainState) -> list[tuple[torch.optim.Optimizer, nn.Parameter, str]]:
    names = {id(parameter): name for name, parameter in state.network.named_parameters()}
    groups = [(optimiser, group) for optimiser in state.optimisers for group in optimiser.param_groups]
    return [(optimiser, p, names[id(p)]) for optimiser, group in groups for p in group["params"]]


def _moments(state: TrainState) -> list[tuple[str, dict[str, torch.Tensor]]]:
    return [(name, optimiser.state[p]) for optimiser, p, name in _parameters(state) if optimiser.state.get(p)]
