"""How well tools label scans whose labels are known: structure by structure, and in three coarser views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from phantomseg.errors import GeometryError
from phantomseg.evaluation.published import published
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.image import Image
from phantomseg.report.plots import Mark, bland_altman_plot, box_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies.kept import Row, file_told, table_digest
from phantomseg.studies.matching import Scan
from phantomseg.studies.plan import Dataset, Plan, to_evaluation
from phantomseg.studies.scores import MEASURES, SWAPPED, scored
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, summary_table
from phantomseg.studies.tables import select, series_of
from phantomseg.studies.tools import Found, Tool, onto, same_grid
from phantomseg.studies.views import FOREGROUND, MEAN, MERGED, SIDES, SIXTEEN, TISSUES
from phantomseg.studies.work import Part, Task

TEXT = """Every scan with known labels is labelled by every tool, and the two label maps are compared: sides apart,
sides merged, tissues (grey matter, white matter, ventricles), and foreground.

Where Dice is low with sides apart and high with sides merged, a tool finds structures and takes left for right: the
laterality error is the share of voxels on the wrong side among those of the right structure, and "swap-corrected" is
Dice with all sides of a scan exchanged where that is better. Means are over the sixteen structures that protocols
share; the fluid around the brain is not among them. Distances are in mm, between surfaces weighed by area; NSD is the
share of both surfaces within 1 mm. Volume errors are shares of the reference's volume."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a scan that has a reference."""
    return [
        scored_task(plan, dataset, scan, name_of(plan, dataset, scan))
        for dataset in plan.datasets
        for scan in referenced(dataset, settings.most)
    ]


def referenced(dataset: Dataset, most: int | None) -> list[Scan]:
    """Scans with a reference, at most so many."""
    return [scan for scan in dataset.scans if scan.reference is not None][:most]


def name_of(plan: Plan, dataset: Dataset, scan: Scan) -> str:
    """Name of a scan's task: with the dataset's, where there are several."""
    subject = f"{scan.subject}_{scan.part}" if scan.part else scan.subject
    return f"{dataset.name}_{subject}" if len(plan.datasets) > 1 else subject


def scored_task(plan: Plan, dataset: Dataset, scan: Scan, name: str) -> Task:
    """A scan, all measures of it, sides apart and merged."""
    return Task(
        name=name,
        facts=facts_of(plan, dataset, scan),
        parts=(Part("", partial(read_image, scan.image), scan.image),),
        rows=partial(_rows, plan, dataset, scan),
        told=told_of(plan, dataset, [scan.image, scan.reference]),
    )


def facts_of(plan: Plan, dataset: Dataset, scan: Scan) -> Row:
    """Columns of a scan's rows; scans of one subject in several contrasts or sessions are datasets of their own."""
    return {
        "dataset": f"{dataset.name} {scan.part}".strip(),
        "scan": name_of(plan, dataset, scan),
    }


def told_of(plan: Plan, dataset: Dataset, files: Iterable[Path | None]) -> Row:
    """What rows of a dataset rest on, beside the tool; they are made again when this changes."""
    return {
        "files": file_told(files),
        "labels": table_digest(to_evaluation(dataset.labels, plan)),
        "resample": dataset.resample,
        "structures": list(plan.structures),
    }


def read_reference(plan: Plan, dataset: Dataset, path: Path) -> Image:
    """A reference with ids of the set `evaluation`.

    Raises:
        ScanError: it cannot be read.
        LabelError: it holds a value that its table does not.
    """
    reference = read_labels(path)
    return reference.with_voxels(to_evaluation(dataset.labels, plan).apply(reference.voxels))


def brought(found: Image, reference: Image, dataset: Dataset, path: Path) -> Image:
    """Label map on the grid of the reference.

    Raises:
        GeometryError: it lies on another, and the dataset does not say that this is so.
    """
    if same_grid(found, reference):
        return found
    if not dataset.resample:
        raise GeometryError(
            f"reference {path} has shape {reference.shape}, the scan {found.shape}, or their affines differ; add "
            f"resample = true to datasets.{dataset.name} to compare on the reference's grid"
        )
    return onto(found, reference)


def ids_of(plan: Plan, dataset: Dataset) -> frozenset[int]:
    """Ids that references of a dataset can give."""
    return frozenset(to_evaluation(dataset.labels, plan).target_ids)


def against_reference(
    plan: Plan, dataset: Dataset, scan: Scan, tool: Tool, found: dict[str, Found]
) -> tuple[Image, Image, tuple[frozenset[int], frozenset[int]]]:
    """What a tool made of a scan, its reference on the same grid, and the ids that each of the two can give.

    Raises:
        ScanError, LabelError, GeometryError: as for `read_reference` and `brought`.
    """
    assert scan.reference is not None
    reference = read_reference(plan, dataset, scan.reference)
    return brought(found[""].image, reference, dataset, scan.reference), reference, (tool.ids, ids_of(plan, dataset))


def _rows(plan: Plan, dataset: Dataset, scan: Scan, tool: Tool, found: dict[str, Found]) -> list[Row]:
    return scored(*against_reference(plan, dataset, scan, tool, found), plan.structures)


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Boxes of structures and of views, agreement of volumes, and tables."""
    good = [row for row in rows if "error" not in row]
    series = series_of(good)
    structures = {name: dice_of(select(chosen, view=MERGED), SIXTEEN) for name, chosen in series.items()}
    coarser = {name: views(chosen) for name, chosen in series.items()}
    volumes = {name: relative_volumes(chosen) for name, chosen in series.items()}
    plots = [
        Plot("structures", "Dice of each structure, sides merged", box_plot(structures, "Dice", marks(good)),
             "Each dot is a scan."),
        Plot("views", "The same label maps, looked at more and more coarsely", box_plot(coarser, "Dice"),
             "Low with sides apart and high with sides merged means sides taken for each other."),
        Plot("volumes", "Volumes: prediction against reference", bland_altman_plot(
            volumes, "mean of both, % of the structure's mean", "prediction - reference, %"),
            "Each dot is one of the sixteen structures in one scan, sides merged."),
    ]  # fmt: skip
    return Shown(tuple(tables(lines)), tuple(plots))


def tables(lines: list[Row]) -> list[StudyTable]:
    """Overall first, then by structure."""
    overall = {"dataset": "dataset", "view": "view", "structure": "what", **DEFAULT_COLUMNS}
    whole = [
        line
        for line in select(lines, measure="dice")
        if line["structure"] in (MEAN, FOREGROUND) or line["view"] == TISSUES
    ]
    wrong = select(lines, measure="laterality_error")
    made = [
        summary_table("Dice, view by view", whole, overall, hint="Mean: of the structures that all tools tell."),
        summary_table("Laterality error", wrong, {"dataset": "dataset", **DEFAULT_COLUMNS}, 4,
                      "Share of voxels on the wrong side among those of the right structure."),
    ]  # fmt: skip
    titles = {
        "dice": "Dice", "hd95_mm": "HD95 in mm", "mean_surface_mm": "Mean surface distance in mm",
        "nsd": "Surface Dice at 1 mm", "volume_error": "Volume error, share of the reference",
    }  # fmt: skip
    for measure, title in titles.items():
        for view in (MERGED, SIDES):
            chosen = select(lines, measure=measure, view=view)
            columns = {"dataset": "dataset", **DEFAULT_COLUMNS}
            made.append(summary_table(f"{title}, {view}", chosen, columns))
    return [table for table in made if table.rows]


def views(rows: list[Row]) -> dict[str, list[float]]:
    """Dice of each view of each scan, that of sides a mean."""
    chosen = {
        SIDES: {"view": SIDES, "structure": MEAN}, "swap-corrected": {"view": SWAPPED, "structure": MEAN},
        MERGED: {"view": MERGED, "structure": MEAN},
        **{tissue: {"view": TISSUES, "structure": tissue} for tissue in ("grey matter", "white matter", "ventricles")},
        FOREGROUND: {"view": FOREGROUND},
    }  # fmt: skip
    return {name: [row["dice"] for row in select(rows, **where)] for name, where in chosen.items()}


def marks(rows: list[Row]) -> list[Mark]:
    """Published Dice of the structures on the datasets at hand."""
    here = {_plain(str(row["dataset"])) for row in rows}
    return [
        Mark(one.structure, one.value, f"{one.method}, {one.dataset}")
        for one in published("accuracy", "dice")
        if _plain(one.dataset) in here and one.structure in SIXTEEN
    ]


def dice_of(rows: list[Row], structures: Sequence[str]) -> dict[str, list[float]]:
    """Dice of some structures in the rows."""
    return {name: [row["dice"] for row in rows if row["structure"] == name] for name in structures}


def relative_volumes(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Volumes of the sixteen structures, and those they are compared with, in % of the structure's mean."""
    pairs = []
    for structure in SIXTEEN:
        chosen = select(rows, view=MERGED, structure=structure)
        usual = np.mean([row["reference_mm3"] for row in chosen]) if chosen else 0
        if usual > 0:
            pairs += [(100 * row["predicted_mm3"] / usual, 100 * row["reference_mm3"] / usual) for row in chosen]
    first, second = np.array(pairs).T if pairs else (np.empty(0), np.empty(0))
    return first, second


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


STUDY = Study(
    title="Accuracy",
    text=TEXT,
    tasks=tasks,
    show=show,
    measures=(*MEASURES, "laterality_error"),
    uses=lambda dataset: dataset.referenced,
)
