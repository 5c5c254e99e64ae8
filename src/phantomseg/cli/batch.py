"""What commands that work through many scans have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from phantomseg.inference.cohort import Outcome
    from phantomseg.inference.inputs import Job
    from phantomseg.inference.options import Extra, Task
    from phantomseg.network.model import Model

Report = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html for each and all.")]
Overlay = Annotated[bool, typer.Option("--overlay/--no-overlay", help="Also draw NAME_overlay.png.")]


def jobs_of(
    scans: list[Path], output: Path, participant: list[str] | None, session: list[str] | None, volume: int | None
) -> list[Job]:
    """What the words of a command name, once the output folder is rid of what a killed run left: that is no scan."""
    from phantomseg.inference.claim import sweep
    from phantomseg.inference.inputs import Selection, find_jobs

    sweep(output)
    return find_jobs(scans, output, Selection(tuple(participant or ()), tuple(session or ()), volume))


def process_all(jobs: list[Job], output: Path, model: Model, options: Task, report: bool) -> None:
    """Do with each scan what the options say, and write what the folder holds of all.

    Raises:
        typer.Exit: with code 1 if some scans failed, 2 if all did.
    """
    from phantomseg.inference.cohort import process_jobs
    from phantomseg.inference.summary import write_summary
    from phantomseg.report.cohort_report import write_cohort_report

    outcomes: list[Outcome] = []
    try:
        _follow(process_jobs(jobs, output, model, options), len(jobs), outcomes)
    finally:
        if any(not outcome.error for outcome in outcomes):
            failed = {outcome.job.names.name: outcome.error for outcome in outcomes if outcome.error}
            write_summary(output, model.label_set(options.labels), failed)
            if report:
                write_cohort_report(output, options.labels, failed)
    failures = sum(bool(outcome.error) for outcome in outcomes)
    if failures:
        raise typer.Exit(2 if failures == len(jobs) else 1)


def pages(report: bool, overlay: bool) -> tuple[Extra, ...]:
    """What is written of each scan beside its results."""
    from phantomseg.report.extras import write_overlay, write_report

    return tuple(extra for extra, wanted in ((write_report, report), (write_overlay, overlay)) if wanted)


def _follow(outcomes: Iterator[Outcome], count: int, done: list[Outcome]) -> None:
    """Say what becomes of each scan as it is done, with a bar and the time left where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    skipped = 0
    with Progress(
        *columns, transient=True, disable=count < 2 or not sys.stderr.isatty(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("scans", total=count)
        for outcome in outcomes:
            done.append(outcome)
            bar.advance(task)
            skipped += outcome.skipped
            if not outcome.skipped:
                _say(outcome)
    if skipped:
        print(f"{skipped} of {count} finished before; --no-resume does them again")


def _say(outcome: Outcome) -> None:
    if outcome.error:
        print(f"error: {outcome.error}", file=sys.stderr)
        return
    print(f"{outcome.job.scan} ({outcome.seconds:.1f} s)")
    for finding in outcome.findings:
        if finding.level == "warning":
            print(f"  warning: {finding.what}; {finding.fix}", file=sys.stderr)
    for path in outcome.written:
        print(f"  {path}")
