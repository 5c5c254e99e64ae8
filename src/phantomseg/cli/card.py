"""`phantomseg card`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    model: Annotated[str, typer.Argument(help="Shipped model by name, or a model folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Markdown file to write.")],
    table: Annotated[list[str] | None, typer.Option(metavar="CAPTION=CSV", help="Table to show; repeat.")] = None,
    picture: Annotated[list[str] | None, typer.Option(metavar="CAPTION=FILE", help="Picture to show; repeat.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown to put after the tables.")] = None,
) -> None:
    """Write a model card from the record that training left in the model."""
    from phantomseg.models import find_model
    from phantomseg.report.card import write_card

    tables, pictures = (_captioned(values or []) for values in (table, picture))
    write_card(output, Path(model).name, find_model(model), notes, tables, pictures)
    print(output)


def _captioned(values: list[str]) -> list[tuple[str, Path]]:
    pairs = [value.partition("=") for value in values]
    for value, (_, equals, file) in zip(values, pairs, strict=True):
        if not (equals and file):
            raise typer.BadParameter(f"{value!r} is not CAPTION=FILE; write for instance 'Accuracy=accuracy.csv'")
    return [(caption, Path(file)) for caption, _, file in pairs]
