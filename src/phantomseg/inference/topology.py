"""Structures in one piece: each topological group keeps its largest connected component."""

from __future__ import annotations

import cc3d
import numpy as np
import torch
from scipy import ndimage

from phantomseg.image.grid import content_slices
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
        box = content_slices(found)
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


def closed(mask: np.ndarray, spacing_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Mask (I, J, K) with what a ball of that radius does not fit into from outside, and with its holes.

    >>> mask = np.zeros((9, 9, 9), bool); mask[2:7, 2:4, 2:7] = mask[2:7, 5:7, 2:7] = True
    >>> bool(closed(mask, np.ones(3), 2.0)[4, 4, 4])
    True
    """
    if not mask.any():
        return mask
    widths = [int(np.ceil(radius_mm / mm)) + 1 for mm in spacing_mm]
    padded = np.pad(mask, [(width, width) for width in widths])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= radius_mm
    shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > radius_mm
    inside = tuple(slice(width, -width) for width in widths)
    filled: np.ndarray = ndimage.binary_fill_holes(shrunk[inside] | mask)
    return filled
