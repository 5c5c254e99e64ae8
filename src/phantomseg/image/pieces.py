"""Volumes in pieces that stay in the cache of a CPU's core while several operations go over them."""

from __future__ import annotations

import torch

PIECE_BYTES = 2**18


def in_pieces(volume: torch.Tensor, axis: int) -> tuple[torch.Tensor, ...]:
    """Views of a volume, split along one axis; all of it on a GPU or where several threads share an operation.

    >>> sum(len(piece) for piece in in_pieces(torch.zeros(5, 2**15), 0))
    5
    """
    if volume.device.type != "cpu" or torch.get_num_threads() > 1:  # who would wake each other for every piece
        return (volume,)
    slice_bytes = volume.nbytes // max(1, volume.shape[axis])
    return volume.split(max(1, PIECE_BYTES // max(1, slice_bytes)), axis)
