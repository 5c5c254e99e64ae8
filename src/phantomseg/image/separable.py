"""Interpolation and smoothing as one small matrix an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

SMALLEST_WEIGHT = 1e-20  # denormal numbers would make a product of matrices thirty times slower


def interpolation_matrix(targets: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """Linear interpolation from values at `nodes` (equally spaced, ascending) to `targets`, shape (T, N).

    Outside the nodes the nearest node's value holds.

    >>> interpolation_matrix(torch.tensor([0.5]), torch.tensor([0.0, 2.0])).tolist()
    [[0.75, 0.25]]
    """
    targets, nodes = targets.double(), nodes.double()
    count = len(nodes)
    if count == 1:
        return torch.ones(len(targets), 1)
    place = ((targets - nodes[0]) / (nodes[1] - nodes[0])).clamp(0, count - 1)
    low = place.floor().clamp(max=count - 2).long()
    weight = place - low
    matrix = torch.zeros(len(targets), count, dtype=torch.float64)
    rows = torch.arange(len(targets))
    matrix[rows, low] = 1 - weight
    matrix[rows, low + 1] = weight
    return matrix.float()


def gaussian_matrix(count: int, sigma: float) -> torch.Tensor:
    """Gaussian smoothing of `count` samples, sigma in samples, rows summing to 1, shape (N, N).

    >>> gaussian_matrix(3, 0.0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if sigma <= 0:
        return torch.eye(count)
    place = torch.arange(count, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2)
    weights = torch.where(weights < SMALLEST_WEIGHT, 0, weights)
    return (weights / weights.sum(1, keepdim=True)).float()


def apply_along_axes(volume: torch.Tensor, matrices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Multiply each of the last three axes of (B, C, i, j, k) by its matrix, (1 or B, N_out, n_in), or leave it.

    The axis that grows least goes first, which keeps the intermediate volumes small.
    """
    given = [(axis, matrix) for axis, matrix in enumerate(matrices) if matrix is not None]
    for axis, matrix in sorted(given, key=lambda pair: pair[1].shape[1] / pair[1].shape[2]):
        matrix = matrix[:, None]  # (1 or B, 1, N, n)
        batch, channels, *sizes = volume.shape
        count = matrix.shape[2]
        if axis == 0:
            volume = matrix @ volume.reshape(batch, channels, sizes[0], -1)
            volume = volume.view(batch, channels, count, sizes[1], sizes[2])
        elif axis == 1:
            volume = matrix[:, :, None] @ volume
        else:
            flat = volume.reshape(batch, channels, -1, sizes[2]) @ matrix.transpose(-1, -2)
            volume = flat.view(batch, channels, sizes[0], sizes[1], count)
    return volume


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], nodes: float, device: torch.device, fields: int = 1
) -> torch.Tensor:
    """Standard normal values at nodes `nodes` voxels apart, linear in between, shape (I, J, K) or (fields, I, J, K).

    The nodes are shifted at random, so that no voxel is a node more often than others.
    """
    counts = [math.ceil(n / nodes) + 2 for n in shape]
    shift = rng.uniform(0, nodes, 3)
    values = torch.from_numpy(rng.standard_normal([1, fields, *counts]).astype(np.float32)).to(device)
    matrices = [
        interpolation_matrix(torch.arange(n) + s, torch.arange(m) * nodes).to(device)[None]
        for n, m, s in zip(shape, counts, shift.tolist(), strict=True)
    ]
    noise = apply_along_axes(values, matrices)[0]
    return noise[0] if fields == 1 else noise


def box_sum(volume: torch.Tensor, width: int) -> torch.Tensor:
    """Sum over a cube of `width` voxels (made odd) around each voxel, cut off at the borders, shape (I, J, K).

    >>> box_sum(torch.ones(1, 1, 4), 3).tolist()
    [[[2.0, 3.0, 3.0, 2.0]]]
    """
    matrices = []
    for count in volume.shape:
        place = torch.arange(count, device=volume.device)
        near = (place[:, None] - place[None]).abs() <= width // 2
        matrices.append(near.to(volume.dtype)[None])
    return apply_along_axes(volume[None, None], matrices)[0, 0]
