"""`phantomseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.options import Labels


def run(
    prediction: Annotated[Path, typer.Argument(help="Label map to score.")],
    reference: Annotated[Path, typer.Argument(help="Label map that counts as true, on the same grid.")],
    labels: Labels = "freesurfer",
    merge_sides: Annotated[bool, typer.Option("--merge-sides", help="Count left and right as one.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, metavar="MM", help="Within it, surfaces count as the same.")] = 1.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="CSV", help="Also write a CSV.")] = None,
) -> None:
    """Overlap, surface distance and volume of each structure, and the share of swapped sides.

    The CSV has all measures; on the screen are Dice, HD95, mean surface distance, normalised surface Dice and volumes.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from phantomseg.evaluation.evaluate import evaluate, write_rows
    from phantomseg.image.files import read_labels

    result = evaluate(read_labels(prediction), read_labels(reference), labels, merge_sides, tolerance)
    table = Table("structure", title=escape(f"{prediction} against {reference}"))
    for heading in ("Dice", "HD95 mm", "mean mm", f"NSD {tolerance:g} mm", "predicted mm³", "reference mm³"):
        table.add_column(heading, justify="right")
    for row in result.rows:
        numbers = (f"{row.dice:.3f}", f"{row.hd95_mm:.2f}", f"{row.mean_surface_mm:.2f}", f"{row.nsd:.3f}")
        table.add_row(row.structure, *numbers, f"{row.predicted_mm3:.0f}", f"{row.reference_mm3:.0f}")
    console = Console()
    console.print(table)
    console.print(f"mean Dice {result.mean_dice():.3f}, wrong side {100 * result.laterality_error:.2f} %")
    if output is not None:
        write_rows(output, result.rows)
        console.print(str(output), soft_wrap=True)
