"""From rows to statistics: one line a group and tool, with a paired test against the first tool."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phantomseg.evaluation.statistics import bonferroni, paired_wilcoxon, summarise
from phantomseg.image.files import write_atomically
from phantomseg.studies.kept import Row
from phantomseg.studies.scores import mean

Key = tuple[Any, ...]
SIGNED = ("volume_error", "volume_difference_percent")  # best near 0: the worst is the largest either way


def statistics(
    rows: list[Row], by: Sequence[str], measures: Sequence[str], lower_is_better: Sequence[str] = ()
) -> list[Row]:
    """Summaries of each measure for each group of `by` and each tool.

    The first tool in the rows is what the others are tested against: p by Wilcoxon's signed-rank test over tasks
    that both did, `p_bonferroni` times the number of tests of that measure. `failed` counts tasks of the tool in the
    same dataset and condition that failed.
    """
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    errors = [row for row in rows if "error" in row]
    lines: list[Row] = []
    for measure in measures:
        groups = _groups(rows, by, measure)
        made = []
        for key, of_tool in groups.items():
            first = of_tool.get(tools[0], {})
            failed = {tool: _failed(errors, tool, dict(zip(by, key, strict=True))) for tool in tools}
            for tool in tools:
                values = of_tool.get(tool, {})
                if not (values or failed[tool]):
                    continue  # it cannot tell this structure
                line = {
                    **dict(zip(by, key, strict=True)),
                    "tool": tool,
                    "measure": measure,
                    "failed": failed[tool],
                    **_summary(list(values.values()), measure, lower_is_better),
                    "p": _paired(first, values) if tool != tools[0] else math.nan,
                }
                made.append(line)
        for line, p in zip(made, bonferroni([line["p"] for line in made]), strict=True):
            line["p_bonferroni"] = p
        lines += made
    return lines


def select(rows: Iterable[Row], **where: Any) -> list[Row]:
    """Rows whose columns hold these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def series_of(rows: list[Row], *also: str) -> dict[str, list[Row]]:
    """Rows of each tool, and of each dataset where there are several; also of each value of other columns, so too.

    >>> rows = [{"tool": "a", "dataset": "d"}, {"tool": "b", "dataset": "d"}]
    >>> list(series_of(rows)), list(series_of(rows + [{"tool": "a", "dataset": "e"}]))
    (['a', 'b'], ['a, d', 'b, d', 'a, e'])
    """
    columns = ["tool", *(key for key in ("dataset", *also) if len({row.get(key) for row in rows}) > 1)]
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(", ".join(str(row.get(key, "")) for key in columns), []).append(row)
    return series


def write_table(path: Path, rows: list[Row]) -> None:
    """CSV whose columns are those of all rows in order of appearance; NaN and what is missing are left empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({key: _cell(value) for key, value in row.items()})

    write_atomically(path, write)


def _summary(values: list[float], measure: str, lower_is_better: Sequence[str]) -> Row:
    summary = asdict(summarise(values, measure not in lower_is_better))
    if measure in SIGNED:
        defined = [value for value in values if not math.isnan(value)]
        summary |= {"p5": math.nan, "worst": max(defined, key=abs, default=math.nan)}
    return summary


def _groups(rows: list[Row], by: Sequence[str], measure: str) -> dict[Key, dict[str, dict[str, float]]]:
    """Values by group, tool and task."""
    groups: dict[Key, dict[str, dict[str, float]]] = {}
    for row in rows:
        if measure in row and "error" not in row:
            key = tuple(row.get(column, "") for column in by)
            groups.setdefault(key, {}).setdefault(row["tool"], {})[row["task"]] = float(row[measure])
    return groups


def _paired(first: dict[str, float], other: dict[str, float]) -> float:
    both = [task for task in first if task in other]
    return paired_wilcoxon([first[task] for task in both], [other[task] for task in both])


def _failed(errors: list[Row], tool: str, group: Row) -> int:
    """Tasks of a tool in which something failed, in the same dataset and condition."""
    mine = select(errors, tool=tool)
    return len({r["task"] for r in mine if all(r[key] == value for key, value in group.items() if key in r)})


def averaged(rows: list[Row], unit: str, over: Sequence[str], measures: Sequence[str]) -> list[Row]:
    """Rows of one `unit` that differ in the columns `over` alone, as one row with the mean of each measure.

    What was measured several times on the same head counts once. Rows that failed are kept as they are.
    """
    groups: dict[Key, list[Row]] = {}
    kept = []
    for row in rows:
        if "error" in row:
            kept.append({**row, "task": row[unit]})
        else:
            left_out = (*over, *measures, "task")
            groups.setdefault(tuple((k, v) for k, v in row.items() if k not in left_out), []).append(row)
    for facts, members in groups.items():
        told = [m for m in measures if m in members[0]]
        means = {m: mean([row[m] for row in members if m in row]) for m in told}
        kept.append({**dict(facts), "task": members[0][unit], **means})
    return kept


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
