"""Boundaries of tissues, moved to where the scan's own intensities put them.

The network says what lies where; how far exactly a tissue reaches, the scan knows better. Near the boundaries of the
tissues below the network's probabilities are the prior of a Gaussian mixture, whose means and variances are those of
the tissues around (expectation maximisation as in doi:10.1016/j.neuroimage.2005.02.018, with local Gaussians, without
registration). Where contrast is lost in noise, the prior stays. Tissues around the brain are parted where a label set
that is asked for tells them. Thalamus, ventral DC and brain-stem are left out, as their white matter blurs their
boundaries; amygdala, 3rd and 4th ventricle, as they border on these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from phantomseg.image.grid import content_slices
from phantomseg.inference.hyperintense import move_hyperintense
from phantomseg.inference.mixture import DOMINANT, posterior
from phantomseg.inference.tissues import (
    BONES,
    CORTEX,
    FAINT,
    FLUID,
    PLEXUS,
    REFINED,
    WHITE,
    Part,
    Sets,
    add_gains,
    at_voxels,
    by_side,
    channels_of,
    places,
    summed,
    tells_around,
    told_tissues,
)
from phantomseg.labels import label_set
from phantomseg.network.model import Model

HEALTHY = "healthy"  # of white matter alone, which `freesurfer` mixes with lesions
# values of tissues that are parted together; left and right in turn, plexus with its ventricle
PARTS: tuple[Part, ...] = (
    (WHITE, CORTEX, FLUID),
    ((7, 46), (8, 47), FLUID),
    (WHITE, (4, 43, 31, 63), (5, 44, 137, 164), (11, 50), (12, 51), (13, 52), (17, 53), (26, 58)),
)
ALIKE = {PARTS[1]: 3, PARTS[2]: 2}  # so many of their first tissues share one variance; better on T1 scans of adults
AROUND: Part = (FLUID, (520,), BONES, CORTEX, (30, 62, 502, 514), (506, 507, 512, 530))
THICK_MM = 2.0  # voxels that are longer hold several tissues
SMOOTH = (0.865, 0.905)  # smoothness of images where fluid and nuclei begin to stay as they are, and do
MARGIN_VOXELS = 4  # around a part


def sets_to_refine(model: Model, sets: Iterable[str]) -> list[str]:
    """The least that must be predicted beside some label sets for every tissue to have a channel of its own.

    >>> from phantomseg.models import find_model
    >>> sets_to_refine(find_model("head"), ["siam"]), sets_to_refine(find_model("head"), ["head"])
    (['refined', 'outer'], [])
    """
    told = told_tissues(model, sets)
    apart = set(label_set(PLEXUS).ids.tolist()) if PLEXUS in told else set()
    missing = set(label_set(REFINED).ids.tolist()) - {0} - apart - set(places(model, sets))
    found = [HEALTHY if missing <= set(WHITE) else REFINED] if missing else []
    return found + [name for name in told[1:] if len(places(model, sets, name)) < len(label_set(name)) - 1]


def refine(
    sets: Sets, image: torch.Tensor, model: Model, thick: bool = False, enlarged: float = 1.0, ct: bool = False
) -> None:
    """Move probabilities between the tissues of each part, and to lesions that are hyperintense, in place.

    No label set changes with what is asked for beside it.

    Args:
        sets: probabilities of label sets that the model's merge into, those of `sets_to_refine` among them.
        image: what the network saw, (I, J, K).
        model: that the probabilities are of.
        thick: whether only white matter and cortex are parted, and fluid, ventricles and nuclei stay as they are; this
            also holds where the image is smooth, as scans with thick slices are that were interpolated.
        enlarged: times longer that the network sees the head; smooth for that reason alone is no smooth scan.
        ct: whether it is CT, on which what is bright within white matter is blood or calcium and no lesion of it.
    """
    channels = channels_of(model, sets)
    seen = [channels[value] for ids in PARTS[0] for value in ids]
    share_moved = 0.0 if thick else _share_moved(seen, image, math.ceil(enlarged))
    for part in PARTS:
        if not share_moved and FLUID not in part:
            continue  # all of it would stay
        _refine_part(part, channels, sets, image, model, share_moved)
    if not ct:
        move_hyperintense(sets, image, model)
    if share_moved and all(value in channels for ids in AROUND for value in ids):
        moved = {name: found for name, found in sets.items() if tells_around(model, [name])}
        _refine_part(AROUND, channels, moved, image, model, share_moved)


def _refine_part(
    part: Part,
    channels: dict[int, torch.Tensor],
    sets: Sets,
    image: torch.Tensor,
    model: Model,
    share_moved: float,
) -> None:
    alike = ALIKE.get(part, 0)
    part = tuple(tuple(value for value in ids if value in channels) for ids in part)
    inside = summed(channels[value] for ids in part if ids not in (WHITE, FLUID) for value in ids) > DOMINANT
    if not inside.any():
        return
    box = content_slices(inside.numpy(), MARGIN_VOXELS)
    prior = torch.stack([summed(channels[value][box] for value in ids) for ids in part])
    where, before, after = posterior(prior, image[box], alike)
    otherwise = _without_fluid(before, after) if part != AROUND and FLUID in part else before
    after = share_moved * after + (1 - share_moved) * otherwise
    sides = at_voxels(channels, part, box, where)
    changes = [new - one for new, one in zip(by_side(part, sides, after), sides, strict=True)]
    for name, found in sets.items():
        add_gains(changes, part, model.merge(name), found[(slice(None), *box)], where)


def smoothness(image: torch.Tensor, mask: torch.Tensor, step: int = 1) -> float:
    """Mean square of differences over two steps, divided by four times that over one, of the smoothest axis.

    Noise has 0.25, a ramp 1.

    Args:
        image: intensities, (I, J, K).
        mask: voxels that count, boolean.
        step: in voxels.

    >>> ramp = torch.arange(6.0)[:, None, None].expand(6, 6, 6)
    >>> smoothness(ramp, torch.ones(6, 6, 6, dtype=torch.bool))
    1.0
    """
    found = []
    for axis, size in enumerate(image.shape):
        if size <= 2 * step:
            continue
        places = [(n * step, size - 2 * step) for n in range(3)]
        first, middle, last = (image.narrow(axis, *place) for place in places)
        inner = torch.stack([mask.narrow(axis, *place) for place in places]).all(0)
        one, two = ((x - first).square_().mul_(inner).sum() for x in (middle, last))
        found.append(float(two / (4 * one).clamp(min=1e-12)))
    return max(found, default=0.0)


def _share_moved(channels: list[torch.Tensor], image: torch.Tensor, step: int) -> float:
    """Share that is done of what the mixture changes of fluid and nuclei, by how smooth the image is within these."""
    begin, end = SMOOTH
    return min(1.0, max(0.0, (end - smoothness(image, summed(channels) > DOMINANT, step)) / (end - begin)))


def _without_fluid(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Probabilities (3, N) of which the first two share what they had together."""
    both = after[:2] + FAINT * before[:2]
    return torch.cat([both * (before[:2].sum(0) / both.sum(0).clamp(min=1e-9)), before[2:]])
