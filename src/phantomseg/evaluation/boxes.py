"""Where each structure lies, so that no measure looks at the whole volume once a structure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

Masks = tuple[np.ndarray, np.ndarray]


def masks_of(predicted: np.ndarray, reference: np.ndarray, count: int) -> Iterator[Masks]:
    """Masks of the structures 1 to `count` in two maps (I, J, K), in the smallest box that holds both.

    A structure that is in neither map has masks without voxels.

    >>> maps = np.array([[[0, 1, 1, 0]]]), np.array([[[0, 0, 1, 2]]])
    >>> [mask.ravel().tolist() for mask in next(masks_of(*maps, 2))]
    [[True, True], [False, True]]
    """
    if not count:
        return
    found = [ndimage.find_objects(volume, max_label=count) for volume in (predicted, reference)]
    for number, boxes in enumerate(zip(*found, strict=True), start=1):
        box = _union(boxes)
        yield predicted[box] == number, reference[box] == number


def _union(boxes: tuple[tuple[slice, ...] | None, ...]) -> tuple[slice, ...]:
    there = [box for box in boxes if box is not None]
    if not there:
        return (slice(0, 0),) * 3
    return tuple(slice(min(s.start for s in axes), max(s.stop for s in axes)) for axes in zip(*there, strict=True))
