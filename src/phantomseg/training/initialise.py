"""Initial state of a run: random weights, a model, its own checkpoint, or the checkpoint it branches off."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomseg.errors import TrainingError
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, network_name
from phantomseg.network.scale_invariant import equalise_filter_norms
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.classes import parent_channels, split_classes, with_more_classes
from phantomseg.training.config import TrainConfig
from phantomseg.training.log import read_log
from phantomseg.training.optimiser import build_optimisers
from phantomseg.training.stages import begin_stage, check_same, recipe_of, settings_of, stages
from phantomseg.training.state import CHECKPOINT, Checkpoint, TrainState, fill, read_checkpoint


@dataclass(frozen=True)
class Origin:
    """Source of the initial state; by default random weights.

    `resume` continues the run in its folder, with `new_stage` under changed settings. `branch` is the folder of another
    run to start from; that run is left untouched.
    """

    start: Model | None = None
    resume: bool = False
    new_stage: bool = False
    branch: Path | None = None


def initialise(
    recipe: Recipe, templates: Templates, config: TrainConfig, folder: Path, origin: Origin, processes: int = 1
) -> tuple[TrainState, dict[str, Any]]:
    """Initial state of a run, and its settings.

    Raises:
        TrainingError: the checkpoint is missing or does not fit.
        LabelError: the target of a new stage does not merge into the one before, or a model has labels of another one.
    """
    path = (origin.branch or folder) / CHECKPOINT
    if not origin.resume and (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder} holds a run already; add --resume, or choose another folder")
    found = read_checkpoint(path) if origin.resume or origin.branch else None
    if found is None:
        return _new(recipe, templates, config, origin, processes)
    is_new_stage = origin.new_stage or origin.branch is not None
    before = found.settings
    earlier = recipe_of(found, path)
    has_classes = earlier.distance_voxels is None and recipe.distance_voxels is None
    if is_new_stage and has_classes:
        count = found.settings["network"]["classes"]
        parents = parent_channels(recipe.target, earlier.target, count)
        found = found if np.array_equal(parents, np.arange(count)) else split_classes(found, parents)
    elif has_classes:
        _check_classes(found, recipe, path)
    network = _network(recipe, config, origin.start, found)
    settings = settings_of(recipe, templates, config, network, processes)
    if is_new_stage:
        _check_same_network(found, settings, path)
    else:
        check_same(found, settings, path)
    state = _state(network, recipe, config, templates.labels.device)
    fill(state, found)
    state.rows = read_log(path.parent / "log.csv", state.step)
    if is_new_stage:
        begin_stage(state, before)
    if origin.branch:
        state.average.load_state_dict(state.network.state_dict())
        state.average_step = state.step
    return state, settings


def _new(
    recipe: Recipe, templates: Templates, config: TrainConfig, origin: Origin, processes: int
) -> tuple[TrainState, dict[str, Any]]:
    if origin.start is not None:
        _check_start(origin.start, recipe, config)
    network = _network(recipe, config, origin.start, None)
    if config.optimiser == "muon" and config.relative_step:
        equalise_filter_norms(network)
    state = _state(network, recipe, config, templates.labels.device)
    state.earlier = stages(origin.start.record) if origin.start else []
    return state, settings_of(recipe, templates, config, network, processes)


def _state(network: nn.Module, recipe: Recipe, config: TrainConfig, device: torch.device) -> TrainState:
    check_crop(recipe.crop_voxels, network.multiple)  # type: ignore[arg-type]
    network = network.to(device, memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    optimisers = build_optimisers(network, config.optimiser, config.learning_rate, config.relative_step)
    average = copy.deepcopy(network).eval()
    return TrainState(network, average, optimisers, distance_voxels=recipe.distance_voxels)


def _network(recipe: Recipe, config: TrainConfig, start: Model | None, found: Checkpoint | None) -> nn.Module:
    """The network to train, before weights of a checkpoint are loaded."""
    if start is not None:
        labels = label_set(recipe.target)
        if start.distance_voxels is None and len(start.labels) != len(labels):
            return with_more_classes(start.network, labels.channels_before(len(start.labels)))
        return copy.deepcopy(start.network)
    if found is not None:
        return build_network(found.settings["config"]["network"], found.settings["network"])
    classes = len(label_set(recipe.target)) if recipe.distance_voxels is None else 1
    fields: dict[str, Any] = {"classes": classes}
    if config.features is not None:
        fields |= {"features": list(config.features), "convolutions": [2] * len(config.features)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # torch draws first weights from its global state alone
        return build_network(config.network, fields)


def _check_start(start: Model, recipe: Recipe, config: TrainConfig) -> None:
    is_what = start.labels.name, network_name(start.network), start.distance_voxels
    wanted = recipe.target, config.network, recipe.distance_voxels
    if is_what != wanted:
        raise TrainingError(
            "the model to start from predicts {!r} with network {!r} and distance_voxels {}, ".format(*is_what)
            + "this run wants {!r} with {!r} and {}; choose recipe and network to fit".format(*wanted)
        )
    if config.features is not None:
        raise TrainingError("the model to start from has features already; leave out --features, or --start")


def _check_classes(found: Checkpoint, recipe: Recipe, path: Path) -> None:
    count, now = found.settings["network"]["classes"], len(label_set(recipe.target))
    if count != now:
        raise TrainingError(
            f"checkpoint {path} predicts {count} classes, and the label set {recipe.target!r} has {now} now; add "
            "--new-stage to train the new ones too"
        )


def _check_same_network(found: Checkpoint, settings: dict[str, Any], path: Path) -> None:
    for name, before, now in (
        ("network", found.settings["network"], settings["network"]),
        ("kind of network", found.settings["config"]["network"], settings["config"]["network"]),
        ("features", found.settings["config"]["features"], settings["config"]["features"]),
        ("optimiser", found.settings["config"]["optimiser"], settings["config"]["optimiser"]),
        (
            "distance_voxels",
            found.settings["recipe"].get("distance_voxels"),
            settings["recipe"].get("distance_voxels"),
        ),
    ):
        if before != now:
            raise TrainingError(
                f"checkpoint {path} was made with another {name} ({before}), wanted {now}; a stage may change the "
                "recipe, its target, rates, batch and seed alone"
            )


def check_crop(crop_voxels: tuple[int, int, int], multiple: int) -> None:
    """Refuse crops that the network cannot take.

    Raises:
        TrainingError: some axis is no multiple of the network's, or all have a single one.
    """
    # a single voxel at the coarsest level has no spread to normalise by
    if any(size % multiple for size in crop_voxels) or max(crop_voxels) == multiple:
        raise TrainingError(
            f"crop_voxels of the recipe is {list(crop_voxels)}, but this network wants multiples of {multiple}, "
            f"at least one of them above {multiple}; change the recipe"
        )
