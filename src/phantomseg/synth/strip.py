"""Skull stripping of the label map, and mirrored sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.distance import LONGEST_REACH, squared_distance, with_corners
from phantomseg.labels import label_set
from phantomseg.rng import Distribution, Uniform
from phantomseg.synth.channels import every_mm, look_up
from phantomseg.synth.source import TEMPLATES, brain_channels, intracranial_channels

RIM_MM = 1.5  # or voxels, in recipes that count these


@dataclass(frozen=True)
class StripSettings:
    """How often the sample shows the brain alone, the brain in its CSF, or the brain with a margin of anything.

    Masked ones are stripped after they were acquired, as real scans are: what is outside is 0, and voxels at the edge
    hold a part of what was beyond. Their edge is sharp, or soft, as that of a stripped scan is which was interpolated
    afterwards. In the others there was never anything outside.
    """

    brain_probability: float = 0.25
    csf_probability: float = 0.25
    margin_probability: float = 0.0
    margin_mm: Distribution = Uniform(0, 6)
    masked_probability: float = 0.0  # of the stripped ones
    soft_probability: float = 0.0  # of the masked ones


@dataclass(frozen=True)
class Strip:
    """One draw; `keep` is "head", "brain" or "intracranial", with `margin_mm` around it."""

    keep: str
    margin_mm: float
    masked: bool = False
    soft: bool = False

    @property
    def kept_whole(self) -> bool:
        """Whether masks are to leave it as it is: so thin a margin is what other tools leave around a brain."""
        return self.keep != "head" and self.margin_mm <= RIM_MM


def draw_strip(settings: StripSettings, rng: np.random.Generator) -> Strip:
    """Draw what stays."""
    chance = rng.uniform()
    margin = settings.margin_mm.draw(rng, 1)[0]
    ends = np.cumsum([settings.brain_probability, settings.csf_probability, settings.margin_probability])
    masked = bool(rng.uniform() < settings.masked_probability)
    soft = masked and bool(settings.soft_probability) and bool(rng.uniform() < settings.soft_probability)
    stripped = (
        Strip("brain", 0.0, masked, soft),
        Strip("intracranial", 0.0, masked, soft),
        Strip("brain", margin, masked, soft),
    )
    return (*stripped, Strip("head", 0.0))[int(np.searchsorted(ends, chance, side="right"))]


def apply_strip(labels: torch.Tensor, strips: list[Strip], per_mm: int = 1, source: str = TEMPLATES) -> torch.Tensor:
    """Labels (B, I, J, K), channels of the source at `per_mm` voxels a mm, with background for what is stripped."""
    return torch.stack([_strip_one(*pair, per_mm, source) for pair in zip(labels, strips, strict=True)])


def _strip_one(labels: torch.Tensor, strip: Strip, per_mm: int, source: str) -> torch.Tensor:
    if strip.keep == "head":
        return labels
    table = {"brain": brain_channels, "intracranial": intracranial_channels}[strip.keep](source)
    kept = look_up(labels, torch.from_numpy(table).to(labels.device))
    voxels = min(LONGEST_REACH, strip.margin_mm * per_mm)
    if voxels >= 1:
        kept = squared_distance(kept, int(voxels)) <= voxels**2
    return labels * kept


def before_masking(labels: torch.Tensor, kept: torch.Tensor, strips: list[Strip]) -> torch.Tensor:
    """What is acquired, (B, I, J, K): all labels of samples that are masked afterwards, of others what was kept."""
    each = zip(labels, kept, strips, strict=True)
    return torch.stack([whole if strip.masked else part for whole, part, strip in each])


def mask_stripped(image: torch.Tensor, kept: torch.Tensor, strips: list[Strip], per_mm: int = 1) -> None:
    """Zero what acquired images (B, 1, I, J, K) show outside what was kept, where that is masked, in place."""
    for volume, labels, strip in zip(image[:, 0], every_mm(kept, per_mm), strips, strict=True):
        if strip.masked:
            volume.masked_fill_(labels == 0, 0)
        if strip.soft:
            soften(volume, labels > 0)


def soften(volume: torch.Tensor, mask: torch.Tensor) -> None:
    """Average an image (I, J, K) with weights of 1, 2, 1 along each axis next to the edge of a mask, in place.

    >>> volume = torch.tensor([0.0, 0, 0, 8, 8, 4]).view(1, 1, 6).expand(3, 3, 6).clone()
    >>> soften(volume, volume > 0)
    >>> volume[1, 1].tolist()
    [0.0, 0.0, 2.0, 6.0, 8.0, 4.0]
    """
    wide = F.pad(volume[None, None], [1] * 6, mode="replicate")
    smooth = F.avg_pool3d(F.avg_pool3d(wide, 2, 1), 2, 1)[0, 0]
    volume.copy_(torch.where(with_corners(mask) & with_corners(~mask), smooth, volume))


@cache
def mirror_channels(flip: bool) -> np.ndarray:
    """Generation channel that each generation channel becomes, uint8, shape (G,)."""
    generation = label_set(TEMPLATES)
    return (generation.mirror if flip else np.arange(len(generation))).astype(np.uint8)


def look_up_each(labels: torch.Tensor, tables: list[np.ndarray]) -> torch.Tensor:
    """Replace the channels (B, I, J, K), uint8, of each sample by its own table."""
    stacked = torch.from_numpy(np.stack(tables)).to(labels.device)
    return torch.stack([look_up(volume, table) for volume, table in zip(labels, stacked, strict=True)])
