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
from phantomseg.training.interrupt import SIGNALS


@dataclass(frozen=True, eq=False)
class Series(Dataset[Batch]):
    """Batches, each a pure function of its number; the first one begins with sample `first` of the series."""

    recipe: Recipe
    templates: Templates
    seed: int
    batch: int
    first: int = 0

    def __getitem__(self, number: int) -> Batch:
        """One batch."""
        first = self.first + number * self.batch
        return generate(self.recipe, self.templates, self.seed, range(first, first + self.batch))


def feed(series: Series, first: int, workers: int = 0, stride: int = 1) -> Iterator[Batch]:
    """Every `stride`-th batch from number `first` on, without end.

    On the CPU, `workers` processes of one thread each work ahead; on a CUDA device a second stream does, as long as
    the caller takes the next batch before it waits for results of the step.
    """
    numbers = itertools.count(first, stride)
    device = series.templates.labels.device
    if device.type == "cuda":
        return _on_second_stream(series.__getitem__, numbers, device)
    if workers:
        loader = DataLoader(
            series,
            batch_size=None,  # the series makes whole batches
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=2,
            worker_init_fn=_leave_interrupts_to_the_parent,
            multiprocessing_context="fork",  # templates stay in the memory they are in
        )
        return iter(loader)
    return map(series.__getitem__, numbers)


def _leave_interrupts_to_the_parent(_: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _on_second_stream(make: Callable[[int], Batch], numbers: Iterator[int], device: torch.device) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    for number in numbers:
        with torch.cuda.stream(stream):
            batch = make(number)
        main = torch.cuda.current_stream(device)
        main.wait_stream(stream)
        for tensor in (batch.image, batch.target):
            tensor.record_stream(main)
        yield batch
