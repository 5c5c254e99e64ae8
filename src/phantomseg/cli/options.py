"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from phantomseg.synth import templates
    from phantomseg.synth.recipe import Recipe

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default OMP_NUM_THREADS, or one a core.")]
Templates = Annotated[
    Path, typer.Option(help="Folder of label maps, a labels.toml that lists some, or a prepared .npz.")
]
OptionalTemplates = Annotated[
    Path | None,
    typer.Option(
        help="Folder of label maps, a labels.toml that lists some, or a prepared .npz; recipes that draw shapes alone "
        "need none."
    ),
]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="Shipped recipe (head, synthseg, universal, shapes, pumba, find) or a TOML file."),
]
OptionalRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Shipped recipe (head, synthseg, universal, shapes, pumba, find; supervised for scans) or a TOML file.",
        show_default="head, or supervised with --supervised",
    ),
]
Labels = Annotated[str, typer.Option(help="Label set: freesurfer, head, siam, lesions, tissue, brain or intracranial.")]
Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCAN...",
        help="Scans of any contrast: NIfTI, MGZ, folders, DICOM folders, BIDS datasets, lists (.txt, .csv, .tsv).",
    ),
]
Participants = Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Only these of a BIDS dataset.")]
Sessions = Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Only these of a BIDS dataset.")]
Volume = Annotated[
    int | None, typer.Option(min=0, metavar="K", help="Only volume K of files with several, counted from 0.")
]
ComputedTomography = Annotated[
    bool | None, typer.Option("--ct/--no-ct", help="Scans are CT in Hounsfield units, or are not; else values tell.")
]
Reorient = Annotated[
    str | None,
    typer.Option(metavar="AXCODES", help="The header is wrong: the voxel axes run to these directions, as LAS."),
]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Skip what is finished, or do it again.")]
MaxMemory = Annotated[
    float | None, typer.Option(min=0.1, metavar="GB", help="Memory to stay within; by default what is free.")
]


def read_templates(path: Path | None, recipe: Recipe) -> templates.Templates:
    """The templates of a recipe, none for one that draws shapes.

    Raises:
        TemplateError: the recipe needs templates and there are none, or they cannot be read.
        RecipeError: no label map of a template becomes the recipe's target.
    """
    from phantomseg.errors import RecipeError, TemplateError
    from phantomseg.synth.source import reaches
    from phantomseg.synth.templates import load_templates, no_templates

    if not recipe.needs_templates:
        return no_templates(recipe.spacing_mm)
    if not reaches(recipe.target):
        raise RecipeError(
            f"recipe has the target {recipe.target!r}, but there is no merge from 'head' to {recipe.target!r} for "
            "label maps of templates; choose another recipe"
        )
    if path is None:
        raise TemplateError("this recipe needs templates; give --templates a folder of label maps, or a prepared .npz")
    loaded = load_templates(path, recipe.spacing_mm)
    if recipe.also and loaded.spacing_mm != recipe.spacing_mm:
        raise TemplateError(
            f"{path} was prepared at {loaded.spacing_mm:g} mm, wanted {recipe.spacing_mm:g} mm, as shapes are drawn; "
            f"prepare it with --spacing {recipe.spacing_mm:g}"
        )
    return loaded


def begin(device: str, threads: int | None) -> torch.device:
    """Set the threads, and return the device asked for."""
    from phantomseg.runtime import choose_device, keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()
    return choose_device(device)
