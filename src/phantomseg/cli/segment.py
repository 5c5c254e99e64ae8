"""`phantomseg segment`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomseg.cli.options import (
    ComputedTomography,
    Device,
    Labels,
    MaxMemory,
    Participants,
    Reorient,
    Resume,
    Sessions,
    Sources,
    Threads,
    Volume,
    begin,
)

if TYPE_CHECKING:
    from phantomseg.inference.cohort import Outcome
    from phantomseg.inference.options import Extra


def run(
    scans: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")],
    labels: Labels = "freesurfer",
    model: Annotated[str, typer.Option(help="Shipped model by name, or a model folder.")] = "head",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Average with the mirrored scan.")] = True,
    space: Annotated[str, typer.Option(help="Grid of the label map: scan, 1mm or both.")] = "scan",
    probabilities: Annotated[
        str | None, typer.Option(metavar="LABELS", help="Also write probabilities: names with commas between, or all.")
    ] = None,
    brain: Annotated[bool, typer.Option("--brain/--no-brain", help="Also write brain mask and brain image.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html for each and all.")] = True,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Also draw NAME_overlay.png.")] = False,
    participant: Participants = None,
    session: Sessions = None,
    volume: Volume = None,
    ct: ComputedTomography = None,
    reorient: Reorient = None,
    resume: Resume = True,
    max_memory: MaxMemory = None,
    backend: Annotated[str, typer.Option(help="torch, openvino, or auto, which is torch.")] = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Label every voxel of each scan, on the scan's own grid, and measure volumes.

    Writes DIR/NAME_dseg.nii.gz, NAME_volumes.tsv, NAME_report.html and NAME_manifest.json for each scan, and
    DIR/volumes.tsv, report.html and colour tables for all; names of BIDS derivatives where SCAN is a BIDS dataset.
    Exit code 1 if some scans failed, 2 if all did.
    """
    from phantomseg.inference.claim import sweep
    from phantomseg.inference.cohort import process_jobs
    from phantomseg.inference.inputs import Selection, find_jobs
    from phantomseg.inference.options import Options
    from phantomseg.inference.results import Outputs
    from phantomseg.inference.summary import write_summary
    from phantomseg.labels import label_set
    from phantomseg.models import find_model
    from phantomseg.network.openvino import choose_backend, to_openvino
    from phantomseg.report.cohort_report import write_cohort_report

    place = begin(device, threads)
    sweep(output)  # what a killed run left is no scan
    jobs = find_jobs(scans, output, Selection(tuple(participant or ()), tuple(session or ()), volume))
    wanted = tuple(name.strip() for name in probabilities.split(",")) if probabilities else ()
    options = Options(
        labels=labels,
        flip=flip,
        ct=ct,
        axcodes=reorient,
        outputs=Outputs(space, wanted, brain),
        most_bytes=None if max_memory is None else max_memory * 1e9,
        resume=resume,
        model=model,
        extras=_extras(report, overlay),
    )
    loaded = find_model(model)
    loaded.network.to(place)
    if choose_backend(backend, place) == "openvino":
        loaded = to_openvino(loaded)
    outcomes: list[Outcome] = []
    try:
        _follow(process_jobs(jobs, output, loaded, options), len(jobs), outcomes)
    finally:
        if any(not outcome.error for outcome in outcomes):
            failed = {outcome.job.names.name: outcome.error for outcome in outcomes if outcome.error}
            write_summary(output, label_set(labels), failed)
            if report:
                write_cohort_report(output, labels, failed)
    failures = sum(bool(outcome.error) for outcome in outcomes)
    if failures:
        raise typer.Exit(2 if failures == len(jobs) else 1)


def _extras(report: bool, overlay: bool) -> tuple[Extra, ...]:
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
        task = bar.add_task("segmenting", total=count)
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
