"""Class probabilities on the network's grid, decoded block by block, already in the label set asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.labels import merge
from phantomseg.network.model import Model
from phantomseg.network.volume import Block
from phantomseg.runtime import autocast

# blocks whose logits stay below the 32 MB that the C library reuses, chunks that fit the processor's cache
BLOCK_VOXELS = (16, 64)
CHUNK_VOXELS = 2**14
BRIGHT = 0.1  # what is darker is background


def field_seen(image: torch.Tensor, model: Model) -> Block | None:
    """The block that norms are taken over: about as large as in training, around the middle of what is bright.

    Over a whole head, with its neck and the air around it, a network that was trained on crops meets means and
    variances that it has never seen, and loses skull and skin. Two `multiple`s more than the crop scored best.

    Args:
        image: (1, 1, I, J, K), each axis a multiple of the network's.
        model: None comes back where it does not tell what it was trained on.
    """
    if model.crop_voxels is None:
        return None
    multiple: int = model.network.multiple  # type: ignore[assignment]
    bright = image[0, 0] > BRIGHT
    ends = []
    for axis, (size, crop) in enumerate(zip(image.shape[2:], model.crop_voxels, strict=True)):
        counts = bright.sum([a for a in range(3) if a != axis]).cpu().double()
        middle = float((counts * torch.arange(size)).sum() / counts.sum()) if counts.sum() else size / 2
        length = min(size, crop + 2 * multiple)
        low = multiple * round((middle - length / 2) / multiple)
        ends.append((min(max(low, 0), size - length), length))
    i, j, k = (slice(low, low + length) for low, length in ends)
    return i, j, k


@torch.no_grad()
def predict(model: Model, image: torch.Tensor, sets: Sequence[str], flip: bool) -> tuple[torch.Tensor, ...]:
    """Probabilities of the channels of each label set, float16, shape (C, I, J, K), on the CPU.

    Args:
        model: network and its label set.
        image: (1, 1, I, J, K) between 0 and 1, axes towards right, anterior, superior.
        sets: names of label sets that the model's merges into.
        flip: average with the prediction for the mirrored image, sides swapped.
    """
    device = next(model.network.parameters()).device
    merges = [merge(model.labels.name, name) for name in sets]
    ones = [F.one_hot(torch.from_numpy(m.channels).long(), len(m.target)) for m in merges]
    matrix = torch.cat(ones, 1).to(device, torch.float32)
    image = image.to(device).contiguous(memory_format=torch.channels_last_3d)
    # numpy asks for large pages, which the first writing of half a gigabyte is much quicker with
    result = torch.from_numpy(np.empty((matrix.shape[1], *image.shape[2:]), dtype=np.float16))
    for (i, j, k), found in _blocks(model, image, matrix):
        result[:, i, j, k] = found
    if flip:
        swapped = matrix[torch.from_numpy(model.labels.mirror)]  # sides swapped, then merged
        for (i, j, k), found in _blocks(model, image.flip(2), swapped):
            mirrored = slice(image.shape[2] - i.stop, image.shape[2] - i.start)
            result[:, mirrored, j, k] = (result[:, mirrored, j, k] + found.flip(1)) / 2
    return result.split([len(m.target) for m in merges])


def _blocks(model: Model, image: torch.Tensor, matrix: torch.Tensor) -> Iterator[tuple[Block, torch.Tensor]]:
    """Each block of voxels with its merged probabilities, float16 on the CPU, shape (C, i, j, k)."""
    network, seen = model.network, field_seen(image, model)
    _, _, size_i, size_j, size_k = image.shape
    with autocast(image.device):
        encoded = network.encode(image, seen)  # type: ignore[operator]
    for low_i in range(0, size_i, BLOCK_VOXELS[0]):
        for low_j in range(0, size_j, BLOCK_VOXELS[1]):
            high_i, high_j = min(low_i + BLOCK_VOXELS[0], size_i), min(low_j + BLOCK_VOXELS[1], size_j)
            block = (slice(low_i, high_i), slice(low_j, high_j), slice(0, size_k))
            with autocast(image.device):
                logits = network.decode(encoded, image, block)[0]  # type: ignore[operator]
            rows = logits.movedim(0, -1).reshape(-1, len(matrix))  # (voxels, C of the network)
            merged = torch.empty((matrix.shape[1], len(rows)), dtype=torch.float16)
            for start in range(0, len(rows), CHUNK_VOXELS):
                part = slice(start, start + CHUNK_VOXELS)
                merged[:, part] = (rows[part].float().softmax(-1) @ matrix).T
            yield block, merged.view(-1, high_i - low_i, high_j - low_j, size_k)
