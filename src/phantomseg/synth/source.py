"""What the channels of a sample's label map are: those of the templates, or those of shapes out of nothing."""

from __future__ import annotations

from functools import cache

import numpy as np

from phantomseg.labels import has_merge, label_set, merge

TEMPLATES, SHAPES = "generation", "shapes"
FINE_TO_BRAIN = {TEMPLATES: ("head", "brain"), SHAPES: ("brain",)}  # sets on the way
BORDER = "border"


@cache
def brain_channels(source: str = TEMPLATES) -> np.ndarray:
    """Which channels of the source are brain, boolean, shape (G,)."""
    return _brain_values(source) == 1


@cache
def intracranial_channels(source: str = TEMPLATES) -> np.ndarray:
    """Which channels of the source are brain or the fluid around it, boolean, shape (G,)."""
    return _brain_values(source) > 0


def reaches(target: str, source: str = TEMPLATES) -> bool:
    """Whether label maps of the source become some of the label set `target`.

    >>> reaches("freesurfer"), reaches("manual")
    (True, False)
    """
    return has_merge(FINE_TO_BRAIN[source][0], "mask" if target == BORDER else target)


@cache
def target_channels(target: str, source: str = TEMPLATES, with_fluid: bool = False) -> np.ndarray:
    """Channel in the label set `target` of each channel of the source, uint8, shape (G,).

    Channels of the set `border` are inside where they are brain; its border depends on where the voxels lie. With
    fluid, that around the brain is part of a mask.

    >>> target_channels("mask", SHAPES)[[0, 1]].tolist()
    [0, 1]
    """
    if target == BORDER:
        return target_channels("mask", source, with_fluid)
    if target == "mask" and with_fluid:
        return intracranial_channels(source).astype(np.uint8)
    first = FINE_TO_BRAIN[source][0]
    ids = merge(source, first).apply(label_set(source).ids)
    return label_set(target).index_of_ids(merge(first, target).apply(ids)).astype(np.uint8)


def _brain_values(source: str) -> np.ndarray:
    values, at = label_set(source).ids, source
    for step in FINE_TO_BRAIN[source]:
        values, at = merge(at, step).apply(values), step
    return np.asarray(values)
