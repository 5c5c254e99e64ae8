"""How much two label maps overlap, all labels in one pass.

==================  =======  ==========  ============  =================
mask                Dice     Jaccard     volume error  volume similarity
==================  =======  ==========  ============  =================
both empty          NaN      NaN         NaN           NaN
prediction alone    0        0           infinite      0
reference alone     0        0           -1            0
==================  =======  ==========  ============  =================
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
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
        """2 · both / (predicted + reference)."""
        return _ratio(2 * self.both, self.predicted + self.reference)

    @property
    def jaccard(self) -> np.ndarray:
        """Both / either."""
        return _ratio(self.both, self.predicted + self.reference - self.both)

    @property
    def volume_error(self) -> np.ndarray:
        """(predicted - reference) / reference; 0.1 is a tenth too much."""
        return _ratio(self.predicted - self.reference, self.reference)

    @property
    def volume_similarity(self) -> np.ndarray:
        """1 - |predicted - reference| / (predicted + reference) (doi:10.1186/s12880-015-0068-x)."""
        return 1 - _ratio(abs(self.predicted - self.reference), self.predicted + self.reference)


def overlap(predicted: np.ndarray, reference: np.ndarray, ids: np.ndarray) -> Overlap:
    """Count voxels of the labels `ids` in two maps of the same shape.

    >>> found = overlap(np.array([1, 1, 2]), np.array([1, 2, 2]), np.array([1, 2, 3]))
    >>> found.dice.round(3).tolist(), found.jaccard.tolist()
    ([0.667, 0.667, nan], [0.5, 0.5, nan])
    """
    ids = np.asarray(ids)
    size = int(max(ids.max(initial=0), predicted.max(initial=0), reference.max(initial=0))) + 1

    def count(values: np.ndarray) -> np.ndarray:
        counts: np.ndarray = np.bincount(values.ravel(), minlength=size)[ids]
        return counts

    return Overlap(ids, count(predicted), count(reference), count(reference[predicted == reference]))


def soft_dice(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """2 Σ p·r / (Σ p + Σ r) of each label; NaN where both are nothing.

    Args:
        predicted: probabilities, (L, I, J, K).
        reference: probabilities, or 0 and 1, (L, I, J, K).

    >>> soft_dice(np.array([[0.5, 1.0]]), np.array([[0, 1]])).tolist()
    [0.8]
    """
    axes = tuple(range(1, predicted.ndim))
    both = (predicted * reference).sum(axes, dtype=float)
    return _ratio(2 * both, predicted.sum(axes, dtype=float) + reference.sum(axes, dtype=float))


def component_count(mask: np.ndarray) -> int:
    """Number of connected pieces of a mask (I, J, K); voxels that share a corner are connected.

    >>> component_count(np.array([[[True, False, True]]]))
    2
    """
    if not mask.any():
        return 0
    padded = np.pad(mask, 1)  # on tiny volumes that are full to the border cc3d ends with an error
    return int(cc3d.connected_components(padded, connectivity=26, return_N=True)[1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole; NaN for nothing of nothing, infinite for something of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(part, dtype=float) / whole
