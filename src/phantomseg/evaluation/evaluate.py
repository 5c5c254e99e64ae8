"""Prediction against reference: one row a structure, a mean, and the laterality error."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from phantomseg.errors import GeometryError, LabelError
from phantomseg.evaluation.boxes import masks_of
from phantomseg.evaluation.laterality import laterality_error, merge_sides
from phantomseg.evaluation.overlap import component_count, overlap
from phantomseg.evaluation.surface import surface_distances
from phantomseg.image.files import write_atomically
from phantomseg.image.image import Image
from phantomseg.labels import LabelSet, label_set

TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class Row:
    """Scores of one structure; see `evaluate` for empty masks."""

    structure: str
    dice: float
    jaccard: float
    hd95_mm: float
    mean_surface_mm: float
    nsd: float
    volume_error: float
    volume_similarity: float
    predicted_mm3: float
    reference_mm3: float
    predicted_components: int
    reference_components: int


@dataclass(frozen=True)
class Evaluation:
    """Rows in the order of the label set, and the share of voxels on the wrong side."""

    rows: tuple[Row, ...]
    laterality_error: float

    def mean_dice(self, structures: Iterable[str] | None = None) -> float:
        """Mean Dice of the structures named (all by default), undefined ones left out."""
        names = None if structures is None else set(structures)
        chosen = [row.dice for row in self.rows if names is None or row.structure in names]
        defined = [value for value in chosen if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan


def evaluate(
    predicted: Image,
    reference: Image,
    labels: str = "freesurfer",
    merged: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
) -> Evaluation:
    """Score a label map.

    ==================  =============  ==============  ===  ============  =================
    mask                Dice, Jaccard  HD95, distance  NSD  volume error  volume similarity
    ==================  =============  ==============  ===  ============  =================
    both empty          NaN            NaN             NaN  NaN           NaN
    prediction alone    0              infinite        0    infinite      0
    reference alone     0              infinite        0    -1            0
    ==================  =============  ==============  ===  ============  =================

    Args:
        predicted: label map.
        reference: label map on the same grid.
        labels: label set of both.
        merged: count left and right as one structure.
        tolerance_mm: distance up to which surfaces agree, for the normalised surface Dice.

    Raises:
        GeometryError: the grids differ.
        LabelError: a map holds a value that the set does not.
    """
    chosen = label_set(labels)
    check_pair(predicted, reference, chosen)
    groups, table = _groups(chosen, merged)
    volumes = predicted.with_voxels(table[predicted.voxels]), reference.with_voxels(table[reference.voxels])
    rows = score(*volumes, groups, tolerance_mm)
    return Evaluation(rows, laterality_error(predicted.voxels, reference.voxels, chosen))


def score(
    predicted: Image, reference: Image, structures: Sequence[str], tolerance_mm: float = TOLERANCE_MM
) -> tuple[Row, ...]:
    """One row a structure, of two maps on one grid whose value n is the n-th structure, counted from 1."""
    p, r = predicted.voxels, reference.voxels
    counts = overlap(p, r, np.arange(1, len(structures) + 1))
    volume = reference.voxel_volume_mm3
    rows = []
    for number, (name, masks) in enumerate(zip(structures, masks_of(p, r, len(structures)), strict=True)):
        distances = surface_distances(*masks, reference.spacing_mm)
        rows.append(
            Row(
                structure=name,
                dice=float(counts.dice[number]),
                jaccard=float(counts.jaccard[number]),
                hd95_mm=distances.hd95_mm,
                mean_surface_mm=distances.mean_mm,
                nsd=distances.nsd(tolerance_mm),
                volume_error=float(counts.volume_error[number]),
                volume_similarity=float(counts.volume_similarity[number]),
                predicted_mm3=float(counts.predicted[number] * volume),
                reference_mm3=float(counts.reference[number] * volume),
                predicted_components=component_count(masks[0]),
                reference_components=component_count(masks[1]),
            )
        )
    return tuple(rows)


def structure_dice(predicted: np.ndarray, reference: np.ndarray, labels: LabelSet, merged: bool) -> dict[str, float]:
    """Dice of each structure, and nothing else, of two arrays with ids of `labels`; NaN where both are empty."""
    groups, table = _groups(labels, merged)
    dice = overlap(table[predicted], table[reference], np.arange(1, len(groups) + 1)).dice
    return dict(zip(groups, dice.tolist(), strict=True))


def _groups(labels: LabelSet, merged: bool) -> tuple[list[str], np.ndarray]:
    """Structures, and the number (from 1) of the structure of each id."""
    groups = merge_sides(labels) if merged else {label.name: (label.id,) for label in labels.labels[1:]}
    table = np.zeros(int(labels.ids.max()) + 1, dtype=np.int32)
    for number, ids in enumerate(groups.values(), start=1):
        table[list(ids)] = number
    return list(groups), table


def check_pair(predicted: Image, reference: Image, labels: LabelSet) -> None:
    """Reject two label maps that cannot be compared.

    Raises:
        GeometryError: the grids differ.
        LabelError: a map holds a value that the set does not.
    """
    if predicted.shape != reference.shape or not np.allclose(predicted.affine, reference.affine, atol=1e-3):
        raise GeometryError(
            f"prediction has shape {predicted.shape}, reference {reference.shape}, or their affines differ; "
            "bring both to one grid first"
        )
    for name, image in (("prediction", predicted), ("reference", reference)):
        unknown = np.setdiff1d(np.unique(image.voxels), labels.ids)
        if unknown.size:
            raise LabelError(
                f"{name} holds value {unknown[0]}, which the set {labels.name!r} does not; "
                "choose its label set with --labels, or translate it first"
            )


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """CSV with one line a structure; undefined scores are left empty."""

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                values = asdict(row).items()
                writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in values})

    write_atomically(path, write)
