"""What is measured of each structure: volumes in mm³, how sure they are, and left against right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.image.image import Image
from phantomseg.inference.quality import Quality
from phantomseg.labels import LabelSet


@dataclass(frozen=True)
class Structure:
    """Measures of one label; None where there is nothing to say.

    `volume_mm3` is the sum of its probabilities times the voxel volume, `hard_mm3` that of the voxels labelled, on the
    scan's own grid; `low_mm3` to `high_mm3` holds the true volume in 9 of 10 cases; `quality` is the predicted Dice.
    """

    index: int
    name: str
    volume_mm3: float
    hard_mm3: float
    low_mm3: float | None = None
    high_mm3: float | None = None
    asymmetry_percent: float | None = None
    quality: float | None = None


def soft_volumes(probabilities: torch.Tensor, labels: LabelSet, voxel_volume_mm3: float) -> dict[str, float]:
    """Sum of each label's probabilities times the voxel volume, in mm³; background is left out.

    >>> from phantomseg.labels import label_set
    >>> p = torch.tensor([0.25, 0.75, 0.0]).view(3, 1, 1, 1).expand(3, 2, 2, 2)
    >>> soft_volumes(p, label_set("brain"), 2.0)["brain"]
    12.0
    """
    totals = [channel.sum(dtype=torch.float64).item() * voxel_volume_mm3 for channel in probabilities]
    return {label.name: round(total, 1) for label, total in zip(labels.labels[1:], totals[1:], strict=True)}


def hard_volumes(label_map: Image, labels: LabelSet) -> dict[str, float]:
    """Voxels of each label times the voxel volume, in mm³; background is left out."""
    size = int(labels.ids.max()) + 1
    # plane by plane, as counting makes long integers of what it counts
    counts = np.sum([np.bincount(plane.ravel(), minlength=size) for plane in label_map.voxels], axis=0)
    pairs = zip(labels.names[1:], labels.ids[1:].tolist(), strict=True)
    return {name: round(float(counts[index]) * label_map.voxel_volume_mm3, 1) for name, index in pairs}


def asymmetry_percent(volumes_mm3: dict[str, float], name: str, other: str) -> float | None:
    """Left minus right over their mean, in percent; None where there is neither, or no other side.

    >>> asymmetry_percent({"left eye": 9.0, "right eye": 11.0}, "left eye", "right eye")
    -20.0
    """
    left, right = (name, other) if name.startswith("left ") else (other, name)
    total = volumes_mm3[left] + volumes_mm3[right]
    return round(200 * (volumes_mm3[left] - volumes_mm3[right]) / total, 2) if name != other and total else None


def structures(
    labels: LabelSet, soft: dict[str, float], hard: dict[str, float], quality: Quality | None
) -> tuple[Structure, ...]:
    """All measures of every label but background."""
    found = []
    for place, label in enumerate(labels.labels[1:]):
        name, other = label.name, labels.names[labels.mirror[place + 1]]
        sure = [None] * 3 if quality is None else [quality.low_mm3[place], quality.high_mm3[place], quality.dice[place]]
        low, high, dice = (None if value is None or np.isnan(value) else float(value) for value in sure)
        found.append(
            Structure(
                index=label.id,
                name=name,
                volume_mm3=soft[name],
                hard_mm3=hard[name],
                low_mm3=None if low is None else round(low, 1),
                high_mm3=None if high is None else round(high, 1),
                asymmetry_percent=asymmetry_percent(soft, name, other),
                quality=None if dice is None else round(dice, 3),
            )
        )
    return tuple(found)
