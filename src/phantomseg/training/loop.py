"""One visible loop: generate, predict, compare, step; once in a while validate and save."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomseg.errors import TrainingError
from phantomseg.labels import label_set
from phantomseg.network.model import Model, save_model
from phantomseg.runtime import hardware, keep_freed_memory
from phantomseg.synth.real import check_recipe
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.sample import SampleDraw
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.distributed import ProcessGroup
from phantomseg.training.feed import Series, feed
from phantomseg.training.initialise import Origin, initialise
from phantomseg.training.interrupt import Stop, stop_on_interrupt
from phantomseg.training.log import draw_loss, write_log
from phantomseg.training.run_folder import lock_run
from phantomseg.training.stages import summary
from phantomseg.training.state import CHECKPOINT, TrainState, save_checkpoint
from phantomseg.training.step import compile_encoder, take_step

Score = Callable[[nn.Module], dict[str, float]]
READ_EVERY = {"cpu": 1, "cuda": 50}  # steps; reading a loss waits for the GPU


@dataclass(frozen=True)
class Run:
    """Arguments of a run that do not affect its results."""

    folder: Path
    resume: bool = False
    start: Model | None = None  # weights to begin with
    compile: bool = False
    workers: int = 0  # processes that make samples ahead, on a CPU
    scores: tuple[Score, ...] = ()  # validation: averaged network to named scores
    report: Callable[[TrainState, float], None] = lambda state, progress: None
    new_stage: bool = False  # resume with changed settings
    branch: Path | None = None  # folder of the run to start from
    processes: ProcessGroup = ProcessGroup()
    save_minutes: float = 4.0  # between checkpoints

    @property
    def origin(self) -> Origin:
        """Source of the initial state."""
        return Origin(self.start, self.resume, self.new_stage, self.branch)


@dataclass(eq=False)
class PendingRows:
    """Log rows whose losses are still on the device."""

    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[torch.Tensor] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    draws: list[tuple[SampleDraw, ...]] = field(default_factory=list)

    def append(
        self, loss: torch.Tensor, norm: torch.Tensor, draws: tuple[SampleDraw, ...], row: dict[str, float]
    ) -> None:
        """Add the row of a step, without its loss and its gradient norm."""
        self.losses.append(loss)
        self.norms.append(norm)
        self.draws.append(draws)
        self.rows.append(row)

    def flush(self, state: TrainState) -> None:
        """Read the losses and append the rows to the log of `state`.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        if not self.rows:
            return
        values = torch.stack([torch.stack(self.losses), torch.stack(self.norms)]).tolist()
        for row, draws, loss, norm in zip(self.rows, self.draws, *values, strict=True):
            row |= {"loss": round(loss, 5), "gradient_norm": round(norm, 4)}
            if not np.isfinite(loss + norm):
                names = ", ".join(f"(seed {d.seed}, index {d.index})" for d in draws)
                found = f"loss is {row['loss']}, gradient norm {row['gradient_norm']}"
                raise TrainingError(f"{found} at step {row['step']}, sample {names}; replay: synthesize")
        state.rows += self.rows
        self.losses, self.norms, self.rows, self.draws = [], [], [], []


def train(recipe: Recipe, templates: Templates, config: TrainConfig, run: Run) -> Model:
    """Train until the budget is spent or a signal stops it; returns the averaged network.

    Writes into `run.folder`: checkpoint.safetensors, log.csv, loss.png and model/ (averaged weights).

    Raises:
        TrainingError: a loss that is not finite, a run that cannot be resumed, or another process in its folder.
        RecipeError: real scans cannot go through the steps of the recipe.
    """
    keep_freed_memory()
    if templates.images is not None:
        check_recipe(recipe, templates.source)
    with lock_run(run.folder) if run.processes.is_main else contextlib.nullcontext():
        state, settings = initialise(recipe, templates, config, run.folder, run.origin, run.processes.world_size)
        settings["hardware"] = hardware(templates.labels.device)
        run.processes.check_same_step(templates.labels.device, state.step)
        if run.compile:
            compile_encoder(state.network)
        series = Series(recipe, templates, config.seed, config.batch, state.samples)
        with stop_on_interrupt() as stop:
            _loop(series, config, run, state, settings, stop)
        model = Model(state.average, label_set(recipe.target), templates.spacing_mm)
        return _finish(run, state, model, settings)


def _loop(
    series: Series, config: TrainConfig, run: Run, state: TrainState, settings: dict[str, Any], stop: Stop
) -> None:
    device, processes = series.templates.labels.device, run.processes
    every = READ_EVERY.get(device.type, 1)
    supervised, pending = processes.wrap(state.network), PendingRows()
    batches = feed(series, processes.rank, run.workers, processes.world_size)
    begun, saved = time.perf_counter() - state.seconds, time.perf_counter()
    batch, seconds, stopped = next(batches), state.seconds - state.stage_seconds, False
    while True:
        if processes.world_size == 1 or state.step % every == 0:  # all processes must decide alike
            seconds, stopped = processes.maximum(device, state.seconds - state.stage_seconds, stop.requested)
        progress = config.progress(state.step - state.stage_step, seconds)
        if stopped or progress >= 1:
            break
        share = config.share(state.step - state.stage_step, progress)
        loss, norm = take_step(config, state, supervised, batch, share)  # on a GPU this is only begun ...
        draws, before = batch.draws, time.perf_counter()
        batch = next(batches)  # ... while the next batch is made
        waited = time.perf_counter() - before
        state.step += 1
        state.samples += config.batch * processes.world_size
        state.update_average(config.ema_decay)
        state.seconds = time.perf_counter() - begun
        pending.append(loss, norm, draws, _row(state, config.learning_rate * share, waited))
        validating = bool(run.scores) and state.step % config.validate_every == 0
        saving = time.perf_counter() - saved > 60 * run.save_minutes
        if state.step % every == 0 or validating or saving:
            pending.flush(state)
        if validating or saving:
            saved = time.perf_counter()
        if processes.is_main:
            if validating or saving:
                _save(run, state, settings)
            if validating:
                _validate(run, state)
            done = config.progress(state.step - state.stage_step, state.seconds - state.stage_seconds)
            run.report(state, done)
    pending.flush(state)
    if processes.is_main:
        _save_last(run, state, settings, config, stop)


def _row(state: TrainState, rate: float, waited: float) -> dict[str, float]:
    return {
        "step": state.step,
        "learning_rate": rate,
        "seconds": round(state.seconds, 3),
        "generation_seconds": round(waited, 4),
    }


def _save(run: Run, state: TrainState, settings: dict[str, Any]) -> None:
    """The log first: a checkpoint may be older than it, never newer."""
    write_log(run.folder / "log.csv", state.rows)
    save_checkpoint(run.folder / CHECKPOINT, state, settings)


def _save_last(run: Run, state: TrainState, settings: dict[str, Any], config: TrainConfig, stop: Stop) -> None:
    _save(run, state, settings)
    due = state.step > state.stage_step and state.step % config.validate_every
    if run.scores and due and not stop.requested:
        _validate(run, state)
        _save(run, state, settings)


def _validate(run: Run, state: TrainState) -> None:
    for score in run.scores:
        state.rows[-1].update(score(state.average))


def _finish(run: Run, state: TrainState, model: Model, settings: dict[str, Any]) -> Model:
    model = dataclasses.replace(model, record={**summary(state, settings), "earlier": state.earlier})
    if run.processes.is_main:
        if state.rows:
            draw_loss(run.folder / "loss.png", state.rows)
        save_model(run.folder / "model", model)
    return model
