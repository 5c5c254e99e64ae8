"""Class probabilities on the network's grid, decoded block by block, already in the label set asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.inference.memory import has_norms
from phantomseg.inference.tiles import Tiles
from phantomseg.network.losses import SOFT_VOXELS
from phantomseg.network.model import Model
from phantomseg.network.norms import Norms, kept
from phantomseg.network.volume import Block, whole
from phantomseg.runtime import autocast

# blocks whose logits stay below the 32 MB that the C library reuses, chunks that fit the processor's cache
BLOCK_VOXELS = (16, 64)
CHUNK_VOXELS = 2**14
BRIGHT = 0.1  # what is darker is background

Middle = tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Predicted:
    """Probabilities of each label set, float16 on the CPU, (C, I, J, K); and how far the mirrored scan agrees.

    `agreements` holds the soft Dice of the channels of all sets between both predictions, NaN where there is nothing.
    """

    sets: tuple[torch.Tensor, ...]
    agreements: torch.Tensor | None = None

    @property
    def agreement(self) -> torch.Tensor | None:
        """Of the first set, (C,)."""
        return None if self.agreements is None else self.agreements[: len(self.sets[0])]


def field_seen(image: torch.Tensor, model: Model, middle: Middle = None) -> Block | None:
    """The block that norms are taken over: about as large as in training, around the brain, or what is bright.

    Over a whole head, with its neck and the air around it, a network that was trained on crops meets means and
    variances that it has never seen, and loses skull and skin. Two `multiple`s more than the crop scored best.

    Args:
        image: (1, 1, I, J, K), each axis a multiple of the network's.
        model: None comes back where it does not tell what it was trained on.
        middle: of the brain, in voxels, where that is known.
    """
    if model.crop_voxels is None:
        return None
    multiple: int = model.network.multiple  # type: ignore[assignment]
    bright = image[0, 0] > BRIGHT
    ends = []
    for axis, (size, crop) in enumerate(zip(image.shape[2:], model.crop_voxels, strict=True)):
        length = min(size, crop + 2 * multiple)
        centre = _centre(bright, axis) if middle is None else middle[axis] + 0.5
        low = multiple * round((centre - length / 2) / multiple)
        ends.append((min(max(low, 0), size - length), length))
    i, j, k = (slice(low, low + length) for low, length in ends)
    return i, j, k


def _centre(bright: torch.Tensor, axis: int) -> float:
    counts = bright.sum([a for a in range(3) if a != axis]).cpu().double()
    return float((counts * torch.arange(len(counts))).sum() / counts.sum()) if counts.sum() else len(counts) / 2


@torch.no_grad()
def predict(
    model: Model,
    image: torch.Tensor,
    sets: Sequence[str],
    flip: bool,
    middle: Middle = None,
    tiles: Tiles | None = None,
) -> Predicted:
    """Probabilities of the channels of each label set.

    Args:
        model: network and its label set.
        image: (1, 1, I, J, K) between 0 and 1, axes towards right, anterior, superior.
        sets: names of label sets that the model's merges into.
        flip: average with the prediction for the mirrored image, sides swapped.
        middle: of the brain, in voxels, where it is known.
        tiles: what the network sees at once; by default, everything.
    """
    device = model.device
    merges = [model.merge(name) for name in sets]
    ones = [F.one_hot(torch.from_numpy(m.channels).long(), len(m.target)) for m in merges]
    matrix = torch.cat(ones, 1).to(device, torch.float32)
    image = image.to(device).contiguous(memory_format=torch.channels_last_3d)
    matrices = [matrix, matrix[torch.from_numpy(model.labels.mirror)]] if flip else [matrix]  # sides swapped, merged
    totals = torch.zeros(3, matrix.shape[1], dtype=torch.float64)
    result = _empty(matrix.shape[1], image.shape[2:])
    if tiles is None or len(tiles) == 1:
        norms = [_norms(*view, model) for view in _views(image, middle, flip)]
        _fill(result, _Passes(model, matrices, norms), image, totals)
    else:
        passes = _Passes(model, matrices, [_kept_norms(*view, model) for view in _views(image, middle, flip)])
        part = _empty(matrix.shape[1], tiles.size)
        result.zero_()
        for block in tiles:
            i, j, k = block
            weight = tiles.weight(block).half()
            _fill(part, passes, image[:, :, i, j, k], totals)
            result[:, i, j, k] += part.mul_(weight)
    common, first, second = totals
    return Predicted(result.split([len(m.target) for m in merges]), 2 * common / (first + second) if flip else None)


@dataclass(frozen=True, eq=False)
class _Passes:
    """One pass of the network over an image, or two, the second over the mirrored image."""

    model: Model
    matrices: list[torch.Tensor]  # from the network's channels to those of the result
    norms: list[Norms | None]


def _views(image: torch.Tensor, middle: Middle, flip: bool) -> list[tuple[torch.Tensor, Middle]]:
    """The image, and the mirrored one, each with the middle of its brain."""
    mirrored = None if middle is None else (image.shape[2] - 1 - middle[0], *middle[1:])
    return [(image, middle), (image.flip(2), mirrored)] if flip else [(image, middle)]


def _norms(image: torch.Tensor, middle: Middle, model: Model) -> Norms | None:
    seen = field_seen(image, model, middle)
    return None if seen is None else Norms(seen)


def _kept_norms(image: torch.Tensor, middle: Middle, model: Model) -> Norms:
    """Norms for all tiles of an image, from a pass over all of it: nothing but the block's moments stays."""
    norms = _norms(image, middle, model) or Norms(whole(image))
    if not has_norms(model.network):
        return norms  # nothing would be taken
    with autocast(image.device):
        model.network.encode(image, norms)  # type: ignore[operator]
    return kept(norms)


def _fill(result: torch.Tensor, passes: _Passes, image: torch.Tensor, totals: torch.Tensor) -> None:
    """Write the mean of all passes over `image`, (1, 1, I, J, K), to `result`, (C, I, J, K).

    What both passes have in common, and what each has, is added to the rows of `totals`.
    """
    model, size = passes.model, image.shape[2]
    for (i, j, k), found in _blocks(model, image, passes.matrices[0], passes.norms[0]):
        result[:, i, j, k] = found
    for matrix, norms in zip(passes.matrices[1:], passes.norms[1:], strict=True):
        for (i, j, k), found in _blocks(model, image.flip(2), matrix, norms):
            first, second = result[:, size - i.stop : size - i.start, j, k], found.flip(1)
            both = (torch.minimum(first, second), first, second)
            totals += torch.stack([x.flatten(1).sum(1, dtype=torch.float32).double() for x in both])
            first.add_(second).mul_(0.5)


def _empty(channels: int, shape: Sequence[int]) -> torch.Tensor:
    # numpy asks for large pages, which the first writing of half a gigabyte is much quicker with
    return torch.from_numpy(np.empty((channels, *shape), dtype=np.float16))


def _blocks(
    model: Model, image: torch.Tensor, matrix: torch.Tensor, norms: Norms | None
) -> Iterator[tuple[Block, torch.Tensor]]:
    """Each block of voxels with its merged probabilities, float16 on the CPU, shape (C, i, j, k)."""
    network = model.network
    _, _, size_i, size_j, size_k = image.shape
    with autocast(image.device):
        encoded = network.encode(image, norms)  # type: ignore[operator]
    for low_i in range(0, size_i, BLOCK_VOXELS[0]):
        for low_j in range(0, size_j, BLOCK_VOXELS[1]):
            high_i, high_j = min(low_i + BLOCK_VOXELS[0], size_i), min(low_j + BLOCK_VOXELS[1], size_j)
            block = (slice(low_i, high_i), slice(low_j, high_j), slice(0, size_k))
            with autocast(image.device):
                logits = network.decode(encoded, image, block)[0]  # type: ignore[operator]
            rows = logits.movedim(0, -1).reshape(-1, len(logits))  # (voxels, C of the network)
            if model.distance_voxels is not None:
                rows = _of_distance(rows, model.distance_voxels)
            merged = torch.empty((matrix.shape[1], len(rows)), dtype=torch.float16)
            for start in range(0, len(rows), CHUNK_VOXELS):
                part = slice(start, start + CHUNK_VOXELS)
                merged[:, part] = (rows[part].float().softmax(-1) @ matrix).T
            yield block, merged.view(-1, high_i - low_i, high_j - low_j, size_k)


def _of_distance(rows: torch.Tensor, reach: int) -> torch.Tensor:
    """Logits of background and inside, (N, 2), of distances to the surface over their reach, (N, 1)."""
    return F.pad(rows * (-reach / SOFT_VOXELS), (1, 0))
