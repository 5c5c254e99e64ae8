"""`phantomseg segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.batch import Overlay, Report, jobs_of, pages, process_all
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


def run(
    scans: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")],
    labels: Labels = "freesurfer",
    model: Annotated[str, typer.Option(help="Shipped model by name, or a model folder.")] = "head",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Average with the mirrored scan.")] = True,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine/--no-refine",
            help="Move boundaries of tissues and nuclei to where the scan's intensities put them.",
        ),
    ] = True,
    space: Annotated[str, typer.Option(help="Grid of the label map: scan, 1mm or both.")] = "scan",
    probabilities: Annotated[
        str | None, typer.Option(metavar="LABELS", help="Also write probabilities: names with commas between, or all.")
    ] = None,
    brain: Annotated[bool, typer.Option("--brain/--no-brain", help="Also write brain mask and brain image.")] = False,
    report: Report = True,
    overlay: Overlay = False,
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
    from phantomseg.inference.options import Options
    from phantomseg.inference.results import Outputs
    from phantomseg.models import find_model
    from phantomseg.network.openvino import choose_backend, to_openvino

    place = begin(device, threads)
    jobs = jobs_of(scans, output, participant, session, volume)
    wanted = tuple(name.strip() for name in probabilities.split(",")) if probabilities else ()
    options = Options(
        labels=labels,
        flip=flip,
        refine=refine,
        ct=ct,
        axcodes=reorient,
        outputs=Outputs(space, wanted, brain),
        most_bytes=None if max_memory is None else max_memory * 1e9,
        resume=resume,
        model=model,
        extras=pages(report, overlay),
    )
    loaded = find_model(model)
    loaded.network.to(place)
    if choose_backend(backend, place) == "openvino":
        loaded = to_openvino(loaded)
    process_all(jobs, output, loaded, options, report)
