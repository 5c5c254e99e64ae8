"""Left and right: how many voxels have the right structure on the wrong side, and what scores would be without that."""

from __future__ import annotations

import math

import numpy as np

from phantomseg.evaluation.overlap import overlap
from phantomseg.labels import LabelSet


def laterality_error(predicted: np.ndarray, reference: np.ndarray, labels: LabelSet) -> float:
    """Share of voxels on the wrong side among those with the right sided structure; NaN where there is none.

    >>> from phantomseg.labels import label_set
    >>> laterality_error(np.array([2, 41, 2, 3]), np.array([2, 2, 2, 2]), label_set("freesurfer"))  # 1 of 3
    0.3333333333333333
    """
    other = _other_side(labels, predicted, reference)
    sided = other[reference] != reference
    same = (predicted == reference)[sided].sum()
    swapped = (predicted == other[reference])[sided].sum()
    total = int(same + swapped)
    return float(swapped / total) if total else math.nan


def swap_corrected(predicted: np.ndarray, reference: np.ndarray, labels: LabelSet) -> np.ndarray:
    """The prediction, or the prediction with all sides exchanged, whichever has the better mean Dice of sided labels.

    Scores of it against `reference` tell what a network lost by no more than taking left for right everywhere.

    >>> from phantomseg.labels import label_set
    >>> swap_corrected(np.array([51, 0]), np.array([12, 12]), label_set("freesurfer")).tolist()
    [12, 0]
    """
    other = _other_side(labels, predicted, reference)
    exchanged = other[predicted]
    sided = np.array([label.id for label in labels.labels if label.side])
    if not sided.size:
        return predicted
    means = [_mean_dice(candidate, reference, sided) for candidate in (predicted, exchanged)]
    return exchanged if means[1] > means[0] else predicted


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


def _other_side(labels: LabelSet, *maps: np.ndarray) -> np.ndarray:
    """Id of the other side's label for each id, its own where there is none."""
    other = np.arange(int(max(labels.ids.max(), *(values.max(initial=0) for values in maps))) + 1)
    other[labels.ids] = labels.ids[labels.mirror]
    return other


def _mean_dice(predicted: np.ndarray, reference: np.ndarray, ids: np.ndarray) -> float:
    dice = overlap(predicted, reference, ids).dice
    return float(np.nanmean(dice)) if np.isfinite(dice).any() else 0.0
