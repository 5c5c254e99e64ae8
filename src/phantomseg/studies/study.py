"""What a study is, and how it is carried out: tasks, rows, statistics, plots, page."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phantomseg.errors import ScanError
from phantomseg.evaluation.published import published
from phantomseg.image.files import write_atomically
from phantomseg.report.plots import save_plot
from phantomseg.report.study_page import StudyFigure, StudyPage, StudyTable, study_page
from phantomseg.studies.kept import Row
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.scores import LOWER_IS_BETTER, with_means
from phantomseg.studies.tables import statistics, write_table
from phantomseg.studies.tools import Tool
from phantomseg.studies.work import Failure, Step, Task, carry_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Settings:
    """What a study is told beside its data."""

    folder: Path
    most: int | None = None  # scans, or label maps, of each dataset
    resume: bool = True
    minutes: float = 3.0  # of each training run
    peers: tuple[str, ...] = ()  # others that are trained too
    device: str = "cpu"  # on which networks are trained
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure, the name of its files, and what to look at."""

    name: str
    title: str
    figure: Figure
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Shown:
    """What a page shows."""

    tables: tuple[StudyTable, ...] = ()
    plots: tuple[Plot, ...] = ()


Gap = tuple[str, str, str]  # dataset, scan, and a sentence


@dataclass(frozen=True)
class Study:
    """An experiment: its tasks, by which columns and measures their rows are summed up, and what its page shows."""

    title: str
    text: str
    tasks: Callable[[Plan, list[Tool], Settings], list[Task]]
    show: Callable[[list[Row], list[Row]], Shown]
    by: tuple[str, ...] = ("dataset", "view", "structure")
    measures: tuple[str, ...] = ("dice",)
    analyse: Callable[[list[Row], Plan], list[Row]] | None = None  # instead of the usual statistics
    wants: str = "scans with references"
    uses: Callable[[Dataset], bool] = lambda dataset: True  # whether it matters what a dataset lacks
    gaps: Callable[[Plan, Settings], list[Gap]] = lambda plan, settings: []  # what else is missing


@dataclass(frozen=True)
class Outcome:
    """Rows, statistics, failures, and the page."""

    rows: list[Row]
    lines: list[Row]
    failures: list[Failure]
    table: StudyTable | None  # the one that says most
    written: tuple[Path, ...]

    @property
    def page(self) -> Path:
        """The page."""
        return self.written[0]


def run_study(name: str, study: Study, plan: Plan, tools: list[Tool], settings: Settings,
              report: Callable[[Step], None]) -> Outcome:  # fmt: skip
    """Carry out a study and write rows.csv, statistics.csv, its plots and report.html into `settings.folder`.

    Raises:
        ScanError: the plan has nothing for this study.
    """
    tasks = study.tasks(plan, tools, settings)
    gaps = [(d.name, *gap) for d in plan.datasets if study.uses(d) for gap in d.missing] + study.gaps(plan, settings)
    if not tasks and not gaps:
        raise ScanError(f"{plan.path} has nothing for the study {name!r}, which wants {study.wants}; add it")
    rows, failures = carry_out(tasks, tools, settings.folder, settings.resume, report)
    for dataset, scan, sentence in gaps:
        failures.append(Failure("", scan, sentence))
        facts = {"task": scan, "dataset": dataset, "scan": scan, "error": sentence}
        rows += [{"tool": tool.name, **facts} for tool in tools]
    rows = with_means(rows)
    analyse = study.analyse or (lambda rows, plan: statistics(rows, study.by, study.measures, LOWER_IS_BETTER))
    lines = analyse(rows, plan)
    count = sum(len(tools if task.tools is None else task.tools) for task in tasks) + len(gaps)
    write_table(settings.folder / "rows.csv", rows)
    write_table(settings.folder / "statistics.csv", lines)
    shown = study.show(rows, lines)
    figures = []
    for plot in shown.plots:
        save_plot(settings.folder, plot.name, plot.figure)
        figures.append(StudyFigure(plot.title, settings.folder / f"{plot.name}.svg", plot.hint))
    page = StudyPage(
        title=study.title,
        summary=study.text,
        tables=shown.tables,
        figures=tuple(figures),
        failures=tuple((f.tool, f.scan, f.sentence) for f in failures),
        published=tuple(published(name)),
        provenance=_provenance(plan, [*tools, *(tool for task in tasks for tool in task.tools or ())]),
        scans=count,
    )
    path = settings.folder / "report.html"
    text = study_page(page)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    table = shown.tables[0] if shown.tables else None
    return Outcome(
        rows, lines, failures, table, (path, settings.folder / "rows.csv", settings.folder / "statistics.csv")
    )


def summary_table(
    title: str, lines: list[Row], columns: dict[str, str], decimals: int = 3, hint: str = ""
) -> StudyTable:
    """Lines of statistics as a table; `columns` says which, and their headings; empty ones are left out."""
    kept = [key for key in columns if not lines or any(_says(line.get(key)) for line in lines)]
    rows = tuple(tuple(_cell(line.get(key)) for key in kept) for line in lines)
    return StudyTable(title, tuple(columns[key] for key in kept), rows, hint, decimals)


DEFAULT_COLUMNS = {
    "structure": "structure", "tool": "tool", "count": "scans", "failed": "failed", "mean": "mean", "low": "95 % from",
    "high": "to", "median": "median", "p5": "5th percentile", "worst": "worst", "p_bonferroni": "p, Bonferroni",
}  # fmt: skip


def _says(value: Any) -> bool:
    return value not in (None, "") and not (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> str | float | int | None:
    return value if isinstance(value, str | float | int) else None if value is None else str(value)


def _provenance(plan: Plan, tools: list[Tool]) -> dict[str, str]:
    from phantomseg import __version__

    about = {"Data": str(plan.path.resolve()), "Program": f"PhantomSeg {__version__}"}
    for tool in {tool.name: tool for tool in tools}.values():
        told = {key: value for key, value in tool.told.items() if key not in ("files", "maps")}
        about[f"Tool {tool.name}"] = ", ".join(f"{key} {value}" for key, value in told.items())
    about["Machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    about["Finished"] = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    return about
