"""Structures in one piece: each topological group keeps its largest connected component."""

from __future__ import annotations

import cc3d
import numpy as np
import torch

from phantomseg.image.grid import content_box
from phantomseg.labels import LabelSet

LEAST_PROBABILITY = 0.25


def keep_largest(probabilities: torch.Tensor, labels: LabelSet) -> np.ndarray:
    """Zero each group's probabilities outside its largest component (6 neighbours), in place.

    A group's mask is where one of its channels exceeds 0.25; groups come from the label table. What is taken
    away falls to the other labels of the voxel, so that volumes and label map agree.

    Returns:
        Share of its group's mask that the largest component holds, for each channel, (C,); 1 without a group.
    """
    share = np.ones(len(labels))
    for channels in labels.group_indices("topology").values():
        mask = torch.zeros(probabilities.shape[1:], dtype=torch.bool)
        for channel in channels:
            mask |= probabilities[channel] > LEAST_PROBABILITY
        found = mask.numpy()
        if not found.any():
            continue
        low, high = content_box(found)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        pieces, count = cc3d.connected_components(found[box], connectivity=6, return_N=True)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        share[list(channels)] = sizes.max() / sizes.sum()
        drop = torch.from_numpy((pieces > 0) & (pieces != sizes.argmax()))
        for channel in channels:
            probabilities[channel][box].masked_fill_(drop, 0)
        left = probabilities[(slice(None), *box)][:, drop].float()
        total = left.sum(0)
        left[0] += total == 0  # nothing but what was taken away: background
        probabilities[(slice(None), *box)][:, drop] = (left / total.where(total > 0, 1)).to(probabilities.dtype)
    return share
