"""Contrast curve: intensities between 0 and 1 raised to a random power."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.rng import Distribution, Normal

LEAST, LEAST_LOG = 1e-30, -80.0


@dataclass(frozen=True)
class GammaSettings:
    """Natural logarithm of the exponent."""

    log_exponent: Distribution = Normal(0, math.sqrt(0.4))


def draw_gamma(settings: GammaSettings, rng: np.random.Generator) -> float:
    """Draw an exponent."""
    return math.exp(settings.log_exponent.draw(rng, 1)[0])


def apply_gamma(image: torch.Tensor, exponents: list[float]) -> torch.Tensor:
    """Image (B, 1, I, J, K) between 0 and 1 to the power of each sample's exponent.

    >>> apply_gamma(torch.full((1, 1, 1, 1, 1), 0.5), [2.0]).item()
    0.25
    """
    power = torch.tensor(exponents, device=image.device)[:, None, None, None, None]
    # half the time of a power, where no logarithm is infinite and no result denormal
    return image.clamp(min=LEAST).log_().mul_(power).clamp_(min=LEAST_LOG).exp_()
