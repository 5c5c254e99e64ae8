"""Tissues in the probabilities of several label sets at once: where each has a channel, and how it gains and loses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from phantomseg.labels import label_set
from phantomseg.labels.merge import Merge
from phantomseg.network.model import Model

REFINED = "refined"  # label set of all tissues of the brain whose boundaries are refined
PLEXUS = "plexus"  # of ventricles and plexus apart, which are one tissue in REFINED
OUTER = "outer"  # of those around it
WHITE, CORTEX, FLUID, BONES, LESION = (2, 41), (3, 42), (24,), (515, 516), (25, 57)
SIDED = frozenset(label.id for label in label_set(REFINED).labels if label.side)
FAINT = 1e-2  # weight of the sides of all tissues in those of one
Sets = Mapping[str, torch.Tensor]  # probabilities of each label set, (C, I, J, K)
Part = tuple[tuple[int, ...], ...]  # values of tissues; left and right in turn where there are sides


def places(model: Model, sets: Iterable[str], tissues: str = REFINED) -> dict[int, tuple[str, int]]:
    """Set and channel that hold nothing but one tissue, of each that has such a channel."""
    wanted = _sources(model, tissues)
    held = {sources: (name, channel) for name in sets for channel, sources in _sources(model, name).items()}
    values = label_set(tissues).ids.tolist()
    return {values[c]: held[sources] for c, sources in wanted.items() if c and sources in held}


def told_tissues(model: Model, sets: Iterable[str]) -> list[str]:
    """Label sets of the tissues that are parted, for what some label sets tell."""
    plexus = model.reaches(PLEXUS) and any(np.diff(model.merge(name).apply(np.array([4, 31]))) for name in sets)
    return [REFINED, *([PLEXUS] if plexus else []), *([OUTER] if tells_around(model, sets) else [])]


def tells_around(model: Model, sets: Iterable[str]) -> bool:
    """Whether one of the label sets tells tissues around the brain, and the model knows those that are parted."""
    return model.reaches(OUTER) and any(model.merge(name).apply(np.array(BONES)).any() for name in sets)


def channels_of(model: Model, sets: Sets) -> dict[int, torch.Tensor]:
    """Probabilities (I, J, K) of each tissue that is parted and has a channel of its own."""
    known = [places(model, sets, name) for name in told_tissues(model, sets)]
    return {value: sets[name][channel] for one in known for value, (name, channel) in one.items()}


def at_voxels(
    channels: Mapping[int, torch.Tensor], part: Part, box: tuple[slice, ...], where: torch.Tensor
) -> list[torch.Tensor]:
    """Probabilities at some voxels (N,) of a box, float32, (values, N) for each tissue."""
    return [torch.stack([channels[value][box].reshape(-1)[where] for value in ids]).float() for ids in part]


def lesion_channels(model: Model, sets: Iterable[str]) -> list[tuple[str, int]]:
    """Set and channels that hold nothing but lesions of the white matter, none where no set has any."""
    for name in sets:
        found = [channel for channel, sources in _sources(model, name).items() if sources <= set(LESION)]
        if found:
            return [(name, channel) for channel in found]
    return []


def _sources(model: Model, name: str) -> dict[int, frozenset[int]]:
    """Labels of the model that each channel of a set is merged from."""
    merged = model.merge(name)
    pairs = list(zip(merged.source_ids, merged.channels.tolist(), strict=True))
    return {channel: frozenset(value for value, c in pairs if c == channel) for _, channel in pairs}


def add_gains(changes: list[torch.Tensor], part: Part, merged: Merge, found: torch.Tensor, where: torch.Tensor) -> None:
    """Add what each tissue has gained, (values, N) each, to the channels that hold it."""
    sums: dict[int, torch.Tensor] = {}
    for ids, change in zip(part, changes, strict=True):
        for channel, one in zip(merged.target.index_of_ids(merged.apply(np.array(ids))).tolist(), change, strict=True):
            sums[channel] = sums[channel] + one if channel in sums else one
    for channel, one in sums.items():
        gained = torch.zeros(found.shape[1:], dtype=found.dtype)
        gained.view(-1)[where] = one.to(found.dtype)
        found[channel].add_(gained).clamp_(min=0)


def summed(channels: Iterable[torch.Tensor]) -> torch.Tensor:
    """Their sum in float32, with one at a time in memory."""
    first, *others = channels
    total = first.to(torch.float32, copy=True)
    for one in others:
        total = total.add_(one)
    return total


def by_side(part: Part, sides: list[torch.Tensor], tissue: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities of the tissues (T, N) parted as before; a tissue that was not there, as the others are."""
    sided = [ids[0] in SIDED for ids in part]
    around = FAINT * torch.stack([one[:2] for one, both in zip(sides, sided, strict=True) if both]).sum(0)
    shares = [
        torch.cat([one[:2] + around, one[2:]]) if both else one + FAINT for one, both in zip(sides, sided, strict=True)
    ]
    return [new * share / share.sum(0).clamp(min=1e-9) for new, share in zip(tissue, shares, strict=True)]
