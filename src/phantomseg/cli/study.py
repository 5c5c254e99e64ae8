"""`phantomseg study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomseg.cli.options import Device, Threads, begin

if TYPE_CHECKING:
    from phantomseg.report.study_page import StudyTable
    from phantomseg.studies.work import Step


ROWS_SHOWN = 30
LEFT_OUT = ("95 % from", "to", "median", "5th percentile", "p, Bonferroni")  # on the screen


def run(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="accuracy, resolution, contrast, retest, atrophy, group, ablation or lowdata."
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="TOML", help="What is where: datasets and tools; see docs/studies.md.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Results go to DIR/NAME.")],
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="TOOL", help="Only these of the TOML; or a model by name or folder. May be repeated."),
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most N scans of each dataset.")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of each training run of lowdata.")] = 3.0,
    peer: Annotated[
        list[str] | None, typer.Option("--with", metavar="PEER", help="lowdata: train these too; nnunet.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Keep what is finished, or do it again.")] = True,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure segmenters: rows, statistics, plots and a page of one of the experiments of the papers.

    Writes DIR/NAME/report.html, rows.csv, statistics.csv, and every plot as PNG and SVG. Exit code 1 if some scans
    failed, 2 if all did; they are named on the page and counted in the tables.
    """
    from phantomseg.studies.plan import read_plan
    from phantomseg.studies.registry import find_study
    from phantomseg.studies.study import Settings, run_study
    from phantomseg.studies.tools import build_tools

    place = begin(device, threads)
    study = find_study(name)
    plan = read_plan(data)
    tools = build_tools(plan, tool or [], place)
    settings = Settings(output / name, most, resume, minutes, tuple(peer or ()), place.type, print)
    outcome = run_study(name, study, plan, tools, settings, _say)
    if outcome.table is not None:
        _print(outcome.table)
    for path in outcome.written:
        print(path)
    if outcome.failures:
        print(f"{len(outcome.failures)} failures; {outcome.page} names them", file=sys.stderr)
        raise typer.Exit(1 if any("error" not in row for row in outcome.rows) else 2)


def _say(step: Step) -> None:
    """One line a task: how far, what, how long."""
    if not step.skipped:
        print(f"{step.number}/{step.count}  {step.tool}  {step.task}  {step.seconds:.1f} s", flush=True)
    for failure in step.failures:
        print(f"error: {failure.tool}, {failure.scan}: {failure.sentence}", file=sys.stderr)


def _print(table: StudyTable) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    kept = [
        number
        for number, heading in enumerate(table.columns)
        if heading not in LEFT_OUT and any(row[number] not in (None, "") for row in table.rows)
    ]
    shown = Table(title=escape(table.title), caption="More on the page.")
    for number in kept:
        texts = any(isinstance(row[number], str) for row in table.rows)
        shown.add_column(escape(table.columns[number]), justify="left" if texts else "right")
    for row in table.rows[:ROWS_SHOWN]:
        shown.add_row(*(escape(_cell(row[number], table.decimals or 0)) for number in kept))
    Console().print(shown)


def _cell(value: str | float | int | None, decimals: int) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.{decimals}f}"
    return "–" if value is None else str(value)
