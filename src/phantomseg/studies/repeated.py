"""Scans of one subject against each other: several contrasts, or several sessions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from phantomseg.image.files import read_image
from phantomseg.image.image import Image
from phantomseg.report.plots import bland_altman_plot, box_plot
from phantomseg.studies.accuracy import brought, dice_of, ids_of, read_reference, relative_volumes, told_of
from phantomseg.studies.degrade import acquisitions
from phantomseg.studies.kept import Row
from phantomseg.studies.matching import Scan
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.scores import overlaps
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, summary_table
from phantomseg.studies.tables import select, series_of
from phantomseg.studies.tools import Found, Tool, onto, same_grid
from phantomseg.studies.views import FOREGROUND, MEAN, MERGED, SIXTEEN, TISSUES
from phantomseg.studies.work import Part, Task

VIEWS = (MERGED, TISSUES, FOREGROUND)
SIMULATED = "simulated"
TRUTH = "reference"
TEXT = """Scans of one subject are labelled one by one, and the label maps are compared with each other: Dice, and the
difference of volumes in % of their mean. Nothing but the tool should make them differ. Maps on another grid are brought
to that of the subject's first scan by the headers (nearest neighbour), so the scans must be registered; that alone
costs some Dice, and volumes are counted there. Where labels are known, every scan is also compared with them."""
CONTRAST_TEXT = f"""{TEXT}

The scans of a subject differ in contrast. Grey matter and the sixteen structures are compared contrast by contrast."""
RETEST_TEXT = f"""{TEXT}

The scans of a subject are sessions. Where the data name none, each scan is acquired again in simulation, on two
scanners that differ in receive gain, noise, contrast curve and sharpness, and is marked "simulated": the head has then
not moved, so real sessions will agree less. Grey-matter consistency is the Dice of grey matter between the two."""


def contrast_tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a subject with several contrasts."""
    return [
        task for dataset in plan.datasets if dataset.several == "images" for task in _tasks(plan, dataset, settings)
    ]


def retest_tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a subject with several sessions; simulated ones of every single scan where no dataset has any."""
    real = [d for d in plan.datasets if d.several == "sessions"]
    if real:
        return [task for dataset in real for task in _tasks(plan, dataset, settings)]
    single = [(d, scan) for d in plan.datasets if not d.several for scan in d.scans[: settings.most]]
    return [_simulated(plan, dataset, scan) for dataset, scan in single]


def _tasks(plan: Plan, dataset: Dataset, settings: Settings) -> list[Task]:
    subjects: dict[str, list[Scan]] = {}
    for scan in dataset.scans:
        subjects.setdefault(scan.subject, []).append(scan)
    chosen = [(name, scans) for name, scans in subjects.items() if len(scans) > 1][: settings.most]
    return [
        Task(
            name=f"{dataset.name}_{subject}",
            facts={"dataset": dataset.name, "scan": subject},
            parts=tuple(Part(scan.part, partial(read_image, scan.image), scan.image) for scan in scans),
            rows=partial(_rows, plan, dataset, scans[0]),
            told=told_of(plan, dataset, [*(scan.image for scan in scans), scans[0].reference]),
        )
        for subject, scans in chosen
    ]


def _simulated(plan: Plan, dataset: Dataset, scan: Scan) -> Task:
    return Task(
        name=f"{dataset.name}_{scan.subject}_{SIMULATED}",
        facts={"dataset": f"{dataset.name}, {SIMULATED}", "scan": scan.subject},
        parts=tuple(Part(part, partial(_acquired, scan, n)) for n, part in enumerate(("first", "second"))),
        rows=partial(_rows, plan, dataset, scan),
        told=told_of(plan, dataset, [scan.image, scan.reference]),
    )


def _acquired(scan: Scan, number: int) -> Image:
    return acquisitions(read_image(scan.image))[number]


def _rows(plan: Plan, dataset: Dataset, scan: Scan, tool: Tool, found: dict[str, Found]) -> list[Row]:
    """Each map against the first, and each against the reference, if there is one."""
    (base, first), *others = found.items()
    rows: list[Row] = []
    ids = tool.ids, tool.ids
    for part, other in others:
        image = other.image if same_grid(other.image, first.image) else onto(other.image, first.image)
        rows += _compared(f"{part} to {base}", overlaps(image, first.image, ids, plan.structures, VIEWS))
    if scan.reference is not None:
        truth = read_reference(plan, dataset, scan.reference)
        known = tool.ids, ids_of(plan, dataset)
        for part, one in found.items():
            image = brought(one.image, truth, replace(dataset, resample=True), scan.reference)
            rows += _compared(f"{part} to {TRUTH}", overlaps(image, truth, known, plan.structures, VIEWS))
    return rows


def _compared(pair: str, rows: list[Row]) -> list[Row]:
    """Rows with the pair's name, and the difference of volumes in % of their mean."""
    for row in rows:
        if "predicted_mm3" in row:
            total = row["predicted_mm3"] + row["reference_mm3"]
            difference = row["predicted_mm3"] - row["reference_mm3"]
            row["volume_difference_percent"] = 200 * difference / total if total else math.nan
            row["absolute_difference_percent"] = abs(row["volume_difference_percent"])
    return [{"pair": pair, **row} for row in rows]


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Consistency of structures, agreement of volumes, and tables."""
    good = [row for row in rows if "error" not in row and not row["pair"].endswith(TRUTH)]
    series = series_of(good, "pair")
    boxes = {name: dice_of(chosen, ("grey matter", "white matter", *SIXTEEN)) for name, chosen in series.items()}
    volumes = {name: relative_volumes(chosen) for name, chosen in series.items()}
    columns = {"dataset": "dataset", "pair": "pair", "view": "view", **DEFAULT_COLUMNS}
    dice = select(lines, measure="dice")
    short = [line for line in dice if line["structure"] in (MEAN, "grey matter", FOREGROUND)]
    differences = [line for line in select(lines, measure="absolute_difference_percent") if line["view"] != FOREGROUND]
    return Shown(
        (
            summary_table("Consistency: Dice", short, columns),
            summary_table("Every structure: Dice", dice, columns),
            summary_table("Difference of volumes, % of their mean, without sign", differences, columns, 2),
        ),
        (
            Plot("consistency", "Dice between scans of one subject", box_plot(boxes, "Dice"), "Each dot is a subject."),
            Plot("volumes", "Volumes of one subject's scans", bland_altman_plot(
                volumes, "mean of both, % of the structure's mean", "difference, %"),
                "Each dot is one of the sixteen structures of a subject."),
        ),
    )  # fmt: skip


_BY = ("dataset", "pair", "view", "structure")
_MEASURES = ("dice", "volume_difference_percent", "absolute_difference_percent")
CONTRAST = Study(
    "Contrast",
    CONTRAST_TEXT,
    contrast_tasks,
    show,
    _BY,
    _MEASURES,
    uses=lambda dataset: dataset.several == "images",
    wants="a dataset with images = { T1w = ..., T2w = ... }",
)
RETEST = Study(
    "Test and retest",
    RETEST_TEXT,
    retest_tasks,
    show,
    _BY,
    _MEASURES,
    uses=lambda dataset: dataset.several == "sessions",
    wants="a dataset with sessions = { first = ..., second = ... }, or single scans",
)
