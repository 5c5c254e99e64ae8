"""`phantomseg prepare`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from phantomseg.cli.options import Templates


def run(
    templates: Templates,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npz", help="File to write.")],
    spacing: Annotated[float, typer.Option(min=0.5, max=8, help="Voxel size in mm.")] = 1.0,
) -> None:
    """Check label maps and pack them into one small file, which loads at once."""
    from phantomseg.synth.source import TEMPLATES
    from phantomseg.synth.templates import load_templates, save_templates

    loaded = load_templates(templates, spacing)
    output = output if output.suffix == ".npz" else output.with_name(f"{output.name}.npz")
    save_templates(loaded, output)
    count = len(loaded.names)
    meant = zip(loaded.label_sets or [TEMPLATES] * count, loaded.weights or [1.0] * count, strict=True)
    for (labels, weight), number in Counter(meant).items():
        print(f"{number} of label set {labels}, each with weight {weight:g}")
    print(f"{count} label maps in {output} ({output.stat().st_size / 1e6:.1f} MB)")
