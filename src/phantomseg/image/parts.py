"""The fine voxels that make up each coarse one."""

from __future__ import annotations

import torch


def parts_of(volume: torch.Tensor, times: int) -> torch.Tensor:
    """Fine voxels of each coarse one: (B, t·i, t·j, t·k) to (B, i, j, k, t³).

    >>> parts_of(torch.arange(8).view(1, 2, 2, 2), 2).flatten().tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if times == 1:
        return volume[..., None]
    batch, i, j, k = volume.shape
    x = volume.reshape(batch, i // times, times, j // times, times, k // times, times)
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
