"""One page: from label maps to samples. Draw everything, then apply what was drawn."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

import torch

from phantomseg.image.intensity import rescale
from phantomseg.rng import sample_rng
from phantomseg.synth.bias import Bias, apply_bias, draw_bias
from phantomseg.synth.gamma import apply_gamma, draw_gamma
from phantomseg.synth.pose import Pose, draw_pose, look_up
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.resolution import Resolution, acquire, draw_resolution
from phantomseg.synth.strip import draw_strip, look_up_each, relabelling, target_channels
from phantomseg.synth.templates import Templates
from phantomseg.synth.tissues import Tissues, draw_tissues, paint


@dataclass(frozen=True)
class SampleDraw:
    """All chance of one sample; what is None was omitted by the recipe."""

    seed: int
    index: int
    target: str
    pose: Pose
    keep: str
    tissues: Tissues
    bias: Bias | None
    gamma: float | None
    resolution: Resolution | None

    def record(self) -> dict[str, Any]:
        """Plain dictionary, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images (B, 1, I, J, K) between 0 and 1, targets (B, I, J, K) as channels of the target set."""

    image: torch.Tensor
    target: torch.Tensor
    draws: tuple[SampleDraw, ...]


def draw_sample(recipe: Recipe, templates: Templates, seed: int, index: int) -> SampleDraw:
    """Draw sample `index` of the endless series that `seed` names."""
    rng = sample_rng(seed, index)
    keep = draw_strip(recipe.strip, rng) if recipe.strip else "head"
    return SampleDraw(
        seed=seed,
        index=index,
        target=recipe.target,
        pose=draw_pose(recipe.pose, templates, rng),
        keep=keep,
        tissues=draw_tissues(recipe.tissues, keep != "head", rng),
        bias=draw_bias(recipe.bias, rng) if recipe.bias else None,
        gamma=draw_gamma(recipe.gamma, rng) if recipe.gamma else None,
        resolution=draw_resolution(recipe.resolution, rng) if recipe.resolution else None,
    )


def apply_draws(draws: list[SampleDraw], templates: Templates) -> Batch:
    """Make the drawn samples, on the device that holds the templates."""
    labels = look_up([d.pose for d in draws], templates)
    labels = look_up_each(labels, [relabelling(d.keep, d.pose.flip) for d in draws])
    image = paint(labels, [d.tissues for d in draws])
    image = apply_bias(image, biases) if (biases := _taken(d.bias for d in draws)) else image
    image = rescale(image)
    image = apply_gamma(image, gammas) if (gammas := _taken(d.gamma for d in draws)) else image
    image = acquire(image, looks) if (looks := _taken(d.resolution for d in draws)) else image
    target = look_up_each(labels, [target_channels(d.target) for d in draws])
    return Batch(rescale(image), target, tuple(draws))


def generate(recipe: Recipe, templates: Templates, seed: int, indices: range) -> Batch:
    """Samples `indices` of the series that `seed` names.

    Bitwise the same on one kind of device, torch version and number of threads; beside other samples in the batch,
    the same labels and intensities to 1e-5.
    """
    return apply_draws([draw_sample(recipe, templates, seed, i) for i in indices], templates)


def read_draw(record: dict[str, Any]) -> SampleDraw:
    """A draw from its record, to be replayed with `apply_draws`."""
    draw: SampleDraw = _rebuild(SampleDraw, record)
    return draw


def _taken(values: typing.Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _rebuild(kind: Any, record: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(record)
    choices = [k for k in typing.get_args(kind) if k is not type(None)]
    if choices:
        return None if record is None else _rebuild(choices[0], record)
    if not dataclasses.is_dataclass(kind):
        return record
    hints = typing.get_type_hints(kind)
    return typing.cast(type, kind)(**{key: _rebuild(hints[key], value) for key, value in record.items()})
