"""`phantomseg segment`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.options import Device, Labels, Threads, begin


def run(
    scans: Annotated[list[Path], typer.Argument(metavar="SCAN...", help="Scans of any contrast: NIfTI or MGZ.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")],
    labels: Labels = "freesurfer",
    model: Annotated[str, typer.Option(help="Shipped model by name, or a model folder.")] = "head",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Average with the mirrored scan.")] = True,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Also draw NAME_overlay.png.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Label every voxel of each scan, on the scan's own grid, and measure volumes.

    Writes DIR/NAME_dseg.nii.gz for each scan and DIR/volumes.csv (mm³). Exit code 1 if some scans failed, 2 if all did.
    """
    from phantomseg.inference.cohort import Options, segment_files
    from phantomseg.models import find_model
    from phantomseg.report.figures import draw_overlay

    place = begin(device, threads)
    loaded = find_model(model)
    loaded.network.to(place)
    options = Options(labels, flip, (draw_overlay,) if overlay else ())
    started = time.perf_counter()
    failed = 0
    for outcome in segment_files(scans, output, loaded, options):
        seconds = time.perf_counter() - started
        if outcome.error:
            failed += 1
            print(f"error: {outcome.error}", file=sys.stderr)
        else:
            print(f"{outcome.scan} ({seconds:.1f} s)")
            for path in outcome.written:
                print(f"  {path}")
        started = time.perf_counter()
    if failed:
        raise typer.Exit(2 if failed == len(scans) else 1)
