"""What goes wrong in a scanner: motion, ghosts, spikes, uneven slices; and what users do to intensities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.rng import Distribution, Uniform, check_positive, draw_seed

CENTRAL_LINES = 0.03  # share of the lines that ghosts leave alone; they hold nearly all of the contrast


@dataclass(frozen=True)
class ArtefactSettings:
    """Each artefact with its own probability. Strengths are relative to an image between 0 and 1."""

    motion_probability: float = 0.0
    motion_deg: Distribution = Uniform(0.5, 3)
    motion_mm: Distribution = Uniform(0.5, 4)
    ghost_probability: float = 0.0
    ghost_strength: Distribution = Uniform(0.05, 0.4)
    spike_probability: float = 0.0
    spike_strength: Distribution = Uniform(0.02, 0.12)
    slices_probability: float = 0.0
    slices_log_std: Distribution = Uniform(0.02, 0.2)
    slices_mm: Distribution = Uniform(1, 8)
    inversion_probability: float = 0.0
    saturation_probability: float = 0.0
    saturation_level: Distribution = Uniform(0.4, 0.9)

    def __post_init__(self) -> None:
        check_positive(self.slices_mm, "recipe key artefacts.slices_mm")


@dataclass(frozen=True)
class Artefacts:
    """One draw; what did not happen has a strength of 0."""

    phase_axis: int
    motion_deg: float
    motion_mm: float
    ghost_strength: float
    ghosts: int
    spike_strength: float
    slice_axis: int
    slices_log_std: float
    slices_mm: float
    invert: bool
    saturation_level: float
    seed: int


def draw_artefacts(settings: ArtefactSettings, rng: np.random.Generator) -> Artefacts:
    """Draw what goes wrong."""

    def strength(probability: float, distribution: Distribution) -> float:
        value = distribution.draw(rng, 1)[0]
        return value if rng.uniform() < probability else 0.0

    motion_deg = settings.motion_deg.draw(rng, 1)[0]
    motion_mm = strength(settings.motion_probability, settings.motion_mm)
    saturation = settings.saturation_level.draw(rng, 1)[0]
    return Artefacts(
        phase_axis=int(rng.integers(3)),
        motion_deg=motion_deg if motion_mm else 0.0,
        motion_mm=motion_mm,
        ghost_strength=strength(settings.ghost_probability, settings.ghost_strength),
        ghosts=int(rng.integers(2, 7)),
        spike_strength=strength(settings.spike_probability, settings.spike_strength),
        slice_axis=int(rng.integers(3)),
        slices_log_std=strength(settings.slices_probability, settings.slices_log_std),
        slices_mm=settings.slices_mm.draw(rng, 1)[0],
        invert=bool(rng.uniform() < settings.inversion_probability),
        saturation_level=saturation if rng.uniform() < settings.saturation_probability else 1.0,
        seed=draw_seed(rng),
    )


def apply_artefacts(image: torch.Tensor, artefacts: list[Artefacts]) -> torch.Tensor:
    """Image (B, 1, I, J, K) between 0 and 1 with what was drawn, same shape."""
    volumes = [_apply_one(volume, drawn) for volume, drawn in zip(image[:, 0], artefacts, strict=True)]
    return torch.stack(volumes)[:, None]


def _apply_one(volume: torch.Tensor, drawn: Artefacts) -> torch.Tensor:
    rng = np.random.default_rng(drawn.seed)
    if drawn.invert:
        volume = 1 - volume
    if drawn.saturation_level < 1:
        volume = volume.clamp(max=drawn.saturation_level) / drawn.saturation_level
    if drawn.motion_mm or drawn.ghost_strength:
        volume = read_out(volume, drawn, rng)
    if drawn.spike_strength:
        volume = add_spike(volume, drawn.spike_strength, rng)
    if drawn.slices_log_std:
        volume = uneven_slices(volume, drawn, rng)
    return volume


def read_out(volume: torch.Tensor, drawn: Artefacts, rng: np.random.Generator) -> torch.Tensor:
    """Magnitude of a volume (I, J, K) whose lines were read while the head moved, or with uneven strength.

    Lines along the phase axis are read one after the other; the head holds the pose of the labels while the middle
    line is read, which settles where things are seen.
    """
    axis = drawn.phase_axis
    count = volume.shape[axis]
    lines = torch.fft.fft(volume, dim=axis)
    order = torch.fft.fftfreq(
        count, 1 / count, device=volume.device
    ).round()  # line numbers, 0 in the middle of the read-out
    if drawn.motion_mm:
        # the head jerks once before and once after the middle
        for side in (-1, 1):
            jerk = side * rng.uniform(CENTRAL_LINES, 0.45) * count
            moved = torch.fft.fft(_moved(volume, drawn, rng), dim=axis)
            lines = torch.where(_along(order * side > jerk * side, axis), moved, lines)
    if drawn.ghost_strength:
        weak = (order.remainder(drawn.ghosts) == 0) & (order.abs() > CENTRAL_LINES * count / 2)
        lines = lines * _along(1 - drawn.ghost_strength * weak, axis)
    return torch.fft.ifft(lines, dim=axis).abs()


def _moved(volume: torch.Tensor, drawn: Artefacts, rng: np.random.Generator) -> torch.Tensor:
    """The volume turned by about `motion_deg` and shifted by about `motion_mm`."""
    axis = rng.standard_normal(3)
    x, y, z = math.radians(drawn.motion_deg) * axis / np.linalg.norm(axis)
    turn = np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])  # small angles
    direction = rng.standard_normal(3)
    shift = drawn.motion_mm * direction / np.linalg.norm(direction)
    half = np.array(volume.shape) / 2  # grid_sample counts from -1 to 1
    linear = turn * half[None] / half[:, None]
    theta = np.concatenate([linear, (shift / half)[:, None]], 1)[::-1][:, [2, 1, 0, 3]]  # fastest axis first
    matrix = torch.tensor(theta.copy(), dtype=volume.dtype, device=volume.device)[None]
    grid = F.affine_grid(matrix, [1, 1, *volume.shape], align_corners=False)
    return F.grid_sample(volume[None, None], grid, padding_mode="border", align_corners=False)[0, 0]


def add_spike(volume: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Volume (I, J, K) with the stripes of one wrong sample in k-space, of any direction and width."""
    phase = torch.tensor(rng.uniform(0, 2 * math.pi), device=volume.device)
    for axis, frequency in enumerate(rng.uniform(-0.4, 0.4, 3)):
        place = torch.arange(volume.shape[axis], device=volume.device, dtype=volume.dtype)
        phase = phase + _along(2 * math.pi * frequency * place, axis)
    return (volume + strength * phase.cos()).abs()


def uneven_slices(volume: torch.Tensor, drawn: Artefacts, rng: np.random.Generator) -> torch.Tensor:
    """Volume (I, J, K) with a gain of its own for each slice along one axis."""
    count = volume.shape[drawn.slice_axis]
    which = (np.arange(count) / drawn.slices_mm).astype(int)
    gain = np.exp(drawn.slices_log_std * rng.standard_normal(which[-1] + 1))[which]
    return volume * _along(torch.tensor(gain, dtype=volume.dtype, device=volume.device), drawn.slice_axis)


def _along(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Values (n,) laid out along one axis of a volume."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.view(shape)
