"""Whether a tool sees the cortex get thinner, by how much, and from which step on."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from phantomseg.errors import ScanError
from phantomseg.evaluation.statistics import bonferroni, paired_wilcoxon
from phantomseg.image.files import scan_paths, stem
from phantomseg.image.image import Image
from phantomseg.labels import label_set, merge
from phantomseg.report.plots import box_plot, scatter_identity_plot
from phantomseg.studies.kept import Row, file_told
from phantomseg.studies.plan import EVALUATION, Plan
from phantomseg.studies.scores import overlaps
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, summary_table
from phantomseg.studies.tables import averaged, select, series_of, statistics
from phantomseg.studies.thinning import VERSION, thinned
from phantomseg.studies.tools import Found, Tool
from phantomseg.studies.work import Part, Task

LEVELS_MM = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CORTEX = "cerebral cortex"
SOFT = "probabilities"
TEXT = """Heads are synthesised from label maps, with the contrast of T1-weighted scans, and their cortex is made
thinner by a known amount: the surface between cortex and fluid moves inwards by about 0 to 1 mm, parts of voxels
included, and the volume that is left is counted. Each head is turned and warped a little, so that surfaces lie between
voxels. All levels of a head share anatomy, contrast and gain; each has its
own noise.

Induced atrophy is 100 · (1 - V(a) / V(0)) of the true volume of the cortex, predicted atrophy the same of the predicted
one. The relative error is 100 · |predicted - induced| / induced, over all levels but 0, as SIAM defines it. A step is
seen where the predicted volume falls below that of the head as it was. Volumes are counted in the label map; tools that
tell sums of probabilities have a second line. A model that was trained on these very label maps knows the anatomy, so
its figures are kind: differences between steps are what to look at."""
_BY = ("dataset", "volumes", "thinned_mm")
_NUMBERS = ("true_mm3", "predicted_mm3", "induced_percent", "predicted_percent", "seen", "dice")
_MEASURES = ("predicted_percent", "induced_percent", "relative_error_percent", "seen", "dice")


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a label map."""
    made = []
    for dataset in plan.datasets:
        for number, path in enumerate(scan_paths(dataset.templates)[: settings.most] if dataset.templates else ()):
            parts = tuple(
                Part(f"{mm:g}mm", partial(_image, path, mm, number, level)) for level, mm in enumerate(LEVELS_MM)
            )
            made.append(
                Task(
                    name=f"{dataset.name}_{stem(path)}",
                    facts={"dataset": dataset.name, "scan": stem(path)},
                    parts=parts,
                    rows=partial(_rows, path, number),
                    told={"files": file_told([path]), "levels": list(LEVELS_MM), "number": number, "version": VERSION},
                )
            )
    return made


def _image(path: Path, mm: float, seed: int, level: int) -> Image:
    return thinned(path, mm, seed, level).image


def _rows(path: Path, seed: int, tool: Tool, found: dict[str, Found]) -> list[Row]:
    """Induced and predicted atrophy of every level; Dice of the cortex at each."""
    known = frozenset(merge("generation", EVALUATION).target_ids)
    true_first = thinned(path, 0.0, seed, 0).cortex_mm3
    first: dict[str, float] = {}
    rows: list[Row] = []
    for level, mm in enumerate(LEVELS_MM):
        one = found.get(f"{mm:g}mm")
        if one is None:
            continue
        truth = thinned(path, mm, seed, level)
        reference = merge("generation", EVALUATION).apply(label_set("generation").ids[truth.labels])
        scores = overlaps(one.image, one.image.with_voxels(reference), (tool.ids, known), (CORTEX,))
        if not scores:
            raise ScanError(f"{tool.name} does not tell the cerebral cortex, wanted a tool that does; leave it out")
        induced = 100 * (1 - truth.cortex_mm3 / true_first) if true_first else 0.0
        if mm and induced <= 0:
            raise ScanError(f"{path} has no cortex that touches fluid, wanted a whole head; leave it out")
        volumes = {"label map": scores[0]["predicted_mm3"], **_soft(one)}
        first = volumes if not mm else first
        for kind, volume in volumes.items():
            predicted = 100 * (1 - volume / first[kind]) if first.get(kind) else math.nan
            rows.append({
                "thinned_mm": mm, "volumes": kind, "structure": CORTEX, "true_mm3": truth.cortex_mm3,
                "predicted_mm3": volume, "induced_percent": induced, "predicted_percent": predicted,
                "relative_error_percent": 100 * abs(predicted - induced) / induced if mm else math.nan,
                "seen": float(predicted > 0) if mm and not math.isnan(predicted) else math.nan,
                "dice": scores[0]["dice"],
            })  # fmt: skip
    return rows


def _soft(found: Found) -> dict[str, float]:
    parts = [volume for name, volume in found.volumes_mm3.items() if name.endswith(CORTEX)]
    return {SOFT: sum(parts)} if parts else {}


def analyse(rows: list[Row], plan: Plan) -> list[Row]:
    """The usual statistics by level, and over all levels; p of a step: predicted volumes against those of level 0."""
    lower = ("relative_error_percent",)
    lines = statistics(rows, _BY, _MEASURES, lower)
    # one mean a head over its levels, of which the first has no error
    kept = [row for row in rows if "error" in row or row["thinned_mm"]]
    whole = statistics(averaged(kept, "scan", ("thinned_mm", *_NUMBERS), lower), _BY[:2], lower, lower)
    lines += [{**line, "thinned_mm": "all"} for line in whole]
    steps = []
    for line in select(lines, measure="predicted_percent"):
        where = {"tool": line["tool"], "dataset": line["dataset"], "volumes": line["volumes"]}
        then = select(rows, **where, thinned_mm=line["thinned_mm"])
        before = {row["task"]: row["predicted_mm3"] for row in select(rows, **where, thinned_mm=0.0)}
        both = [(before[row["task"]], row["predicted_mm3"]) for row in then if row["task"] in before]
        if line["thinned_mm"]:
            p = paired_wilcoxon([pair[0] for pair in both], [pair[1] for pair in both])
            steps.append({**line, "measure": "volume against that of 0 mm", "p": p})
    for line, p in zip(steps, bonferroni([line["p"] for line in steps]), strict=True):
        line["p_bonferroni"] = p
    return lines + steps


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """Predicted over induced atrophy, errors by level, and the first step that is seen."""
    good = [row for row in rows if "error" not in row]
    series = series_of(good, "volumes")
    rates = {
        name: ([row["induced_percent"] for row in chosen], [row["predicted_percent"] for row in chosen])
        for name, chosen in series.items()
    }
    errors = {
        name: {f"{mm:g} mm": [row["relative_error_percent"] for row in select(chosen, thinned_mm=mm)]
               for mm in LEVELS_MM[1:]} for name, chosen in series.items()
    }  # fmt: skip
    columns = {"dataset": "dataset", "volumes": "volumes", "thinned_mm": "thinner by, mm", **DEFAULT_COLUMNS}
    columns.pop("structure")
    columns.pop("p_bonferroni")
    steps = select(lines, measure="volume against that of 0 mm")
    seen = [
        {**line, "p_bonferroni": next((s["p_bonferroni"] for s in steps if _same(s, line)), math.nan)}
        for line in select(lines, measure="seen")
        if line["thinned_mm"]
    ]
    errors_lines = [line for line in select(lines, measure="relative_error_percent") if line["thinned_mm"]]
    share = {
        "dataset": "dataset", "volumes": "volumes", "thinned_mm": "thinner by, mm", "tool": "tool", "count": "heads",
        "failed": "failed", "mean": "share", "p_bonferroni": "p that nothing changed, Bonferroni",
    }  # fmt: skip
    tested = "Wilcoxon's signed-rank test of predicted volumes against those of the head as it was."
    return Shown(
        (
            summary_table("Relative error of the atrophy rate, %", errors_lines, columns, 1),
            summary_table("Share of heads in which a step is seen", seen, share, 3, tested),
            summary_table("Predicted atrophy, %", select(lines, measure="predicted_percent"), columns, 2),
            summary_table("Induced atrophy, %", select(lines, measure="induced_percent"), columns, 2),
            summary_table("Dice of the cortex", select(lines, measure="dice", volumes="label map"), columns),
        ),
        (
            Plot("rates", "Predicted over induced atrophy", scatter_identity_plot(
                rates, "induced atrophy, %", "predicted atrophy, %"), "Each dot is a head at one level."),
            Plot("errors", "Relative error by level", box_plot(errors, "relative error, %"), "Each dot is a head."),
        ),
    )  # fmt: skip


def _same(one: Row, other: Row) -> bool:
    return all(one[key] == other[key] for key in (*_BY, "tool"))


STUDY = Study(
    "Atrophy",
    TEXT,
    tasks,
    show,
    _BY,
    _MEASURES,
    analyse,
    uses=lambda dataset: dataset.templates is not None,
    wants="a dataset with templates, a folder of label maps",
)
