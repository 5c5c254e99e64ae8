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
from phantomseg.studies.kept import Row
from phantomseg.studies.plan import EVALUATION
from phantomseg.studies.views import MEAN, MERGED, SIDES, SIXTEEN, VIEWS, numbered, structures_of

SWAPPED = "sides apart, swap-corrected"
MEASURES = ("dice", "jaccard", "hd95_mm", "mean_surface_mm", "nsd", "volume_error", "volume_similarity")
MEANT = (SIDES, MERGED, SWAPPED)  # views whose structures have a mean
ALL = "all"
NUMBERS = (
    *MEASURES, "predicted_mm3", "reference_mm3", "predicted_components", "reference_components",
    "volume_difference_percent", "absolute_difference_percent",
)  # fmt: skip
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
    sided = with_sides(predicted, reference)
    for view in VIEWS:
        structures = structures_of(view, *ids, only)
        if not structures:
            continue
        both = sided if view == SIDES else (predicted, reference)
        maps = [image.with_voxels(numbered(image.voxels, structures)) for image in both]
        rows += [{"view": view, **asdict(row)} for row in score(maps[0], maps[1], list(structures), tolerance_mm)]
    return rows + _sides(*sided, ids, only)


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
        rows += [
            {"view": view, "structure": name, **{key: float(values[n]) for key, values in columns.items()}}
            for n, name in enumerate(structures)
        ]
    return rows


def _sides(
    predicted: Image, reference: Image, ids: tuple[frozenset[int], frozenset[int]], only: tuple[str, ...]
) -> list[Row]:
    """Share of voxels on the wrong side, and Dice with all sides exchanged where that is better."""
    labels = label_set(EVALUATION)
    names = {name: i for name, (i,) in structures_of(SIDES, *ids, only).items()}
    if not any(name.startswith(("left ", "right ")) for name in names):
        return []
    kept = np.array(list(names.values()))
    maps = [np.where(np.isin(image.voxels, kept), image.voxels, 0) for image in (predicted, reference)]
    dice = overlap(swap_corrected(maps[0], maps[1], labels), maps[1], kept).dice
    return [
        {"view": SIDES, "structure": ALL, "laterality_error": laterality_error(maps[0], maps[1], labels)},
        *({"view": SWAPPED, "structure": n, "dice": value} for n, value in zip(names, dice.tolist(), strict=True)),
    ]


def with_sides(predicted: Image, reference: Image) -> tuple[Image, Image]:
    """Both maps without the voxels that one of them cannot place on a side, as the vermis of the cerebellum."""
    labels = label_set(EVALUATION).labels
    sided = {label.structure for label in labels if label.side}
    midline = [label.id for label in labels if not label.side and label.structure in sided]
    unknown = np.isin(predicted.voxels, midline) | np.isin(reference.voxels, midline)
    one, other = (image.with_voxels(np.where(unknown, 0, image.voxels)) for image in (predicted, reference))
    return one, other


def with_means(rows: list[Row]) -> list[Row]:
    """Rows, and a mean for each scan, tool and view, over those of the sixteen structures that all tools can tell.

    Its column `of` says over how many; a score that is not defined is left out of a scan's mean. Volume errors of
    either sign have no mean here.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    of_tool: dict[tuple[Any, ...], dict[str, set[str]]] = {}
    for row in rows:
        if row.get("view") not in MEANT or not _counts(row["structure"]):
            continue
        facts = tuple((key, value) for key, value in row.items() if key not in (*NUMBERS, "structure"))
        groups.setdefault(facts, []).append(row)
        compared = (row["dataset"], row["view"])
        of_tool.setdefault(compared, {}).setdefault(row["tool"], set()).add(row["structure"])
    common = {compared: set.intersection(*told.values()) for compared, told in of_tool.items()}
    means = []
    for facts, members in groups.items():
        about = dict(facts)
        kept = [row for row in members if row["structure"] in common[about["dataset"], about["view"]]]
        if kept:
            measures = [name for name in MEASURES if name in kept[0] and name != "volume_error"]
            values = {name: mean([row[name] for row in kept]) for name in measures}
            means.append({**about, "structure": MEAN, "of": len(kept), **values})
    return rows + means


def mean(values: Sequence[float]) -> float:
    """Mean of the defined ones, NaN where there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _counts(name: str) -> bool:
    return name.removeprefix("left ").removeprefix("right ") in SIXTEEN
