"""Batches for training, made while the network still works on the one before."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.sample import Batch
from phantomseg.synth.templates import Templates


@dataclass(frozen=True, eq=False)
class Series(Dataset[Batch]):
    """The batch of each step, a pure function of the step."""

    recipe: Recipe
    templates: Templates
    seed: int
    batch: int

    def __getitem__(self, step: int) -> Batch:
        """Batch of one step."""
        first = step * self.batch
        return generate(self.recipe, self.templates, self.seed, range(first, first + self.batch))


def feed(series: Series, first_step: int, workers: int = 0) -> Iterator[Batch]:
    """Batches from `first_step` on, without end.

    On the CPU, `workers` processes of one thread each work ahead; on a CUDA device a second stream does, as long as
    the caller takes the next batch before it waits for results of the step.
    """
    steps = itertools.count(first_step)
    device = series.templates.labels.device
    if device.type == "cuda":
        return _on_second_stream(series.__getitem__, steps, device)
    if workers:
        loader = DataLoader(
            series,
            batch_size=None,  # the series makes whole batches
            sampler=steps,
            num_workers=workers,
            prefetch_factor=2,
            worker_init_fn=_leave_interrupts_to_the_parent,
            multiprocessing_context="fork",  # templates stay in the memory they are in
        )
        return iter(loader)
    return map(series.__getitem__, steps)


def _leave_interrupts_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_second_stream(make: Callable[[int], Batch], steps: Iterator[int], device: torch.device) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    for step in steps:
        with torch.cuda.stream(stream):
            batch = make(step)
        main = torch.cuda.current_stream(device)
        main.wait_stream(stream)
        for tensor in (batch.image, batch.target):
            tensor.record_stream(main)
        yield batch
