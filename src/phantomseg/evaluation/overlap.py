"""How much two label maps overlap, all labels in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Overlap:
    """Voxel counts of each label in prediction, reference, and both; arrays of shape (L,)."""

    ids: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray
    both: np.ndarray

    @property
    def dice(self) -> np.ndarray:
        """2 · both / (predicted + reference); NaN where a label is in neither, 0 where in one alone."""
        total = self.predicted + self.reference
        return np.where(total > 0, 2 * self.both / np.maximum(total, 1), np.nan)


def overlap(predicted: np.ndarray, reference: np.ndarray, ids: np.ndarray) -> Overlap:
    """Count voxels of the labels `ids` in two maps of the same shape.

    >>> overlap(np.array([1, 1, 2]), np.array([1, 2, 2]), np.array([1, 2, 3])).dice.round(3).tolist()
    [0.667, 0.667, nan]
    """
    ids = np.asarray(ids)
    size = int(max(ids.max(), predicted.max(initial=0), reference.max(initial=0))) + 1

    def count(values: np.ndarray) -> np.ndarray:
        counts: np.ndarray = np.bincount(values.ravel(), minlength=size)[ids]
        return counts

    return Overlap(ids, count(predicted), count(reference), count(reference[predicted == reference]))
