"""One visible loop: generate, predict, compare, step; once in a while validate and save."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomseg.errors import TrainingError
from phantomseg.image.distance import signed_distance
from phantomseg.labels import label_set
from phantomseg.network.held import hold_lengths
from phantomseg.network.losses import dice_cross_entropy, distance_dice
from phantomseg.network.model import Model, build_network, network_name, save_model
from phantomseg.network.volume import Block, finer
from phantomseg.runtime import autocast, hardware, keep_freed_memory
from phantomseg.synth.real import check_recipe
from phantomseg.synth.recipe import Recipe, record
from phantomseg.synth.sample import Batch
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.feed import Series, feed
from phantomseg.training.interrupt import stop_on_interrupt
from phantomseg.training.log import draw_loss, write_log
from phantomseg.training.optimiser import build_optimisers
from phantomseg.training.state import TrainState, restore_checkpoint, save_checkpoint

Score = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Run:
    """What a run is given beside its settings."""

    folder: Path
    resume: bool = False
    start: Model | None = None  # weights to begin with
    compile: bool = False
    workers: int = 0  # processes that make samples ahead, on a CPU
    scores: tuple[Score, ...] = ()  # validation: averaged network to named scores
    report: Callable[[TrainState, float], None] = lambda state, progress: None


def train(recipe: Recipe, templates: Templates, config: TrainConfig, run: Run) -> Model:
    """Train until the budget is spent or the user interrupts; returns the averaged network.

    Writes into `run.folder`: checkpoint.pt, log.csv, loss.png and model/ (averaged weights).

    Raises:
        TrainingError: a loss that is not finite, or a run that cannot be resumed.
        RecipeError: real scans cannot go through the steps of the recipe.
    """
    keep_freed_memory()
    if templates.images is not None:
        check_recipe(recipe, templates.source)
    device = templates.labels.device
    state = _begin(recipe, config, run, device)
    settings = {
        "config": dataclasses.asdict(config),
        "network": dataclasses.asdict(state.network.config),  # type: ignore[call-overload]
        "recipe": record(recipe),
        "templates": list(templates.names),
        "supervised": templates.images is not None,
        "values": templates.values,
    }
    if run.resume:
        restore_checkpoint(run.folder / "checkpoint.pt", state, settings)
    elif (run.folder / "checkpoint.pt").exists():
        raise TrainingError(f"{run.folder} holds a run already; add --resume, or choose another folder")
    if run.compile:
        state.network.encode = torch.compile(state.network.encode)  # type: ignore[assignment,arg-type]
    begin = time.perf_counter() - state.seconds
    batches = feed(Series(recipe, templates, config.seed, config.batch), state.step, run.workers)
    with stop_on_interrupt() as stop:
        batch = next(batches)
        while (progress := config.progress(state.step, state.seconds)) < 1 and not stop.requested:
            rate, share = config.rate(state.step, progress), config.share(state.step, progress)
            loss, norm = _step(config, state, batch, share, recipe.distance_voxels)  # on a GPU this is only begun ...
            draws, before = batch.draws, time.perf_counter()
            batch = next(batches)  # ... while the next batch is made
            waited = time.perf_counter() - before
            state.step += 1
            row = _row(state.step, loss.item(), rate, norm.item(), waited)
            if not np.isfinite(row["loss"] + row["gradient_norm"]):
                names = ", ".join(f"(seed {d.seed}, index {d.index})" for d in draws)
                found = f"loss is {row['loss']}, gradient norm {row['gradient_norm']}"
                raise TrainingError(f"{found} at step {state.step}, sample {names}; replay: synthesize")
            state.update_average(config.ema_decay)
            state.seconds = time.perf_counter() - begin
            state.rows.append({**row, "seconds": round(state.seconds, 3)})
            validating = state.step % config.validate_every == 0
            if validating or state.step % config.save_every == 0:
                save_checkpoint(run.folder / "checkpoint.pt", state, settings)
                write_log(run.folder / "log.csv", state.rows)
            if validating:
                _validate(run, state)
            run.report(state, config.progress(state.step, state.seconds))
    save_checkpoint(run.folder / "checkpoint.pt", state, settings)
    if state.rows and state.step % config.validate_every and not stop.requested:
        _validate(run, state)
        save_checkpoint(run.folder / "checkpoint.pt", state, settings)
    return _finish(run, state, Model(state.average, label_set(recipe.target), templates.spacing_mm), settings)


def _begin(recipe: Recipe, config: TrainConfig, run: Run, device: torch.device) -> TrainState:
    if run.start is not None:
        network = copy.deepcopy(run.start.network)
        _check_start(run.start, recipe, config)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # torch draws first weights from its global state alone
            network = build_network(config.network, _network_config(recipe, config))
    _check_crop(recipe.crop_voxels, network.multiple)  # type: ignore[arg-type]
    network = network.to(device, memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    if config.optimiser == "muon" and config.relative_step:
        hold_lengths(network)
    average = copy.deepcopy(network).eval()
    optimisers = build_optimisers(network, config.optimiser, config.learning_rate, config.relative_step)
    return TrainState(network, average, optimisers, earlier=stages(run.start.record) if run.start else [])


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


def _network_config(recipe: Recipe, config: TrainConfig) -> dict[str, Any]:
    classes = len(label_set(recipe.target)) if recipe.distance_voxels is None else 1
    if config.features is None:
        return {"classes": classes}
    return {"classes": classes, "features": list(config.features), "convolutions": [2] * len(config.features)}


def _check_crop(crop_voxels: tuple[int, int, int], multiple: int) -> None:
    # a single voxel at the coarsest level has no spread to normalise by
    if any(size % multiple for size in crop_voxels) or max(crop_voxels) == multiple:
        raise TrainingError(
            f"crop_voxels of the recipe is {list(crop_voxels)}, but this network wants multiples of {multiple}, "
            f"at least one of them above {multiple}; change the recipe"
        )


def _step(
    config: TrainConfig, state: TrainState, batch: Batch, share: float, distance_voxels: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change the weights once; returns loss and gradient norm."""
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        optimiser.zero_grad(set_to_none=True)
    loss = batch_loss(state.network, batch, _detail_block(config, batch, state.step * config.batch), distance_voxels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    for optimiser in state.optimisers:
        optimiser.step()
    return loss.detach(), norm


def _row(step: int, loss: float, rate: float, norm: float, waited: float) -> dict[str, float]:
    return {
        "step": step,
        "loss": round(loss, 5),
        "learning_rate": rate,
        "gradient_norm": round(norm, 4),
        "generation_seconds": round(waited, 4),
    }


def batch_loss(network: nn.Module, batch: Batch, block: Block, distance_voxels: int | None = None) -> torch.Tensor:
    """Sum of the losses of every output that the network supervises: of distances up to a reach, or of classes."""
    device = batch.image.device
    image = batch.image.contiguous(memory_format=torch.channels_last_3d)
    # oneDNN's bfloat16 gradients of maps 2 voxels deep read memory that was never written
    wide = bool(min(image.shape[2:]) >= 3 * network.multiple)  # type: ignore[operator]
    with autocast(device, enabled=wide):
        outputs = network.supervised(image, block)  # type: ignore[operator]
    times = batch.target.shape[1] // batch.image.shape[2]
    wanted = batch.target
    if distance_voxels is not None:
        wanted = torch.stack([signed_distance(mask > 0, distance_voxels) for mask in batch.target])
    targets = [wanted[(slice(None), *finer(where, times))] for _, where in outputs]
    compare = dice_cross_entropy if distance_voxels is None else partial(distance_dice, reach=distance_voxels)
    losses = [compare(logits, target) for (logits, _), target in zip(outputs, targets, strict=True)]
    return torch.stack(losses).sum()


def _detail_block(config: TrainConfig, batch: Batch, index: int) -> Block:
    rng = np.random.default_rng([config.seed, index, 1])
    slices = []
    for size in batch.image.shape[2:]:
        width = max(2, 2 * round(size * config.detail_fraction / 2))
        low = 2 * int(rng.integers((size - width) // 2 + 1))
        slices.append(slice(low, low + width))
    return slices[0], slices[1], slices[2]


def _validate(run: Run, state: TrainState) -> None:
    for score in run.scores:
        state.rows[-1].update(score(state.average))


def stages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All runs that led to a model, the first one first, each without the runs before it."""
    this = {key: value for key, value in record.items() if key != "earlier"}
    return [*record.get("earlier", []), this] if this else []


def _finish(run: Run, state: TrainState, model: Model, settings: dict[str, Any]) -> Model:
    write_log(run.folder / "log.csv", state.rows)
    if state.rows:
        draw_loss(run.folder / "loss.png", state.rows)
    losses = [row["loss"] for row in state.rows]
    generation = sum(row["generation_seconds"] for row in state.rows)
    summary = {
        **settings,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
        "samples_per_second": round(state.step * settings["config"]["batch"] / max(state.seconds, 1e-9), 2),
        "waited_for_samples": round(generation / max(state.seconds, 1e-9), 3),
        "hardware": hardware(next(state.average.parameters()).device),
        "last_loss": round(float(np.mean(losses[-100:])), 4) if losses else None,
        "scores": {k: v for row in state.rows for k, v in row.items() if k.startswith("dice")},
        "earlier": state.earlier,
    }
    model = dataclasses.replace(model, record=summary)
    save_model(run.folder / "model", model)
    return model
