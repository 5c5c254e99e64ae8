"""Samples of real scans with their label maps: what the supervised baselines of the papers are trained on."""

from __future__ import annotations

import numpy as np

from phantomseg.errors import RecipeError
from phantomseg.image.intensity import rescale
from phantomseg.labels import label_set
from phantomseg.synth.artefacts import apply_artefacts
from phantomseg.synth.bias import apply_bias
from phantomseg.synth.gamma import apply_gamma
from phantomseg.synth.pose import look_up_scans
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.resolution import acquire
from phantomseg.synth.sample import Batch, SampleDraw, taken
from phantomseg.synth.strip import look_up_each
from phantomseg.synth.templates import Templates

PAINTED = ("shapes", "pumba", "shape", "findings", "strip", "view", "slab", "distance_voxels")


def apply_to_scans(draws: list[SampleDraw], templates: Templates) -> Batch:
    """Real scans and their label maps as each pose sees them, with the drawn gain, contrast and acquisition.

    Of the draws, those of steps that paint or change label maps are left aside; see `check_recipe`.
    """
    poses = taken(d.pose for d in draws)
    image, labels = look_up_scans(poses, templates)
    image = apply_bias(image, biases) if (biases := taken(d.bias for d in draws)) else image
    image = rescale(image)
    image = apply_gamma(image, gammas) if (gammas := taken(d.gamma for d in draws)) else image
    image = apply_artefacts(image, artefacts) if (artefacts := taken(d.artefacts for d in draws)) else image
    image = acquire(image, looks) if (looks := taken(d.resolution for d in draws)) else image
    target = look_up_each(labels, [_sides(d.target, pose.swapped) for d, pose in zip(draws, poses, strict=True)])
    return Batch(rescale(image), target, tuple(draws))


def check_recipe(recipe: Recipe, source: str) -> None:
    """Refuse a recipe whose steps real scans cannot go through, or whose target is not what their label maps hold.

    Args:
        recipe: of the samples.
        source: label set of the label maps, as `load_scans` made them.

    Raises:
        RecipeError: one of the two.
    """
    wrong = [name for name in PAINTED if getattr(recipe, name) is not None]
    wrong += ["fine_voxels_per_mm"] if recipe.fine_voxels_per_mm > 1 else []
    wrong += [name for name in ("also", "closed_voxels") if getattr(recipe, name)]
    wrong += ["pose.neck_probability"] if recipe.pose is not None and recipe.pose.neck_probability else []
    if wrong:
        raise RecipeError(
            f"recipe has {', '.join(wrong)}, which samples are painted with, wanted none but pose, bias, gamma, "
            "artefacts and resolution for real scans; leave them out"
        )
    if recipe.target != source:
        raise RecipeError(
            f"recipe has the target {recipe.target!r}, but label maps of the scans were read as {source!r}; read them "
            "as the target"
        )


def _sides(target: str, swapped: bool) -> np.ndarray:
    labels = label_set(target)
    return (labels.mirror if swapped else np.arange(len(labels))).astype(np.uint8)
