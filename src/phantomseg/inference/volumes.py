"""Volumes in mm³ from probabilities, one row a scan."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from phantomseg.errors import ScanError
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


def add_volumes(path: Path, scan: str, volumes_mm3: dict[str, float]) -> None:
    """Add a scan's row to a CSV of paths and mm³ of each label; rows of other scans stay.

    Raises:
        ScanError: the table holds other labels.
    """
    header = ["scan", *volumes_mm3]
    rows = {row[0]: row for row in _rows(path, header)}
    rows[scan] = [scan, *map(str, volumes_mm3.values())]

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows.values()])

    write_atomically(path, write)


def _rows(path: Path, header: list[str]) -> list[list[str]]:
    """Rows below the header, none where the file is missing."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        first, *rest = list(csv.reader(file)) or [[]]
    if first and first != header:
        raise ScanError(f"{path} holds volumes of other labels ({', '.join(first[1:4])}, …); choose another folder")
    return [row for row in rest if len(row) == len(header)]
