"""Whether volumes tell two groups of people apart: corrected for age, sex and head size, as Cohen's d."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from phantomseg.errors import ScanError
from phantomseg.evaluation.statistics import bonferroni, cohens_d, corrected
from phantomseg.image.files import read_image
from phantomseg.inference.segment import INTRACRANIAL
from phantomseg.report.plots import box_plot, interval_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies.plan import Plan
from phantomseg.studies.study import Plot, Settings, Shown, Study
from phantomseg.studies.tools import Found, Tool
from phantomseg.studies.views import MERGED, numbered, structures_of
from phantomseg.studies.work import Part, Row, Task, file_told

GROUP_KEYS = ("id", "age", "sex", "group", "icv", "controls", "patients")
SHOWN = ("hippocampus", "amygdala", "lateral ventricle", "inferior lateral ventricle", "cerebral cortex", "thalamus",
         "accumbens area", "3rd ventricle")  # fmt: skip
TEXT = """Volumes of two groups. Each volume is corrected for age, sex and intracranial volume by a linear model fitted
on the controls, and brought to the mean of theirs. Effect size is Cohen's d: (mean of controls - mean of patients) /
pooled standard deviation; its interval of 95 % comes from the noncentral t distribution. d above 0 means that patients
have less. Intracranial volume is the participants' column `icv`, else what the tool tells, else all that it labels.
p: Student's t between the corrected volumes of the two groups, times the number of tests."""


@dataclass(frozen=True)
class Person:
    """A line of the table of participants."""

    age: float
    sex: float  # 1 for the first of the two words in order, else 0
    group: str
    icv_mm3: float | None


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a scan of a person who is in one of the groups."""
    made = []
    for dataset in plan.datasets:
        if dataset.participants is None:
            continue
        people = read_participants(dataset.participants, plan.group)
        for scan in dataset.scans[: settings.most]:
            person = people.get(scan.subject) or people.get(f"sub-{scan.subject}")
            if person is None:
                continue
            facts = {"dataset": dataset.name, "scan": scan.subject, "group": person.group, "age": person.age,
                     "sex": person.sex}  # fmt: skip
            made.append(
                Task(
                    name=f"{dataset.name}_{scan.subject}",
                    facts=facts,
                    parts=(Part("", partial(read_image, scan.image), scan.image),),
                    rows=partial(_rows, person, plan.structures),
                    told={"files": file_told([scan.image]), **facts, "icv_mm3": person.icv_mm3},
                )
            )
    return made


def read_participants(path: Path, group: dict[str, Any]) -> dict[str, Person]:
    """People of the two groups, by identifier.

    Raises:
        ScanError: the table cannot be read, or lacks a column or one of the groups.
    """
    unknown = sorted(set(group) - set(GROUP_KEYS))
    if unknown:
        raise ScanError(f"[group] has an unknown key {unknown[0]!r}; known are {', '.join(GROUP_KEYS)}")
    columns = {"id": "participant_id", "age": "age", "sex": "sex", "group": "group", "icv": "icv"}
    names = {key: str(group.get(key, usual)) for key, usual in columns.items()}
    wanted = [str(group.get(key, key)) for key in ("controls", "patients")]
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    except OSError as error:
        raise ScanError(f"participants {path} cannot be read ({error.strerror}); check the path") from error
    for key in ("id", "age", "sex", "group"):
        if not rows or names[key] not in rows[0]:
            raise ScanError(f"participants {path} have no column {names[key]!r}; name the one meant in [group].{key}")
    sexes = sorted({row[names["sex"]] for row in rows})
    try:
        people = {
            row[names["id"]]: Person(
                age=float(row[names["age"]]),
                sex=float(row[names["sex"]] == sexes[0]),
                group=row[names["group"]],
                icv_mm3=float(row[names["icv"]]) if row.get(names["icv"]) else None,
            )
            for row in rows
            if row[names["group"]] in wanted
        }
    except ValueError as error:
        raise ScanError(f"participants {path} hold an age or icv that is no number ({error}); correct it") from error
    lacking = [word for word in wanted if word not in {person.group for person in people.values()}]
    if lacking:
        raise ScanError(f"participants {path} have nobody in group {lacking[0]!r}; correct [group] of the TOML")
    return people


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
    varying = np.ptp(covariates[is_control], axis=0) > 0 if is_control.any() else np.zeros(3, dtype=bool)
    try:
        adjusted = corrected(volumes, covariates[:, varying], is_control)
        effect = cohens_d(adjusted[is_control], adjusted[~is_control])
    except ScanError as error:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "p": math.nan, "note": str(error)}
    for row, value in zip(rows, adjusted.tolist(), strict=True):
        row["corrected_mm3"] = value
    return {"mean": effect.d, "low": effect.low, "high": effect.high, "p": effect.p}


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Effect sizes with their intervals, and volumes of the groups."""
    effects: dict[str, dict[str, tuple[float, float, float]]] = {}
    for line in lines:
        effects.setdefault(line["tool"], {})[line["structure"]] = (line["mean"], line["low"], line["high"])
    volumes: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.get("structure") in SHOWN and "corrected_mm3" in row:
            of_group = volumes.setdefault(f"{row['tool']}, {row['group']}", {})
            of_group.setdefault(row["structure"], []).append(row["corrected_mm3"] / 1000)
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


STUDY = Study("Groups", TEXT, tasks, show, analyse=analyse, uses=lambda dataset: dataset.participants is not None)
