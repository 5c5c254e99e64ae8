"""The label maps of PUMBA, as its released code draws them (doi:10.48550/arXiv.2505.07159).

Two ellipsoids, one in the other, and a third around both; five small ones beside the brain; each cut into 2 × 2 × 2
boxes that look different; a few holes. Lengths count voxels of a frame of 128, and scale with the frame.

One thing differs: holes look like the background, which is nearly 0, where the code paints them 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.separable import apply_along_axes, interpolation_matrix
from phantomseg.rng import Distribution, Uniform, draw_seed
from phantomseg.synth.fillings import channel, inner, outer
from phantomseg.synth.pose import FIELD_SPACING_MM, integrate
from phantomseg.synth.solids import Triple, places, triple

FRAME = 128
BOXES = 8
NODES = 10  # of the random velocities along each axis
CLOSING = 2  # voxels


@dataclass(frozen=True)
class PumbaSettings:
    """What the paper leaves open; whole numbers are drawn evenly between the bounds in the code."""

    crop_voxels: tuple[int, int, int] = (128, 128, 128)
    human_mm: float = 1.65  # voxel at which a human brain is as large as the mean one drawn
    warp_voxels: Distribution = Uniform(10, 14)
    rotation_deg: Distribution = Uniform(-15, 15)


@dataclass(frozen=True)
class Ellipsoid:
    """Middle in voxels from that of the frame, and diameters."""

    middle: Triple
    diameters: Triple


@dataclass(frozen=True)
class Pumba:
    """One draw."""

    crop_voxels: tuple[int, int, int]
    head: Ellipsoid
    skull: Ellipsoid
    brain: Ellipsoid
    beside: tuple[Ellipsoid, ...]
    holes: tuple[Ellipsoid, ...]
    warp_voxels: float
    warp_seed: int
    rotation_deg: Triple


def draw_pumba(settings: PumbaSettings, rng: np.random.Generator) -> Pumba:
    """Draw one label map."""
    scale = min(settings.crop_voxels) / FRAME

    def ellipsoid(middle: np.ndarray, diameters: np.ndarray) -> Ellipsoid:
        return Ellipsoid(triple(middle * scale), triple(diameters * scale))

    head = rng.integers(120, 126, 3)
    skull = head - rng.integers(5, 50, 3)
    brain = skull - np.array([*rng.integers(0, 20, 2), rng.integers(10, 30)])
    sides = rng.choice([-1, 1], (5, 3))
    small = [ellipsoid(side * rng.integers(20, 31, 3), rng.integers(10, 30, 3)) for side in sides]
    # the code takes the first offset for all three axes
    holes = [
        ellipsoid(np.full(3, rng.integers(-30, 31)), rng.integers(3, 10, 3)) for _ in range(int(rng.integers(2, 5)))
    ]
    return Pumba(
        crop_voxels=settings.crop_voxels,
        head=ellipsoid(rng.integers(0, 10, 3), head),
        skull=ellipsoid(np.zeros(3), skull),
        brain=ellipsoid(np.zeros(3), brain),
        beside=tuple(small),
        holes=tuple(holes),
        warp_voxels=scale * settings.warp_voxels.draw(rng, 1)[0],
        warp_seed=draw_seed(rng),
        rotation_deg=triple(np.array(settings.rotation_deg.draw(rng, 3))),
    )


def draw_labels(pumbas: list[Pumba], device: torch.device) -> torch.Tensor:
    """Label maps, channels of the set `shapes`, uint8, (B, I, J, K)."""
    return torch.stack([_labels(one, device) for one in pumbas])


def _labels(pumba: Pumba, device: torch.device) -> torch.Tensor:
    where = _warped(pumba, device)
    result = torch.zeros(pumba.crop_voxels, dtype=torch.uint8, device=device)
    head, boxes = _inside(pumba.head, where)
    result = torch.where(head ^ _inside(pumba.skull, where)[0], boxes + outer(0), result)
    for number, small in enumerate(pumba.beside):
        found, boxes = _inside(small, where)
        # the set has parts for four of them; the fifth looks like the first
        result = torch.where(found, boxes + outer(BOXES * (1 + number % 4)), result)
    found, boxes = _inside(pumba.brain, where)
    brain = _closed(found)
    result = torch.where(brain, boxes + inner(1), result)
    for hole in pumba.holes:
        found, _ = _inside(hole, where)
        result[found & brain] = channel("hole in the brain")
        result[found & ~brain] = channel("cavity")
    return result.to(torch.uint8)


def _warped(pumba: Pumba, device: torch.device) -> torch.Tensor:
    """Where each voxel looks, in voxels from the middle of the frame, (3, I, J, K)."""
    size = pumba.crop_voxels
    coarse = places(size, FIELD_SPACING_MM)
    nodes = [torch.linspace(float(c[0]), float(c[-1]), NODES) for c in coarse]
    noise = np.random.default_rng(pumba.warp_seed).standard_normal((1, 3, NODES, NODES, NODES)) * pumba.warp_voxels
    to_coarse = [interpolation_matrix(c, n)[None].to(device) for c, n in zip(coarse, nodes, strict=True)]
    velocity = apply_along_axes(torch.tensor(noise, dtype=torch.float32, device=device), to_coarse)
    here = torch.stack(torch.meshgrid(*coarse, indexing="ij")).to(device)
    there = torch.einsum("xy,yijk->xijk", _turn(pumba.rotation_deg).to(device), here + integrate(velocity)[0])
    to_voxels = [interpolation_matrix(v, c)[None].to(device) for v, c in zip(places(size, 1), coarse, strict=True)]
    return apply_along_axes(there[None], to_voxels)[0]


def _turn(degrees: Triple) -> torch.Tensor:
    """Turns in the three planes, one after the other, (3, 3)."""
    result = np.eye(3)
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), np.radians(degrees), strict=True):
        plane = np.eye(3)
        plane[[first, second], [first, second]] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        result = plane @ result
    return torch.tensor(result, dtype=torch.float32)


def _inside(ellipsoid: Ellipsoid, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What lies in it, and in which of the 2 × 2 × 2 boxes around its middle, 0 to 7."""
    square = torch.zeros(where.shape[1:], device=where.device)
    boxes = torch.zeros(where.shape[1:], device=where.device, dtype=torch.uint8)
    for axis, middle, diameter in zip(where, ellipsoid.middle, ellipsoid.diameters, strict=True):
        away = axis - middle
        boxes.mul_(2).add_(away > 0)
        square.addcmul_(away, away, value=4 / diameter**2)
    return square < 1, boxes


def _closed(mask: torch.Tensor) -> torch.Tensor:
    """Mask closed with a ball of CLOSING voxels, up to the ball's corners."""
    width = 2 * CLOSING + 1
    volume = mask[None, None].float()
    grown = F.max_pool3d(volume, width, stride=1, padding=CLOSING)
    return -F.max_pool3d(-grown, width, stride=1, padding=CLOSING)[0, 0] > 0.5
