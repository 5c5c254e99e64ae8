"""Rows of scores of one label map against another, view by view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from phantomseg.evaluation.evaluate import score
from phantomseg.evaluation.laterality import laterality_error, swap_corrected
from phantomseg.evaluation.overlap import overlap
from phantomseg.image.image import Image
from phantomseg.labels import label_set
from phantomseg.studies.plan import EVALUATION
from phantomseg.studies.views import MEAN, MERGED, SIDES, SIXTEEN, VIEWS, numbered, structures_of

Row = dict[str, Any]
SWAPPED = "sides apart, swap-corrected"
MEASURES = ("dice", "jaccard", "hd95_mm", "mean_surface_mm", "nsd", "volume_error", "volume_similarity")
LOWER_IS_BETTER = ("hd95_mm", "mean_surface_mm", "laterality_error")


def scored(
    predicted: Image,
    reference: Image,
    ids: tuple[frozenset[int], frozenset[int]],
    only: tuple[str, ...] = (),
    tolerance_mm: float = 1.0,
) -> list[Row]:
    """All measures of every structure of every view, the laterality error, and Dice after undoing a swap of sides.

    Args:
        predicted: label map of `evaluation`.
        reference: the same, on the same grid.
        ids: what the tool, and what the reference, can give.
        only: structures that are scored; all where there are none.
        tolerance_mm: of the normalised surface Dice.
    """
    rows: list[Row] = []
    for view in VIEWS:
        structures = structures_of(view, *ids, only)
        maps = [image.with_voxels(numbered(image.voxels, structures)) for image in (predicted, reference)]
        made = [{"view": view, **asdict(row)} for row in score(maps[0], maps[1], list(structures), tolerance_mm)]
        rows += made + _mean(view, made)
    return rows + _sides(predicted, reference, ids, only)


def overlaps(
    predicted: Image,
    reference: Image,
    ids: tuple[frozenset[int], frozenset[int]],
    only: tuple[str, ...] = (),
    views: Sequence[str] = (MERGED,),
) -> list[Row]:
    """Dice, volumes and their error of every structure of some views, of two maps of `evaluation` on one grid."""
    rows: list[Row] = []
    for view in views:
        structures = structures_of(view, *ids, only)
        if not structures:
            continue
        maps = [numbered(image.voxels, structures) for image in (predicted, reference)]
        counts = overlap(maps[0], maps[1], np.arange(1, len(structures) + 1))
        columns = {
            "dice": counts.dice,
            "volume_error": counts.volume_error,
            "predicted_mm3": counts.predicted * predicted.voxel_volume_mm3,
            "reference_mm3": counts.reference * reference.voxel_volume_mm3,
        }
        made = [
            {"view": view, "structure": name, **{key: float(values[n]) for key, values in columns.items()}}
            for n, name in enumerate(structures)
        ]
        rows += made + _mean(view, made)
    return rows


def _sides(
    predicted: Image, reference: Image, ids: tuple[frozenset[int], frozenset[int]], only: tuple[str, ...]
) -> list[Row]:
    """Share of voxels on the wrong side, and mean Dice with all sides exchanged where that is better."""
    labels = label_set(EVALUATION)
    names = {name: i for name, (i,) in structures_of(SIDES, *ids, only).items()}
    if not any(name.startswith(("left ", "right ")) for name in names):
        return []
    kept = np.array(list(names.values()))
    maps = [np.where(np.isin(image.voxels, kept), image.voxels, 0) for image in (predicted, reference)]
    dice = overlap(swap_corrected(maps[0], maps[1], labels), maps[1], kept).dice
    counted = [value for name, value in zip(names, dice.tolist(), strict=True) if _counts(name)]
    return [
        {"view": SIDES, "structure": "all", "laterality_error": laterality_error(maps[0], maps[1], labels)},
        {"view": SWAPPED, "structure": MEAN, "dice": mean(counted)},
    ]


def _mean(view: str, rows: list[Row]) -> list[Row]:
    """Mean over those of the sixteen that a view has; the view of tissues has no mean."""
    counted = [row for row in rows if _counts(row["structure"])]
    if view not in (SIDES, MERGED) or not counted:
        return []
    measures = [name for name in MEASURES if name in counted[0]]
    means = {name: mean([abs(row[name]) if name == "volume_error" else row[name] for row in counted])
             for name in measures}  # fmt: skip
    return [{"view": view, "structure": MEAN, **means}]


def mean(values: Sequence[float]) -> float:
    """Mean of the defined ones, NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _counts(name: str) -> bool:
    return name.removeprefix("left ").removeprefix("right ") in SIXTEEN
