"""Options of `phantomseg train` that learn from real scans with their label maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomseg.errors import TrainingError

if TYPE_CHECKING:
    from phantomseg.synth.recipe import Recipe
    from phantomseg.synth.templates import Templates

Supervised = Annotated[
    bool, typer.Option("--supervised", help="Learn from real scans with their label maps, not from synthetic samples.")
]
Images = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Scans to learn from: a folder, or a quoted pattern such as 'data/*_T1w.nii.gz'."),
]
LabelMaps = Annotated[
    Path | None, typer.Option("--labels", metavar="DIR", help="Their label maps: the same, paired by name.")
]
Values = Annotated[
    str | None,
    typer.Option(metavar="SET", help="What the label maps hold: freesurfer (default), aseg, neuromorphometrics …"),
]
NaiveFlips = Annotated[
    bool,
    typer.Option("--naive-flips", help="Mirror scans, but leave left and right labels: a mistake to compare with."),
]


@dataclass(frozen=True)
class Supervision:
    """What was said about real scans."""

    wanted: bool
    images: Path | None
    labels: Path | None
    values: str | None
    naive_flips: bool

    def check(self, templates: Path | None) -> None:
        """Refuse flags that do not go together.

        Raises:
            TrainingError: one is missing, or is given where it changes nothing.
        """
        needed = {"--images": self.images, "--labels": self.labels}
        given = {**needed, "--values": self.values, "--naive-flips": self.naive_flips or None}
        if not self.wanted:
            for flag in (flag for flag, value in given.items() if value is not None):
                raise TrainingError(f"{flag} is given without --supervised; add --supervised, or leave {flag} out")
            return
        if templates is not None:
            raise TrainingError("--templates is given with --supervised, which needs none; leave one of the two out")
        for flag in (flag for flag, value in needed.items() if value is None):
            raise TrainingError(f"--supervised is given without {flag}; add {flag} with a folder, or a quoted pattern")

    def recipe(self, name: str | None) -> Recipe:
        """The recipe of that name, or the usual one.

        Raises:
            RecipeError: it cannot be read, or not be used for real scans.
        """
        from phantomseg.synth.real import check_recipe
        from phantomseg.synth.recipe import load_recipe

        if not self.wanted:
            return load_recipe(name or "head")
        recipe = load_recipe(name or "supervised")
        check_recipe(recipe, recipe.target)
        assert recipe.pose is not None
        return replace(recipe, pose=replace(recipe.pose, flip_swaps_sides=False)) if self.naive_flips else recipe

    def scans(self, recipe: Recipe) -> Templates:
        """The scans to learn from.

        Raises:
            TemplateError: they cannot be used.
            LabelError: a label has no place in the target.
        """
        from phantomseg.synth.scans import load_scans

        assert self.images is not None and self.labels is not None
        return load_scans(self.images, self.labels, self.values or "freesurfer", recipe.target, recipe.spacing_mm)
