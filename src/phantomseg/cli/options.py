"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default one a physical core.")]
Templates = Annotated[
    Path, typer.Option(help="Folder of label maps with the values of the set 'generation', or a prepared .npz.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="Shipped recipe (head, synthseg) or a TOML file.")]
Labels = Annotated[str, typer.Option(help="Label set: freesurfer, siam, tissue, brain or head.")]


def begin(device: str, threads: int | None) -> torch.device:
    """Set the threads, and return the device asked for."""
    # torch asks the system for large pages then, which fresh volumes are filled with much quicker (Linux)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from phantomseg.runtime import choose_device, keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()
    return choose_device(device)
