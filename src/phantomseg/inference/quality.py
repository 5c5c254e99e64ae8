"""How good a segmentation is likely to be, and how far off its volumes, from what the network itself shows.

Features of each structure predict its Dice by a linear model on the logit scale; how far volumes were off, in units of
the Dice predicted to be lost, gives their interval. Both were fitted on synthetic scans whose truth is known
(`scripts/calibrate.py`), and lie beside the weights that they were fitted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phantomseg.labels import LabelSet

FEATURES = ("expected", "certainty", "agreement", "implausible", "dropped", "cut", "expected_mean", "agreement_mean")
SMALLEST_MM3 = 20.0  # added to volumes before logarithms; what is smaller counts as not there
LEAST_LOSS = 0.02  # of Dice, so that no interval is a point
CLIP = 1e-3
STEP = 2**22  # probabilities converted at once


@dataclass(frozen=True, eq=False)
class Signs:
    """What the network shows of each label but background, shape (C - 1,) each; NaN where it does not tell.

    expected: Dice of the voxels above one half, were the probabilities right;
    certainty: mean probability within the structure, weighted by itself;
    agreement: soft Dice of the predictions for the scan and its mirror image;
    dropped: share that lay outside the largest piece; cut: share within a voxel of the edge of the field of view;
    volume_mm3: sum of probabilities times the voxel volume.
    """

    expected: np.ndarray
    certainty: np.ndarray
    agreement: np.ndarray
    dropped: np.ndarray
    cut: np.ndarray
    volume_mm3: np.ndarray


@dataclass(frozen=True, eq=False)
class Quality:
    """Predicted Dice of each label but background, and the 90 % interval of its volume, shape (C - 1,) each."""

    dice: np.ndarray
    low_mm3: np.ndarray
    high_mm3: np.ndarray
    threshold: float  # of the mean Dice, below which a scan should be looked at

    @property
    def mean(self) -> float:
        """Predicted mean Dice over structures that are there."""
        return float(np.nanmean(self.dice)) if np.isfinite(self.dice).any() else float("nan")


def read_signs(
    probabilities: torch.Tensor, kept_share: np.ndarray, agreement: torch.Tensor | None, voxel_volume_mm3: float
) -> Signs:
    """Signs of probabilities (C, I, J, K), `kept_share` (C,) being what the largest piece held of each."""
    sums = np.array([_sums(channel) for channel in probabilities[1:]])  # (C - 1, 4)
    total, square, above, above_total = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        edge = np.array([_edge_sum(channel) for channel in probabilities[1:]])
        return Signs(
            expected=2 * above_total / (above + total),
            certainty=square / total,
            agreement=np.full(len(total), np.nan) if agreement is None else agreement[1:].numpy().copy(),
            dropped=1 - kept_share[1:],
            cut=edge / total,
            volume_mm3=total * voxel_volume_mm3,
        )


def assess(signs: Signs, labels: LabelSet, calibration: dict[str, Any]) -> Quality | None:
    """Predicted Dice and volume intervals; None where the calibration does not know the label set."""
    flip = "flip" if np.isfinite(signs.agreement).any() else "no flip"
    fitted = calibration["sets"].get(labels.name, {}).get(flip)
    if fitted is None:
        return None
    features = design(signs, np.array(fitted["log_share_mean"]), np.array(fitted["log_share_std"]))
    dice = 1 / (1 + np.exp(-(np.array(fitted["intercepts"]) + features @ np.array(fitted["slopes"]))))
    lost = 1 - dice + LEAST_LOSS
    low, high = (np.exp(np.array(fitted[key]) * lost) for key in ("log_ratio_low", "log_ratio_high"))
    volume = signs.volume_mm3 + SMALLEST_MM3
    ends = [np.maximum(volume * factor - SMALLEST_MM3, 0) for factor in (low, high)]
    there = signs.volume_mm3 >= SMALLEST_MM3
    dice, low, high = (np.where(there, values, np.nan) for values in (dice, *ends))
    return Quality(dice, low, high, float(fitted["threshold"]))


def design(signs: Signs, log_share_mean: np.ndarray, log_share_std: np.ndarray) -> np.ndarray:
    """Features of each structure, shape (C - 1, F); what is not known is 0."""
    implausible = np.abs((log_share(signs.volume_mm3) - log_share_mean) / log_share_std).clip(max=5) / 5
    agreement = logit(signs.agreement)
    columns = [
        logit(signs.expected),
        logit(signs.certainty),
        agreement,
        implausible,
        signs.dropped,
        signs.cut,
        np.full(len(agreement), _mean(logit(signs.expected))),
        np.full(len(agreement), _mean(agreement)),
    ]
    return np.nan_to_num(np.stack(columns, 1), nan=0.0)


def log_share(volume_mm3: np.ndarray) -> np.ndarray:
    """Logarithm of each structure's share of all."""
    return np.asarray(np.log((volume_mm3 + SMALLEST_MM3) / (volume_mm3.sum() + SMALLEST_MM3)))


def logit(share: np.ndarray) -> np.ndarray:
    """Log odds, cut off near 0 and 1.

    >>> logit(np.array([0.5])).item()
    0.0
    """
    inner = np.clip(share, CLIP, 1 - CLIP)
    return np.asarray(np.log(inner / (1 - inner)))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _sums(channel: torch.Tensor) -> tuple[float, float, float, float]:
    """Sum of probabilities, of their squares, number above one half, and sum of those."""
    totals = np.zeros(4)
    for part in channel.reshape(-1).split(STEP):
        p = part.float()
        above = p > 0.5
        totals += [p.sum().item(), (p * p).sum().item(), above.sum().item(), (p * above).sum().item()]
    a, b, c, d = totals.tolist()
    return a, b, c, d


def _edge_sum(channel: torch.Tensor) -> float:
    faces = [channel.select(axis, end) for axis in range(3) for end in (0, -1)]
    return float(sum(face.sum(dtype=torch.float32) for face in faces))
