"""Volumes in mm³ from probabilities, one row a scan."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from phantomseg.image.files import write_atomically
from phantomseg.labels import LabelSet


def soft_volumes(probabilities: torch.Tensor, labels: LabelSet, voxel_volume_mm3: float) -> dict[str, float]:
    """Sum of each label's probabilities times the voxel volume, in mm³; background is left out.

    >>> from phantomseg.labels import label_set
    >>> p = torch.tensor([0.25, 0.75, 0.0]).view(3, 1, 1, 1).expand(3, 2, 2, 2)
    >>> soft_volumes(p, label_set("brain"), 2.0)["brain"]
    12.0
    """
    totals = [channel.sum(dtype=torch.float64).item() * voxel_volume_mm3 for channel in probabilities]
    return {label.name: round(total, 1) for label, total in zip(labels.labels[1:], totals[1:], strict=True)}


def write_volumes(path: Path, rows: dict[str, dict[str, float]]) -> None:
    """CSV with one row a scan: its path, then mm³ of each label."""
    names = list(next(iter(rows.values()))) if rows else []

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["scan", *names])
            writer.writerows([scan, *(row[name] for name in names)] for scan, row in rows.items())

    write_atomically(path, write)
