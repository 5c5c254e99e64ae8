"""How much of a scan the network sees at once, so that memory lasts."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from phantomseg.errors import MemoryLimitError
from phantomseg.inference.tiles import OVERLAP_VOXELS, Tiles
from phantomseg.runtime import number_format

# measured: peak over what the probabilities take, with a part for what allocators keep
REFINE_BYTES, AROUND_BYTES = 66, 100  # a voxel, where boundaries are refined after that, and those around the brain too
IMAGE_BYTES = 24  # a voxel of the network's grid, for the image, its mirror image and what made them
PROBABILITY_BYTES = 2
FIXED_BYTES = 150e6
FLOAT32_BYTES = 300e6  # more, where the processor has no bfloat16: what is decoded at once, and weights
SHORTEST_TILE = 2 * OVERLAP_VOXELS


def plan_tiles(
    shape: tuple[int, int, int], channels: int, network: nn.Module, most_bytes: float, after_bytes: int = 0
) -> Tiles:
    """The largest tiles, fewest first, whose prediction needs at most `most_bytes` beside what is in use already.

    Args:
        shape: of the network's grid.
        channels: of all label sets.
        network: tells the multiple of its axes, and the memory that a voxel takes.
        most_bytes: that may be taken.
        after_bytes: that a voxel takes in what is done afterwards, beside the probabilities.

    Raises:
        MemoryLimitError: even the smallest tiles need more.
    """
    multiple: int = network.multiple  # type: ignore[assignment]
    options = [_lengths(size, multiple) for size in shape]
    sizes = sorted(itertools.product(*options), key=lambda size: -int(np.prod(size)))
    for i, j, k in sizes:
        tiles = Tiles(shape, (i, j, k), multiple)
        if needed_bytes(tiles, channels, network, after_bytes) <= most_bytes:
            return tiles
    least = min(needed_bytes(Tiles(shape, (i, j, k), multiple), channels, network, after_bytes) for i, j, k in sizes)
    raise MemoryLimitError(
        f"scan needs {least / 1e9:.1f} GB beside what is in use already, even in tiles, and may use "
        f"{max(most_bytes, 0) / 1e9:.1f} GB; raise --max-memory, choose fewer labels or --backend torch, or crop the "
        "scan to the head"
    )


def needed_bytes(tiles: Tiles, channels: int, network: nn.Module, after_bytes: int = 0) -> float:
    """Bytes that predicting takes at its peak; tiles want norms of the whole first, if the network has any."""
    everywhere, at_once = float(np.prod(tiles.shape)), float(np.prod(tiles.size))
    wide = number_format(torch.device("cpu")) != torch.bfloat16
    encoding = float(network.bytes_a_voxel) * (2 if wide else 1)  # type: ignore[arg-type]
    probabilities = PROBABILITY_BYTES * channels * (everywhere + (at_once if len(tiles) > 1 else 0))
    first = encoding * everywhere if has_norms(network) else 0
    fixed = FIXED_BYTES + (FLOAT32_BYTES if wide else 0)
    after = (PROBABILITY_BYTES * channels + after_bytes) * everywhere if after_bytes else 0
    return fixed + IMAGE_BYTES * everywhere + max(first, encoding * at_once + probabilities, after)


def has_norms(network: nn.Module) -> bool:
    """Whether the network takes statistics of what it sees."""
    return any(isinstance(module, nn.GroupNorm) for module in network.modules())


def _lengths(size: int, multiple: int) -> list[int]:
    """Lengths of tiles along an axis: all of it, or as much as two, three ... overlapping ones need."""
    lengths = [size]
    for count in itertools.count(2):
        length = -(-(size + (count - 1) * OVERLAP_VOXELS) // (count * multiple)) * multiple
        if length <= SHORTEST_TILE or length >= lengths[-1]:
            return lengths
        lengths.append(length)
    return lengths
