"""Class probabilities on the network's grid, decoded slab by slab, already in the label set asked for."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from phantomseg.labels import merge
from phantomseg.network.model import Block, Model
from phantomseg.runtime import number_format

SLAB_VOXELS = 32
CHUNK_VOXELS = 2**15


@torch.no_grad()
def predict(model: Model, image: torch.Tensor, labels: str, flip: bool) -> torch.Tensor:
    """Probabilities of the channels of the set `labels`, float16, shape (C, I, J, K), on the CPU.

    Args:
        model: network and its label set.
        image: (1, 1, I, J, K) between 0 and 1, axes towards right, anterior, superior.
        labels: name of a label set that the model's merges into.
        flip: average with the prediction for the mirrored image, sides swapped.
    """
    device = next(model.network.parameters()).device
    merging = merge(model.labels.name, labels)
    matrix = torch.zeros(len(model.labels), len(merging.target), device=device)
    matrix[torch.arange(len(model.labels)), torch.from_numpy(merging.channels)] = 1
    mirrored = matrix[torch.from_numpy(model.labels.mirror)]  # sides swapped, then merged
    image = image.to(device).contiguous(memory_format=torch.channels_last_3d)
    views = [_View(model.network, image, matrix)]
    if flip:
        views.append(_View(model.network, image.flip(2), mirrored))
    size = image.shape[2]
    result = torch.empty((len(merging.target), *image.shape[2:]), dtype=torch.float16)
    for low in range(0, size, SLAB_VOXELS):
        high = min(low + SLAB_VOXELS, size)
        slab = views[0].probabilities(low, high)
        if flip:
            slab = (slab + views[1].probabilities(size - high, size - low).flip(1)) / 2
        result[:, low:high] = slab
    return result


class _View:
    """One way to look at the image: encoded once, decoded in slabs."""

    def __init__(self, network: nn.Module, image: torch.Tensor, matrix: torch.Tensor):
        self.network, self.image, self.matrix = network, image, matrix
        self.dtype = number_format(image.device)
        with self._autocast():
            self.encoded = network.encode(image)  # type: ignore[operator]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.image.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def probabilities(self, low: int, high: int) -> torch.Tensor:
        """Merged probabilities of the slab, float32, shape (C, high − low, J, K)."""
        _, _, _, j, k = self.image.shape
        block: Block = (slice(low, high), slice(0, j), slice(0, k))
        with self._autocast():
            logits = self.network.decode(self.encoded, self.image, block)  # type: ignore[operator]
        rows = logits[0].movedim(0, -1).reshape(-1, logits.shape[1])  # (N, C of the model)
        merged = torch.empty(self.matrix.shape[1], len(rows), device=rows.device)
        for start in range(0, len(rows), CHUNK_VOXELS):  # small enough for the processor's cache
            part = slice(start, start + CHUNK_VOXELS)
            torch.mm(self.matrix.T, rows[part].float().softmax(-1).T, out=merged[:, part])
        return merged.view(-1, high - low, j, k)


def most_probable(probabilities: torch.Tensor) -> np.ndarray:
    """Channel of the highest probability of each voxel, uint8, shape (I, J, K)."""
    slabs = [slab.float().argmax(0).to(torch.uint8) for slab in probabilities.split(SLAB_VOXELS, dim=1)]
    channels: np.ndarray = torch.cat(slabs).numpy()
    return channels
