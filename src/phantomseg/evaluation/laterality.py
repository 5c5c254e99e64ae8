"""Left and right: how many voxels have the right structure on the wrong side."""

from __future__ import annotations

import numpy as np

from phantomseg.labels import LabelSet


def laterality_error(predicted: np.ndarray, reference: np.ndarray, labels: LabelSet) -> float:
    """Share of voxels on the wrong side among those with the right sided structure; NaN where there is none.

    >>> from phantomseg.labels import label_set
    >>> laterality_error(np.array([2, 41, 2, 3]), np.array([2, 2, 2, 2]), label_set("freesurfer"))  # 1 of 3
    0.3333333333333333
    """
    other = np.arange(int(max(labels.ids.max(), predicted.max(initial=0), reference.max(initial=0))) + 1)
    other[labels.ids] = labels.ids[labels.mirror]
    sided = other[reference] != reference
    same = (predicted == reference)[sided].sum()
    swapped = (predicted == other[reference])[sided].sum()
    total = int(same + swapped)
    return float(swapped / total) if total else float("nan")


def merge_sides(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Ids of each structure without its side, background left out.

    >>> from phantomseg.labels import label_set
    >>> merge_sides(label_set("freesurfer"))["putamen"]
    (12, 51)
    """
    groups: dict[str, tuple[int, ...]] = {}
    for label in labels.labels[1:]:
        groups[label.structure] = (*groups.get(label.structure, ()), label.id)
    return groups
