"""Receive-coil bias: a smooth field of positive gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.image.separable import apply_along_axes, interpolation_matrix
from phantomseg.rng import Distribution, Uniform, draw_seed


@dataclass(frozen=True)
class BiasSettings:
    """Spread of the log gain at nodes at most `nodes_mm` apart, the outermost at the ends of the crop."""

    probability: float = 1.0
    log_std: Distribution = Uniform(0, 0.6)
    nodes_mm: float = 50.0


@dataclass(frozen=True)
class Bias:
    """One draw; a spread of 0 leaves the image alone."""

    log_std: float
    nodes_mm: float
    seed: int


def draw_bias(settings: BiasSettings, rng: np.random.Generator) -> Bias:
    """Draw a field."""
    log_std = settings.log_std.draw(rng, 1)[0]
    if rng.uniform() >= settings.probability:
        log_std = 0.0
    return Bias(log_std, settings.nodes_mm, draw_seed(rng))


def apply_bias(image: torch.Tensor, biases: list[Bias]) -> torch.Tensor:
    """Image (B, 1, I, J, K) at 1 mm times each sample's gain."""
    sizes = image.shape[2:]
    shape = [math.ceil(n / biases[0].nodes_mm) + 1 for n in sizes]
    log_gain = np.stack([b.log_std * np.random.default_rng(b.seed).standard_normal([1, *shape]) for b in biases])
    matrices = [
        interpolation_matrix(torch.linspace(0, m - 1, n), torch.arange(m)).to(image.device)[None]
        for n, m in zip(sizes, shape, strict=True)
    ]
    field = apply_along_axes(torch.tensor(log_gain, dtype=torch.float32, device=image.device), matrices)
    return image * field.exp_()
