"""How much accuracy is lost as slices get thicker, in three directions."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from phantomseg.errors import PhantomSegError
from phantomseg.evaluation.statistics import bootstrap_interval
from phantomseg.image.files import read_image
from phantomseg.image.header import affine_of, read_header
from phantomseg.image.image import Image
from phantomseg.image.stream import opened
from phantomseg.report.plots import Curve, curve_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies.accuracy import against_reference, facts_of, name_of, referenced, told_of
from phantomseg.studies.degrade import thickened
from phantomseg.studies.kept import Row
from phantomseg.studies.matching import Scan
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.scores import mean, overlaps
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, summary_table
from phantomseg.studies.tables import select, series_of
from phantomseg.studies.tools import Found, Tool
from phantomseg.studies.views import FOREGROUND, MEAN, MERGED, SIXTEEN, TISSUES
from phantomseg.studies.work import Part, Task

SPACINGS_MM = (3.0, 5.0, 7.0)
DIRECTIONS = ("sagittal", "coronal", "axial")  # slices across the axes to right, anterior, superior
AS_IS = "as it is"
XLABEL = "slice spacing, mm (0: as it is)"
TEXT = """Every scan with known labels is labelled as it is, and as it would be with slices of 3, 5 and 7 mm: blurred
across the slices (Gaussian, full width at half maximum of a slice), sampled once a slice, and interpolated linearly
back on its own grid, so that every tool is compared on the same voxels. Slices no thicker than the scan's own are left
out. Dice is that of structures with sides merged;
means are over the sixteen structures that protocols share."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a scan with a reference, spacing and direction; slices no thicker than the scan's own are left out."""
    made = []
    for dataset in plan.datasets:
        for scan in referenced(dataset, settings.most):
            own_mm = slices_mm(scan.image)
            conditions = [(mm, d) for mm in SPACINGS_MM for d in DIRECTIONS if mm > own_mm[DIRECTIONS.index(d)]]
            made += [_task(plan, dataset, scan, *condition) for condition in [(0.0, AS_IS), *conditions]]
    return made


def slices_mm(path: Path) -> list[float]:
    """Voxel size along the axes to right, anterior and superior, by a file's header; 0 where it cannot be read."""
    try:
        with opened(path) as stream:
            affine = affine_of(read_header(stream))
    except PhantomSegError:
        return [0.0] * 3  # reading the scan will say why
    grid = Image(np.zeros((1, 1, 1)), affine)
    return [float(grid.spacing_mm[voxel_axis(grid, world)]) for world in range(3)]


def _task(plan: Plan, dataset: Dataset, scan: Scan, mm: float, direction: str) -> Task:
    name = name_of(plan, dataset, scan)
    facts = {**facts_of(plan, dataset, scan), "spacing_mm": mm, "direction": direction}
    make = partial(read_image, scan.image) if not mm else partial(thick, scan, mm, direction)
    return Task(
        name=f"{name}_{mm:g}mm-{direction}" if mm else name,
        facts=facts,
        parts=(Part("", make, None if mm else scan.image),),
        rows=partial(_rows, plan, dataset, scan),
        told={**told_of(plan, dataset, [scan.image, scan.reference]), "mm": mm, "direction": direction},
    )


def thick(scan: Scan, mm: float, direction: str) -> Image:
    """A scan as thick slices of one of the three directions would have shown it."""
    image = read_image(scan.image)
    return thickened(image, voxel_axis(image, DIRECTIONS.index(direction)), mm)


def voxel_axis(image: Image, world_axis: int) -> int:
    """Voxel axis that runs along a world axis, or most nearly so.

    >>> voxel_axis(Image(np.zeros((2, 2, 2)), np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])), 0)
    2
    """
    orientation = nib.orientations.io_orientation(image.affine)
    return int(np.flatnonzero(orientation[:, 0] == world_axis)[0])


def _rows(plan: Plan, dataset: Dataset, scan: Scan, tool: Tool, found: dict[str, Found]) -> list[Row]:
    return overlaps(
        *against_reference(plan, dataset, scan, tool, found), plan.structures, (MERGED, TISSUES, FOREGROUND)
    )


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Curves over spacing, and tables."""
    good = [row for row in rows if "error" not in row and row["view"] == MERGED]
    series = series_of(good)
    first, of_first = next(iter(series.items()), ("", []))
    structures = [name for name in dict.fromkeys(row["structure"] for row in of_first) if name in SIXTEEN]
    curves = {name: _curve(chosen, MEAN) for name, chosen in series.items()}
    of_structure = {name: _curve(of_first, name, faint=False) for name in structures[:8]}
    plots = [
        Plot("curve", "Mean Dice over slice spacing", curve_plot(curves, XLABEL, "mean Dice"),
             "Mean over scans and directions, with its 95 % bootstrap interval over scans; thin lines: one direction."),
        Plot("structures", "Structures over slice spacing", curve_plot(of_structure, XLABEL, f"Dice of {first}"),
             "Eight structures."),
    ]  # fmt: skip
    short = StudyTable(
        "Mean Dice over scans and directions",
        ("tool", AS_IS, *(f"{mm:g} mm" for mm in SPACINGS_MM), f"lost at {SPACINGS_MM[-1]:g} mm"),
        tuple((name, *_along(curve)) for name, curve in curves.items()),
    )
    columns = {"dataset": "dataset", "spacing_mm": "mm", "direction": "slices", **DEFAULT_COLUMNS}
    dice = select(lines, measure="dice")
    overall = [line for line in dice if line["structure"] in (MEAN, FOREGROUND, "grey matter")]
    return Shown(
        (
            short,
            summary_table("Mean of structures, grey matter and foreground: Dice", overall, columns),
            summary_table("Every structure: Dice", [line for line in dice if line["view"] == MERGED], columns),
        ),
        tuple(plots),
    )


def _along(curve: Curve) -> list[float]:
    """Mean at each spacing, and what is lost at the largest; NaN where nothing was done."""
    known = dict(zip(curve.x, curve.y, strict=True))
    means = [known.get(mm, math.nan) for mm in (0.0, *SPACINGS_MM)]
    return [*means, means[0] - means[-1]]


def _curve(rows: list[Row], structure: str, faint: bool = True) -> Curve:
    chosen = select(rows, structure=structure)
    spacings = sorted({row["spacing_mm"] for row in chosen})
    means, lows, highs = [], [], []
    for mm in spacings:
        of_scan: dict[str, list[float]] = {}
        for row in select(chosen, spacing_mm=mm):
            of_scan.setdefault(row["scan"], []).append(row["dice"])
        values = np.array([np.nanmean(each) for each in of_scan.values() if not np.isnan(each).all()])
        low, high = bootstrap_interval(values)
        means.append(float(values.mean()) if values.size else np.nan)
        lows.append(low)
        highs.append(high)
    thin = {}
    for direction in DIRECTIONS if faint else ():
        of_it = [row for row in chosen if row["direction"] in (direction, AS_IS)]
        thin[direction] = [mean([row["dice"] for row in select(of_it, spacing_mm=mm)]) for mm in spacings]
    return Curve(spacings, means, lows, highs, thin)


STUDY = Study(
    title="Resolution",
    text=TEXT,
    tasks=tasks,
    show=show,
    by=("dataset", "spacing_mm", "direction", "view", "structure"),
    measures=("dice", "volume_error"),
    uses=lambda dataset: dataset.referenced,
)
