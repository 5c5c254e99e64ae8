"""Skull stripping of the label map, and the other look-ups that change labels one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from phantomseg.labels import label_set, merge
from phantomseg.synth.templates import brain_channels, intracranial_channels


@dataclass(frozen=True)
class StripSettings:
    """How often the sample shows the brain alone, or the brain in its CSF."""

    brain_probability: float = 0.25
    csf_probability: float = 0.25


def draw_strip(settings: StripSettings, rng: np.random.Generator) -> str:
    """What stays: "head", "brain" or "intracranial"."""
    chance = rng.uniform()
    if chance < settings.brain_probability:
        return "brain"
    return "intracranial" if chance < settings.brain_probability + settings.csf_probability else "head"


@cache
def relabelling(keep: str, flip: bool) -> np.ndarray:
    """Generation channel that each generation channel becomes, uint8, shape (G,)."""
    generation = label_set("generation")
    channels = generation.mirror if flip else np.arange(len(generation))
    kept = {"head": channels >= 0, "brain": brain_channels(), "intracranial": intracranial_channels()}[keep]
    return np.where(kept[channels], channels, 0).astype(np.uint8)


@cache
def target_channels(target: str) -> np.ndarray:
    """Channel in the label set `target` of each generation channel, uint8, shape (G,)."""
    ids = merge("generation", "head").apply(label_set("generation").ids)
    return label_set(target).index_of_ids(merge("head", target).apply(ids)).astype(np.uint8)


def look_up_each(labels: torch.Tensor, tables: list[np.ndarray]) -> torch.Tensor:
    """Replace the channels (B, I, J, K), uint8, of each sample by its own table."""
    stacked = torch.from_numpy(np.stack(tables)).to(labels.device)
    shift = torch.arange(len(tables), device=labels.device, dtype=torch.int32) * stacked.shape[1]
    index = labels.int() + shift[:, None, None, None]
    return stacked.view(-1).index_select(0, index.view(-1)).view(labels.shape)
