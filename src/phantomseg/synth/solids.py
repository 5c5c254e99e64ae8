"""Solids as signed distances on a grid: ellipsoids, boxes with round edges, tubes; joined, bumpy, wrapped in shells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Triple = tuple[float, float, float]
ENDLESS = 1e6  # voxels
LEAST_SLOPE = 0.2  # of a field, where its distance is read off


@dataclass(frozen=True)
class Solid:
    """A superellipsoid |x/a|ᵉ + |y/b|ᵉ + |z/c|ᵉ = 1 in axes of its own, in voxels from the middle of the frame.

    The exponent e is 2 for an ellipsoid; the larger, the more like a box. A half-axis ENDLESS makes a tube of it.
    """

    centre: Triple
    half_axes: Triple
    axes: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # unit vectors of its axes, row by row
    exponent: float = 2.0

    @property
    def radius(self) -> float:
        """Geometric mean of the finite half-axes.

        >>> Solid((0, 0, 0), (2.0, 4.0, ENDLESS)).radius.__round__(3)
        2.828
        """
        finite = [a for a in self.half_axes if a < ENDLESS]
        return math.prod(finite) ** (1 / len(finite))

    def direction(self, axis: int) -> np.ndarray:
        """Unit vector of one of its axes, shape (3,)."""
        return np.array(self.axes[3 * axis : 3 * axis + 3])


def triple(values: np.ndarray) -> Triple:
    """Three numbers of an array, (3,)."""
    first, second, third = (float(value) for value in values)
    return first, second, third


def random_axes(rng: np.random.Generator) -> tuple[float, ...]:
    """Axes of a solid turned at random, every turn alike likely."""
    matrix, upper = np.linalg.qr(rng.standard_normal((3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    matrix[2] *= np.linalg.det(matrix)
    return tuple(matrix.ravel().tolist())


def places(shape: Sequence[int], spacing: float) -> list[torch.Tensor]:
    """Nodes `spacing` voxels apart that span each axis of a frame, from its middle, in voxels.

    >>> places((3,), 2)[0].tolist()
    [-1.0, 1.0]
    """
    counts = [math.ceil((n - 1) / spacing) + 1 for n in shape]
    return [(torch.arange(m, dtype=torch.float32) - (m - 1) / 2) * spacing for m in counts]


def distance_to(solid: Solid, where: torch.Tensor) -> torch.Tensor:
    """Distance to its surface in voxels, negative within, right near the surface; (I, J, K) of places (3, I, J, K)."""
    axes = torch.tensor(solid.axes, device=where.device, dtype=where.dtype).view(3, 3)
    half = torch.tensor(solid.half_axes, device=where.device, dtype=where.dtype)
    centre = torch.tensor(solid.centre, device=where.device, dtype=where.dtype)
    own = (axes / half[:, None]) @ where.flatten(1) - ((axes / half[:, None]) @ centre)[:, None]  # (3, N) in half-axes
    size = own.abs_().clamp_(min=1e-6)
    if solid.exponent == 2:
        power = size.square()
        level = power.sum(0).sqrt_()
        slope = (power / half.square()[:, None]).sum(0).sqrt_() / level  # length of the gradient
    else:
        power = size.pow(solid.exponent)
        level = power.sum(0).pow_(1 / solid.exponent)
        slope = (power / size / half[:, None] / level.pow(solid.exponent - 1)).square_().sum(0).sqrt_()
    return ((level - 1) / slope.clamp_(min=1e-4)).view(where.shape[1:])


def joined(distances: Sequence[torch.Tensor], fillet: float) -> torch.Tensor:
    """Distance to the union of solids, whose corners are filled over about `fillet` voxels.

    >>> joined([torch.tensor([1.0]), torch.tensor([9.0])], 1.0).item().__round__(2)
    1.0
    """
    if len(distances) == 1:
        return distances[0]
    return torch.logsumexp(torch.stack(list(distances)) / -fillet, 0).mul_(-fillet)


def straightened(field: torch.Tensor) -> torch.Tensor:
    """A bent distance (I, J, K) divided by its slope, so that it counts voxels again near its surface."""
    square = torch.zeros_like(field)
    for axis in range(3):
        square.add_(torch.gradient(field, dim=axis)[0].square_())
    return field / square.sqrt_().clamp_(min=LEAST_SLOPE)
