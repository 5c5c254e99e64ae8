"""Labels to image: one Gaussian a tissue, its mean and spread drawn anew for each sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.labels import label_set
from phantomseg.rng import Distribution, Uniform, draw_seed


@dataclass(frozen=True)
class TissueSettings:
    """Priors of intensity, on a scale of 0 to 255."""

    mean: Distribution = Uniform(0, 255)
    std: Distribution = Uniform(0, 35)
    shared_sides_probability: float = 0.0  # left and right get the same Gaussian
    background_zero_probability: float = 0.05
    background_dark_probability: float = 0.25
    stripped_zero_probability: float = 0.05  # the same for samples without a skull


@dataclass(frozen=True)
class Tissues:
    """One draw: mean and spread of each generation channel, and the seed of the voxel noise."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    noise_seed: int


def draw_tissues(settings: TissueSettings, stripped: bool, rng: np.random.Generator) -> Tissues:
    """Draw a contrast. Structures of one contrast group (and side, unless shared) look alike."""
    share = rng.uniform() < settings.shared_sides_probability
    groups: dict[tuple[str, str], tuple[float, float]] = {}
    pairs = []
    for label in label_set("generation").labels:
        key = (label.contrast, "" if share else label.side)
        if key not in groups:
            groups[key] = (settings.mean.draw(rng, 1)[0], settings.std.draw(rng, 1)[0])
        pairs.append(groups[key])
    zero = settings.stripped_zero_probability if stripped else settings.background_zero_probability
    chance = rng.uniform()
    if chance < zero:
        pairs[0] = (0.0, 0.0)
    elif chance < zero + settings.background_dark_probability:
        pairs[0] = (rng.uniform(0, 15), rng.uniform(0, 5))
    mean, std = zip(*pairs, strict=True)
    return Tissues(mean, std, draw_seed(rng))


def voxel_noise(seeds: list[int], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Standard normal noise, (B, *shape); each sample's depends on its own seed alone."""
    noise = torch.empty((len(seeds), *shape), device=device)
    for row, seed in zip(noise, seeds, strict=True):
        row.normal_(generator=torch.Generator(device).manual_seed(seed))
    return noise


def paint(labels: torch.Tensor, tissues: list[Tissues]) -> torch.Tensor:
    """Image of `mean[label] + std[label] · noise`, clipped at 0, shape (B, 1, I, J, K)."""
    device = labels.device
    count = len(tissues[0].mean)
    shift = torch.arange(len(tissues), device=device, dtype=torch.int32) * count
    index = (labels.int() + shift[:, None, None, None]).view(-1)
    mean, std = (
        torch.tensor([getattr(t, name) for t in tissues], device=device).view(-1).index_select(0, index)
        for name in ("mean", "std")
    )
    noise = voxel_noise([t.noise_seed for t in tissues], labels.shape[1:], device)
    image = torch.addcmul(mean.view(labels.shape), std.view(labels.shape), noise)
    return image.clamp_(min=0)[:, None]
