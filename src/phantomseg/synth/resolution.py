"""Acquisition at a lower resolution: blur, sample, add noise there, and come back to the grid.

Blur and sampling of one axis are one small matrix, so any spacing and thickness cost the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix, smooth_noise
from phantomseg.rng import Distribution, Uniform, check_positive, draw_seed
from phantomseg.synth.tissues import voxel_noise

# the paper's Gaussian, which leaves 7 % of the amplitude at the Nyquist frequency of the slices
# (Billot 2020, doi:10.1007/978-3-030-59728-3_18)
SIGMA_PER_SPACING = 2 * math.log(10) / (2 * math.pi)
COILS = (1, 2, 4)  # whose magnitudes are summed in squares: Rician noise, then chi noise


@dataclass(frozen=True)
class ResolutionSettings:
    """Slice spacing and thickness, and noise of the acquisition."""

    fine_probability: float = 0.05  # all axes at 1 mm
    isotropic_probability: float = 0.10  # every axis drawn from `isotropic_mm`
    isotropic_mm: Distribution = Uniform(1, 4)
    slices_mm: Distribution = Uniform(1, 9)  # otherwise one axis, at random
    blur_factor: Distribution = Uniform(0.95, 1.05)
    least_sigma_mm: float = 0.5  # blur of the axes that keep 1 mm
    noise_std: Distribution = Uniform(0, 0)  # on images scaled to 0 … 1
    magnitude_probability: float = 0.0  # noise of a magnitude image (Rician, chi), not Gaussian
    g_factor_log_std: Distribution = Uniform(0, 0)  # of the smooth map by which parallel imaging scales the noise

    def __post_init__(self) -> None:
        check_positive(self.isotropic_mm, "recipe key resolution.isotropic_mm")
        check_positive(self.slices_mm, "recipe key resolution.slices_mm")


@dataclass(frozen=True)
class Resolution:
    """One draw."""

    spacing_mm: tuple[float, ...]
    sigma_mm: tuple[float, ...]
    noise_std: float
    noise_seed: int
    coils: int = 0  # 0 is Gaussian noise
    g_factor_log_std: float = 0.0


def draw_resolution(settings: ResolutionSettings, rng: np.random.Generator) -> Resolution:
    """Draw spacing, thickness (between 1 mm and the spacing) and noise."""
    spacing = np.ones(3)
    kind = rng.uniform()
    if kind >= settings.fine_probability:
        if kind < settings.fine_probability + settings.isotropic_probability:
            spacing = np.array(settings.isotropic_mm.draw(rng, 3))
        else:
            spacing[rng.integers(3)] = settings.slices_mm.draw(rng, 1)[0]
    thickness = rng.uniform(np.minimum(1, spacing), spacing)
    factor = settings.blur_factor.draw(rng, 1)[0]
    sigma = np.where(spacing > 1, SIGMA_PER_SPACING * thickness, settings.least_sigma_mm) * factor
    noise = settings.noise_std.draw(rng, 1)[0]
    coils = int(rng.choice(COILS))
    return Resolution(
        spacing_mm=tuple(spacing.tolist()),
        sigma_mm=tuple(sigma.tolist()),
        noise_std=noise,
        coils=coils if rng.uniform() < settings.magnitude_probability else 0,
        g_factor_log_std=settings.g_factor_log_std.draw(rng, 1)[0],
        noise_seed=draw_seed(rng),
    )


def acquire(image: torch.Tensor, resolutions: list[Resolution]) -> torch.Tensor:
    """Image (B, 1, I, J, K) at 1 mm as each acquisition would show it, on the same grid."""
    device = image.device
    down, up = zip(*[_matrices(image.shape[2 + axis], axis, resolutions) for axis in range(3)], strict=True)
    coarse = apply_along_axes(image, [matrix.to(device) for matrix in down])
    for volume, resolution in zip(coarse[:, 0], resolutions, strict=True):
        if resolution.noise_std:
            # noise of the sample's own slices, so that it does not depend on the padding of the batch
            shape = tuple(_slices(n, s) for n, s in zip(image.shape[2:], resolution.spacing_mm, strict=True))
            _add_noise(volume[: shape[0], : shape[1], : shape[2]], resolution)
    is_kept = [all(r.spacing_mm[axis] == 1 for r in resolutions) for axis in range(3)]
    return apply_along_axes(coarse, [None if kept else m.to(device) for m, kept in zip(up, is_kept, strict=True)])


def _add_noise(volume: torch.Tensor, resolution: Resolution) -> None:
    """Add noise to the measured volume (I, J, K), in place."""
    shape, device = tuple(volume.shape), volume.device
    scale = torch.tensor(resolution.noise_std, device=device)
    if resolution.g_factor_log_std:
        rng = np.random.default_rng(resolution.noise_seed)
        field = smooth_noise(rng, shape, max(shape) / 2, device)
        scale = scale * field.mul_(resolution.g_factor_log_std).exp_()
    volume.addcmul_(voxel_noise([resolution.noise_seed], shape, device)[0], scale)
    if resolution.coils:
        volume.square_()
        imaginary = voxel_noise([resolution.noise_seed + 1], shape, device)[0].mul_(scale)
        volume.addcmul_(imaginary, imaginary)
        if pairs := resolution.coils - 1:
            volume.addcmul_(_squared_pairs(resolution.noise_seed + 2, pairs, volume), scale.square())
        volume.sqrt_()


def _squared_pairs(seed: int, pairs: int, like: torch.Tensor) -> torch.Tensor:
    """Sum of the squares of `pairs` pairs of standard normal values a voxel: −2 · log of a product of uniform ones."""
    generator = torch.Generator(like.device).manual_seed(seed)
    product = torch.ones_like(like)
    for _ in range(pairs):
        product.mul_(torch.empty_like(like).uniform_(generator=generator))
    return product.clamp_(min=torch.finfo(like.dtype).tiny).log_().mul_(-2)


def _slices(count: int, spacing_mm: float) -> int:
    return max(2, round(count / spacing_mm))


def _matrices(count: int, axis: int, resolutions: list[Resolution]) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (B, n, count) down and (B, count, n) up; samples with fewer slices are padded with zeros."""
    place = torch.arange(count, dtype=torch.float32)
    down, up = [], []
    for resolution in resolutions:
        spacing = resolution.spacing_mm[axis]
        slices = _slices(count, spacing)
        at = (count - 1) / 2 + (torch.arange(slices) - (slices - 1) / 2) * spacing
        down.append(interpolation_matrix(at, place) @ gaussian_matrix(count, resolution.sigma_mm[axis]))
        up.append(interpolation_matrix(place, at))
    most = max(len(matrix) for matrix in down)
    return (
        torch.stack([torch.nn.functional.pad(m, (0, 0, 0, most - m.shape[0])) for m in down]),
        torch.stack([torch.nn.functional.pad(m, (0, most - m.shape[1])) for m in up]),
    )
