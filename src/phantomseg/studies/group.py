"""Whether volumes tell two groups of people apart: corrected for age, sex and head size, as Cohen's d."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from phantomseg.errors import ScanError
from phantomseg.evaluation.statistics import bonferroni, cohens_d, corrected
from phantomseg.image.files import read_image
from phantomseg.inference.segment import INTRACRANIAL
from phantomseg.report.plots import box_plot, interval_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies.accuracy import facts_of, name_of, told_of
from phantomseg.studies.kept import Row
from phantomseg.studies.people import Person, plain, read_people
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.study import Plot, Settings, Shown, Study
from phantomseg.studies.tables import series_of
from phantomseg.studies.tools import Found, Tool
from phantomseg.studies.views import MERGED, numbered, structures_of
from phantomseg.studies.work import Part, Task

SHOWN = ("hippocampus", "amygdala", "lateral ventricle", "inferior lateral ventricle", "cerebral cortex", "thalamus",
         "accumbens area", "3rd ventricle")  # fmt: skip
TEXT = """Volumes of two groups. Each volume is brought to the controls' mean age, sex and intracranial volume by a
linear model of group and covariates (analysis of covariance). Effect size is Cohen's d of the corrected volumes: (mean
of controls - mean of patients) / pooled standard deviation, with an interval of 95 % by the noncentral t distribution,
which does not know that covariates were fitted: in groups of ten or fewer it is too narrow. d above 0 means that
patients have less. p is that of the group's term of the model, times the number of tests. Intracranial volume is the
participants' column `icv` where everybody has one, else what the tool tells, else all that it labels."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a scan of a person who is in one of the groups."""
    made = []
    for dataset in used(plan):
        people, _ = read_people(dataset.participants, plan.group)
        for scan in dataset.scans[: settings.most]:
            person = people.get(plain(scan.subject))
            if person is None:
                continue
            facts = {"group": person.group, "age": person.age, "sex": person.sex}
            made.append(
                Task(
                    name=name_of(plan, dataset, scan),
                    facts={**facts_of(plan, dataset, scan), **facts},
                    parts=(Part("", partial(read_image, scan.image), scan.image),),
                    rows=partial(_rows, person, plan.structures),
                    told={**told_of(plan, dataset, [scan.image]), **facts, "icv_mm3": person.icv_mm3},
                )
            )
    return made


def used(plan: Plan) -> list[Dataset]:
    """Datasets with participants.

    Raises:
        ScanError: one has several scans of a person, who would count several times.
    """
    found = [dataset for dataset in plan.datasets if dataset.participants is not None]
    several = next((dataset for dataset in found if dataset.several), None)
    if several is not None:
        raise ScanError(f"dataset {several.name} has participants and {several.several}, wanted one scan a person")
    return found


def gaps(plan: Plan, settings: Settings) -> list[tuple[str, str, str]]:
    """People and scans that cannot take part, and why."""
    found = []
    for dataset in used(plan):
        people, faults = read_people(dataset.participants, plan.group)
        scans = {plain(scan.subject) for scan in dataset.scans}
        found += [(dataset.name, name, sentence) for name, sentence in faults.items()]
        for name in people if settings.most is None else ():
            if name not in scans:
                found.append((dataset.name, name, f"{name} of {dataset.participants} has no scan; add it"))
    return found


def _rows(person: Person, only: tuple[str, ...], tool: Tool, found: dict[str, Found]) -> list[Row]:
    image = found[""].image
    structures = structures_of(MERGED, tool.ids, tool.ids, only)
    counts = np.bincount(numbered(image.voxels, structures).ravel(), minlength=len(structures) + 1)
    told = found[""].volumes_mm3
    icv = person.icv_mm3 or told.get(INTRACRANIAL) or float((image.voxels > 0).sum() * image.voxel_volume_mm3)
    return [
        {
            "structure": name,
            "volume_mm3": _soft(told, name) or float(counts[number] * image.voxel_volume_mm3),
            "icv_mm3": icv,
        }
        for number, name in enumerate(structures, start=1)
    ]


def _soft(volumes: dict[str, float], structure: str) -> float:
    """Volume of both sides by the tool's own account, 0 where it gives none."""
    return sum(volumes.get(name, 0.0) for name in (structure, f"left {structure}", f"right {structure}"))


def analyse(rows: list[Row], plan: Plan) -> list[Row]:
    """Effect size of each structure by each tool; adds the corrected volume to the rows."""
    controls, patients = (str(plan.group.get(key, key)) for key in ("controls", "patients"))
    good = [row for row in rows if "error" not in row]
    lines = []
    for dataset, tool, structure in dict.fromkeys((r["dataset"], r["tool"], r["structure"]) for r in good):
        chosen = [row for row in good if (row["dataset"], row["tool"], row["structure"]) == (dataset, tool, structure)]
        failed = [r for r in rows if "error" in r and r["tool"] == tool and r["dataset"] == dataset]
        is_control = np.array([row["group"] == controls for row in chosen])
        line = {"dataset": dataset, "structure": structure, "tool": tool, "measure": "cohens_d",
                controls: int(is_control.sum()), patients: int((~is_control).sum()), "failed": len(failed)}  # fmt: skip
        lines.append({**line, **_effect(chosen, is_control)})
    for line, p in zip(lines, bonferroni([line["p"] for line in lines]), strict=True):
        line["p_bonferroni"] = p
    return lines


def _effect(rows: list[Row], is_control: np.ndarray) -> Row:
    volumes = np.array([row["volume_mm3"] for row in rows])
    covariates = np.array([[row["age"], row["sex"], row["icv_mm3"]] for row in rows])
    varying = np.ptp(covariates, axis=0) > 0
    try:
        adjusted = corrected(volumes, covariates[:, varying], is_control)
        effect = cohens_d(adjusted.volumes[is_control], adjusted.volumes[~is_control])
    except ScanError as error:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "p": math.nan, "note": str(error)}
    for row, value in zip(rows, adjusted.volumes.tolist(), strict=True):
        row["corrected_mm3"] = value
    return {"mean": effect.d, "low": effect.low, "high": effect.high, "p": adjusted.p}


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Effect sizes with their intervals, and volumes of the groups."""
    effects: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, members in series_of(lines).items():
        effects[name] = {line["structure"]: (line["mean"], line["low"], line["high"]) for line in members}
    known = [row for row in rows if row.get("structure") in SHOWN and "corrected_mm3" in row]
    volumes: dict[str, dict[str, list[float]]] = {}
    for name, members in series_of(known, "group").items():
        for row in members:
            volumes.setdefault(name, {}).setdefault(row["structure"], []).append(row["corrected_mm3"] / 1000)
    keys = list(dict.fromkeys(key for line in lines for key in line if key not in ("measure", "p")))
    titles = {"mean": "Cohen's d", "low": "95 % from", "high": "to", "p_bonferroni": "p, Bonferroni"}
    cells = tuple(tuple(line.get(key) for key in keys) for line in lines)
    table = StudyTable("Effect sizes", tuple(titles.get(key, key) for key in keys), cells)
    return Shown(
        (table,),
        (
            Plot(
                "effects",
                "Cohen's d, controls minus patients",
                interval_plot(effects, "Cohen's d"),
                "With 95 % intervals.",
            ),
            Plot("volumes", "Corrected volumes", box_plot(volumes, "ml"), "Each dot is a person."),
        ),
    )


STUDY = Study(
    "Groups",
    TEXT,
    tasks,
    show,
    analyse=analyse,
    uses=lambda dataset: dataset.participants is not None,
    gaps=gaps,
    wants="a dataset with participants, a table of age, sex and group",
)
