"""`phantomseg strip`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.batch import Overlay, Report, jobs_of, pages, process_all
from phantomseg.cli.options import (
    ComputedTomography,
    Device,
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


def run(
    scans: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")],
    species: Annotated[
        str,
        typer.Option(help="Sets the scale at which the network works: human, macaque, rat, mouse ...; auto finds it."),
    ] = "auto",
    border: Annotated[
        float, typer.Option(metavar="MM", help="How far outside the brain's surface the mask ends; negative is inside.")
    ] = 0.0,
    distance: Annotated[
        bool, typer.Option("--distance/--no-distance", help="Also write the signed distance to the brain's surface.")
    ] = False,
    keep_stripped: Annotated[
        bool,
        typer.Option(
            "--keep-stripped/--no-keep-stripped",
            help="Keep all of a scan that was stripped before, if MODEL makes masks.",
        ),
    ] = True,
    csf: Annotated[
        bool,
        typer.Option(
            "--csf/--no-csf",
            help="Keep the fluid of the sulci in the mask, or leave out what lies around the brain; ventricles stay.",
        ),
    ] = True,
    model: Annotated[
        str,
        typer.Option(
            help="universal; shapes (has seen no anatomy); head (humans, by labels of the brain); or a folder."
        ),
    ] = "universal",
    report: Report = True,
    overlay: Overlay = False,
    participant: Participants = None,
    session: Sessions = None,
    volume: Volume = None,
    ct: ComputedTomography = None,
    reorient: Reorient = None,
    resume: Resume = True,
    max_memory: MaxMemory = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Find the brain in each scan, of any contrast and species, and strip what is not brain.

    Writes DIR/NAME_mask.nii.gz and NAME_brain.nii.gz on the scan's own grid, NAME_volumes.tsv, NAME_report.html and
    NAME_manifest.json for each scan, and DIR/volumes.tsv and report.html for all; names of BIDS derivatives where SCAN
    is a BIDS dataset. A scan that shows no brain gets an empty mask and a warning. Exit code 1 if some scans failed,
    2 if all did.
    """
    from phantomseg.inference.options import StripOptions
    from phantomseg.models import find_model

    place = begin(device, threads)
    jobs = jobs_of(scans, output, participant, session, volume)
    options = StripOptions(
        species=species,
        border_mm=border,
        distance=distance,
        fluid=("kept" if keep_stripped else "sulci") if csf else "none",
        ct=ct,
        axcodes=reorient,
        most_bytes=None if max_memory is None else max_memory * 1e9,
        resume=resume,
        model=model,
        extras=pages(report, overlay),
    )
    loaded = find_model(model)
    loaded.network.to(place)
    process_all(jobs, output, loaded, options, report)
