"""One page: from label maps to samples. Draw everything, then apply what was drawn."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.image.distance import squared_distance, with_corners
from phantomseg.image.intensity import rescale
from phantomseg.labels import UNLABELLED, label_set
from phantomseg.rng import sample_rng
from phantomseg.synth import channels, fillings, pumba
from phantomseg.synth.artefacts import apply_artefacts, draw_artefacts
from phantomseg.synth.bias import apply_bias, draw_bias
from phantomseg.synth.findings import apply_findings, draw_findings
from phantomseg.synth.gamma import apply_gamma, draw_gamma
from phantomseg.synth.pose import draw_pose, look_up
from phantomseg.synth.pumba import draw_pumba
from phantomseg.synth.real import apply_to_scans
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.resolution import acquire, draw_resolution
from phantomseg.synth.sample import Batch, SampleDraw, taken
from phantomseg.synth.shape import apply_shape, draw_shape, without_loss
from phantomseg.synth.shapes import draw_shapes
from phantomseg.synth.slab import draw_slab, repeat_faces
from phantomseg.synth.source import (
    BORDER,
    FLUID,
    INSIDE,
    OUTERMOST,
    SHAPES,
    fluid_channels,
    joined_classes,
    target_channels,
)
from phantomseg.synth.strip import apply_strip, before_masking, draw_strip, look_up_each, mask_stripped, mirror_channels
from phantomseg.synth.templates import Templates
from phantomseg.synth.tissues import draw_tissues, paint, without_texture
from phantomseg.synth.view import draw_view, hide_unseen, wrap_around


def draw_sample(recipe: Recipe, templates: Templates, seed: int, index: int) -> SampleDraw:
    """Draw sample `index` of the endless series that `seed` names."""
    rng = sample_rng(seed, index)
    if recipe.also:
        weights = np.array([weight for weight, _ in recipe.parts])
        recipe = recipe.parts[int(rng.choice(len(weights), p=weights / weights.sum()))][1]
    strip = draw_strip(recipe.strip, rng) if recipe.strip else None
    stripped = strip is not None and strip.keep != "head"
    pose = draw_pose(recipe.pose, templates, rng, stripped) if recipe.pose else None
    if strip and pose and strip.keep == "brain" and not templates.tells_brain_from_fluid(pose.template):
        strip = dataclasses.replace(strip, keep="intracranial", margin_mm=0.0)
    shapes = draw_shapes(recipe.shapes, rng, stripped) if recipe.shapes else None
    pumba = draw_pumba(recipe.pumba, rng) if recipe.pumba else None
    shape = draw_shape(recipe.shape, rng) if recipe.shape else None
    if shape and pose and not templates.tells_cortex(pose.template):
        shape = without_loss(shape)
    findings = draw_findings(recipe.findings, rng) if recipe.findings else None
    plain = shapes is not None and shapes.kind == "phantom"
    tissues = draw_tissues(without_texture(recipe.tissues) if plain else recipe.tissues, stripped, rng, recipe.source)
    bias = draw_bias(recipe.bias, rng) if recipe.bias else None
    if bias and tissues.most is not None:
        bias = dataclasses.replace(bias, log_std=0.0)  # computed tomography has no receive coil
    is_fine = recipe.fine_probability == 1 or rng.uniform() < recipe.fine_probability
    fine = recipe.fine_voxels_per_mm if is_fine else 1
    return SampleDraw(
        seed=seed,
        index=index,
        target=recipe.target,
        fine_voxels_per_mm=fine,
        pose=pose,
        shapes=shapes,
        pumba=pumba,
        shape=shape,
        findings=findings,
        strip=strip,
        tissues=tissues,
        bias=bias,
        gamma=draw_gamma(recipe.gamma, rng) if recipe.gamma else None,
        artefacts=draw_artefacts(recipe.artefacts, rng) if recipe.artefacts else None,
        resolution=draw_resolution(recipe.resolution, rng) if recipe.resolution else None,
        view=draw_view(recipe.view, rng) if recipe.view else None,
        slab=draw_slab(recipe.slab, rng) if recipe.slab else None,
        closed_voxels=recipe.closed_voxels,
    )


def apply_draws(draws: list[SampleDraw], templates: Templates) -> Batch:
    """Make the drawn samples, on the device that holds the templates, be there any or not."""
    if templates.images is not None:
        return apply_to_scans(draws, templates)
    if len({_kind(draw) for draw in draws}) > 1:
        return _collated([apply_draws([draw], templates) for draw in draws])
    per_mm, source = draws[0].fine_voxels_per_mm, draws[0].source
    poses, labels = taken(d.pose for d in draws), label_maps(draws, templates)
    labels = apply_shape(labels, shapes, per_mm) if (shapes := taken(d.shape for d in draws)) else labels
    labels = apply_findings(labels, findings, per_mm) if (findings := taken(d.findings for d in draws)) else labels
    if any(pose.swapped for pose in poses):
        labels = look_up_each(labels, [mirror_channels(pose.swapped) for pose in poses])
    kept = apply_strip(labels, strips, per_mm, source) if (strips := taken(d.strip for d in draws)) else labels
    painted = before_masking(labels, kept, strips) if strips else labels
    image = paint(painted, [d.tissues for d in draws], per_mm, source)
    image = F.avg_pool3d(image, per_mm) if per_mm > 1 else image
    image = apply_bias(image, biases) if (biases := taken(d.bias for d in draws)) else image
    image = rescale(image)
    image = apply_gamma(image, gammas) if (gammas := taken(d.gamma for d in draws)) else image
    image = wrap_around(image, views) if (views := taken(d.view for d in draws)) else image
    image = apply_artefacts(image, artefacts) if (artefacts := taken(d.artefacts for d in draws)) else image
    image = acquire(image, looks) if (looks := taken(d.resolution for d in draws)) else image
    tables, classes = _targets(draws, templates)
    target = look_up_each(kept, tables)
    if any((table == UNLABELLED).any() for table in tables):  # not known where it was stripped, either
        target = torch.where(look_up_each(labels, tables) == UNLABELLED, UNLABELLED, target)
    if any(draw.closed_voxels for draw in draws):
        target = closed_masks(target, kept, draws)
    if draws[0].target == BORDER:
        fluid = channels.look_up(kept, torch.from_numpy(fluid_channels(source)).to(kept.device))
        target = torch.where(fluid & (target > 0), torch.full_like(target, FLUID), target)
    image = rescale(image)
    if strips:
        mask_stripped(image, kept, strips, per_mm)
    if views:
        hide_unseen(image, target, kept, views, source)
    if slabs := taken(d.slab for d in draws):
        repeat_faces(image[:, 0], slabs)
        repeat_faces(target, slabs, per_mm)
    target = with_border(target) if draws[0].target == BORDER else target
    image = rescale(image) if strips or views or slabs else image  # use sees no more than this either
    return Batch(image, target, tuple(draws), classes)


def _kind(draw: SampleDraw) -> tuple[object, ...]:
    """What draws that are applied together have in common."""
    omitted = [getattr(draw, field.name) is None for field in dataclasses.fields(draw)]
    nodes = (draw.pose and draw.pose.warp_nodes_mm, draw.bias and draw.bias.nodes_mm)
    return (draw.fine_voxels_per_mm, *omitted, *nodes)


def _collated(batches: list[Batch]) -> Batch:
    """One batch of several, whose targets may differ in resolution."""
    per_mm = max(batch.draws[0].fine_voxels_per_mm for batch in batches)
    targets = [channels.refined(batch.target, per_mm // batch.draws[0].fine_voxels_per_mm) for batch in batches]
    each = np.arange(len(label_set(batches[0].draws[0].target)), dtype=np.uint8)[None]
    classes = [each if batch.classes is None else batch.classes for batch in batches]
    coarse = any(batch.classes is not None for batch in batches)
    return Batch(
        torch.cat([batch.image for batch in batches]),
        torch.cat(targets),
        tuple(draw for batch in batches for draw in batch.draws),
        np.concatenate(classes) if coarse else None,
    )


def closed_masks(target: torch.Tensor, kept: torch.Tensor, draws: list[SampleDraw]) -> torch.Tensor:
    """Masks (B, I, J, K) with what lies between their parts; of a stripped sample, which is to stay, all it shows."""
    masks = []
    for mask, labels, draw in zip(target, kept, draws, strict=True):
        radius = draw.closed_voxels
        inside = labels > 0 if draw.strip is not None and draw.strip.kept_whole else mask > 0
        reach = math.ceil(radius) + 1
        wide = F.pad(inside, [reach] * 6)  # beyond the crop is no mask
        grown = squared_distance(wide, reach) <= radius**2
        shrunk = squared_distance(~grown, reach) > radius**2
        i, j, k = (slice(reach, -reach) for _ in range(3))
        masks.append(shrunk[i, j, k] | inside)
    return torch.stack(masks).to(target.dtype)


def label_maps(draws: list[SampleDraw], templates: Templates) -> torch.Tensor:
    """Label maps that the samples begin with, channels of their source, uint8, (B, I, J, K)."""
    device, per_mm = templates.labels.device, draws[0].fine_voxels_per_mm
    if shapes := taken(d.shapes for d in draws):
        return channels.refined(fillings.draw_labels(shapes, device), per_mm)
    if pumbas := taken(d.pumba for d in draws):
        return channels.refined(pumba.draw_labels(pumbas, device), per_mm)
    return look_up(taken(d.pose for d in draws), templates, per_mm)


def _targets(draws: list[SampleDraw], templates: Templates) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Channel in the target of each channel of the source, for each sample, and the classes that are one in it."""
    if templates.groups is None or draws[0].pose is None:
        return [target_channels(d.target, d.source, _keeps_fluid(d)) for d in draws], None
    poses = taken(d.pose for d in draws)
    groups = [templates.groups[pose.template].tobytes() for pose in poses]
    each = zip(draws, groups, poses, strict=True)
    tables, classes = zip(*(joined_classes(d.target, rows, pose.swapped) for d, rows, pose in each), strict=True)
    stacked = np.stack(classes)
    plain = (stacked == np.arange(stacked.shape[1])).all() and max(table.max() for table in tables) < UNLABELLED
    return list(tables), None if plain else stacked


def _keeps_fluid(draw: SampleDraw) -> bool:
    """Whether a sample is stripped to brain and fluid: what is stripped already is to stay as it is."""
    return draw.source == SHAPES and draw.strip is not None and draw.strip.keep == "intracranial"


def with_border(mask: torch.Tensor) -> torch.Tensor:
    """Mask (B, I, J, K) with OUTERMOST in its last layer of tissue, next to which, corners too, is no mask.

    >>> with_border(torch.ones(1, 3, 3, 3, dtype=torch.uint8)).sum().item()
    27
    >>> with_border(torch.tensor([0, 1, 1, 1, 0]).view(1, 1, 1, 5).expand(1, 9, 9, 5).to(torch.uint8))[0, 4, 4].tolist()
    [0, 2, 1, 2, 0]
    """
    return torch.where(with_corners(mask == 0) & (mask == INSIDE), torch.full_like(mask, OUTERMOST), mask)


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


def _rebuild(kind: Any, record: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(_rebuild(typing.get_args(kind)[0], value) for value in record)
    choices = [k for k in typing.get_args(kind) if k is not type(None)]
    if choices:
        return None if record is None else _rebuild(choices[0], record)
    if not dataclasses.is_dataclass(kind):
        return record
    hints = typing.get_type_hints(kind)
    return typing.cast(type, kind)(**{key: _rebuild(hints[key], value) for key, value in record.items()})
