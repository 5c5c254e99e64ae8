"""What the channels of a sample's label map are: those of the templates, or those of shapes out of nothing."""

from __future__ import annotations

from functools import cache

import numpy as np

from phantomseg.errors import LabelError
from phantomseg.labels import UNLABELLED, has_merge, join, label_set, merge

TEMPLATES, SHAPES = "generation", "shapes"
FINE_TO_BRAIN = {TEMPLATES: ("head", "brain"), SHAPES: ("brain",)}  # sets on the way
BORDER = "border"
INSIDE, OUTERMOST, FLUID = 1, 2, 3  # channels of that set


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

    Channels of the set `border` are inside where they are brain; its border, and fluid in the mask, depend on where the
    voxels lie. With fluid, that around the brain is part of a mask.

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


@cache
def fluid_channels(source: str = TEMPLATES) -> np.ndarray:
    """Which channels of the source are no tissue where they are in a mask of the brain, boolean, shape (G,).

    Ventricles of label maps count as tissue, as they lie within it.
    """
    if source == TEMPLATES:
        return ~brain_channels(source)
    is_csf = np.array([label.tissue == "csf" for label in label_set(source).labels])
    return is_csf | ~brain_channels(source)


@cache
def joined_classes(target: str, groups: bytes, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """How label maps teach a target that do not tell all labels apart.

    Args:
        target: label set.
        groups: of the channels of `generation`, as `CoarseLabels.groups`.
        mirrored: left and right of the map were swapped.

    Returns:
        Channel in the target of each channel of `generation`, (G,), and the lowest of those that each channel of the
        target is one with, (C,), both uint8. What the map does not label is UNLABELLED, but in masks, where it is
        what it was painted as.

    Raises:
        LabelError: the maps join a class with the background.
    """
    rows = np.frombuffer(groups, np.uint8)
    if mirrored:
        mirror = label_set(TEMPLATES).mirror.astype(np.uint8)
        swapped = rows[mirror]
        rows = np.where(swapped == UNLABELLED, UNLABELLED, mirror[np.where(swapped == UNLABELLED, 0, swapped)])
    table = target_channels(target)
    count = len(label_set(target))
    if target in ("mask", BORDER):
        return table, np.arange(count, dtype=np.uint8)
    known = rows != UNLABELLED
    pairs = np.stack([table[known], table[rows[known]]], 1)
    classes = join(count, pairs.tolist())
    if (classes == 0).sum() > 1:
        names = [label.name for label, lowest in zip(label_set(target).labels, classes, strict=True) if not lowest]
        raise LabelError(
            f"some label maps do not tell {', '.join(names[1:4])} from what the label set {target!r} leaves out; "
            "choose the target 'head', which has a label for everything, or other label maps"
        )
    return np.where(known, classes[table], UNLABELLED).astype(np.uint8), classes


def _brain_values(source: str) -> np.ndarray:
    values, at = label_set(source).ids, source
    for step in FINE_TO_BRAIN[source]:
        values, at = merge(at, step).apply(values), step
    return np.asarray(values)
