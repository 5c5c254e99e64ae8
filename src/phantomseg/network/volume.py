"""Volumes and blocks of them, as both networks speak of them."""

from __future__ import annotations

import torch

Block = tuple[slice, slice, slice]  # voxels along each axis


def whole(image: torch.Tensor) -> Block:
    """The block that is all of (B, 1, I, J, K)."""
    i, j, k = image.shape[2:]
    return slice(0, i), slice(0, j), slice(0, k)


def finer(block: Block, times: int) -> Block:
    """The same block counted in voxels `times` as fine."""
    i, j, k = (slice(times * s.start, times * s.stop) for s in block)
    return i, j, k


def coarser(block: Block, times: int) -> Block:
    """The same block counted in voxels `times` as coarse."""
    i, j, k = (slice(s.start // times, s.stop // times) for s in block)
    return i, j, k


def double(x: torch.Tensor) -> torch.Tensor:
    """Each voxel repeated 2 × 2 × 2 times: (B, C, i, j, k) to (B, C, 2i, 2j, 2k).

    `F.interpolate` would do, but its compiled backward pass in bfloat16 is zero (torch 2.13, CPU).
    """
    batch, channels, i, j, k = x.shape
    wide = x[:, :, :, None, :, None, :, None].expand(batch, channels, i, 2, j, 2, k, 2)
    return wide.reshape(batch, channels, 2 * i, 2 * j, 2 * k).contiguous(memory_format=torch.channels_last_3d)
