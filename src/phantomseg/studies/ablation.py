"""Several models in one table, on scans as they are and as they would be under another contrast and resolution."""

from __future__ import annotations

from functools import partial

from phantomseg.image.files import read_image
from phantomseg.image.image import Image
from phantomseg.report.plots import box_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies.accuracy import against_reference, facts_of, name_of, referenced, told_of
from phantomseg.studies.degrade import inverted
from phantomseg.studies.kept import Row
from phantomseg.studies.matching import Scan
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.resolution import DIRECTIONS, thick
from phantomseg.studies.scores import overlaps
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, summary_table
from phantomseg.studies.tables import select, series_of
from phantomseg.studies.tools import Found, Tool
from phantomseg.studies.views import FOREGROUND, MEAN, MERGED
from phantomseg.studies.work import Part, Task

AS_IS, INVERTED, THICK_MM = "as it is", "contrast inverted", 5.0
CONDITIONS = (AS_IS, INVERTED, *(f"{THICK_MM:g} mm, {direction}" for direction in DIRECTIONS))
TEXT = """Every tool labels the same scans as they are, with their contrast inverted (maximum minus value, wherever it
is above 0), and with slices of 5 mm in each of three directions. The first tool is what the others are tested against,
scan by scan. Name the models to compare by --tool, the one without anything changed first."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a scan with a reference and condition."""
    return [
        _task(plan, dataset, scan, number)
        for dataset in plan.datasets
        for scan in referenced(dataset, settings.most)
        for number in range(len(CONDITIONS))
    ]


def _task(plan: Plan, dataset: Dataset, scan: Scan, number: int) -> Task:
    name = name_of(plan, dataset, scan)
    changed = CONDITIONS[number].replace(", ", "-").replace(" ", "-")
    return Task(
        name=f"{name}_{changed}" if number else name,
        facts={**facts_of(plan, dataset, scan), "condition": CONDITIONS[number]},
        parts=(Part("", partial(_scan, scan, number), None if number else scan.image),),
        rows=partial(_rows, plan, dataset, scan),
        told={**told_of(plan, dataset, [scan.image, scan.reference]), "condition": CONDITIONS[number]},
    )


def _scan(scan: Scan, number: int) -> Image:
    if number >= 2:
        return thick(scan, THICK_MM, DIRECTIONS[number - 2])
    image = read_image(scan.image)
    return inverted(image) if number else image


def _rows(plan: Plan, dataset: Dataset, scan: Scan, tool: Tool, found: dict[str, Found]) -> list[Row]:
    return overlaps(*against_reference(plan, dataset, scan, tool, found), plan.structures, (MERGED, FOREGROUND))


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """One table of tools by condition, boxes, and every structure."""
    good = [row for row in rows if "error" not in row]
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    means = {
        name: {condition: [row["dice"] for row in select(chosen, condition=condition, structure=MEAN)]
               for condition in CONDITIONS} for name, chosen in series_of(good).items()
    }  # fmt: skip
    dice = select(lines, measure="dice")
    overall = [line for line in dice if line["structure"] == MEAN]
    table = StudyTable(
        "Mean Dice of structures, sides merged",
        ("tool", *CONDITIONS, "mean of all"),
        tuple((tool, *_in_row([line for line in overall if line["tool"] == tool])) for tool in tools),
        "Mean over scans and datasets.",
    )
    columns = {"dataset": "dataset", "condition": "condition", **DEFAULT_COLUMNS}
    return Shown(
        (
            table,
            summary_table("With intervals and tests: Dice", overall, columns),
            summary_table("Every structure: Dice", [line for line in dice if line["structure"] != MEAN], columns),
        ),
        (Plot("conditions", "Mean Dice under each condition", box_plot(means, "mean Dice"), "Each dot is a scan."),),
    )


def _in_row(lines: list[Row]) -> list[float | None]:
    cells: list[float | None] = []
    for condition in CONDITIONS:
        values = [line["mean"] for line in lines if line["condition"] == condition]
        cells.append(sum(values) / len(values) if values else None)
    known = [cell for cell in cells if cell is not None]
    return [*cells, sum(known) / len(known) if known else None]


STUDY = Study("Ablation", TEXT, tasks, show, ("dataset", "condition", "view", "structure"), ("dice", "volume_error"),
              uses=lambda dataset: dataset.referenced)  # fmt: skip
