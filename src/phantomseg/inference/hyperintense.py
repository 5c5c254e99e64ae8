"""Lesions of the white matter that are brighter than all tissue around them, as FLAIR shows them.

The network learns lesions of any contrast, and finds the middle of the larger ones. Where fluid is darker than white
matter and cortex brighter, what is brighter than both is neither: it becomes lesion, as outliers of the intensities of
white matter do in doi:10.1109/42.938237. The network must agree that the scan has lesions.
"""

from __future__ import annotations

import cc3d
import numpy as np
import torch

from phantomseg.image.distance import squared_distance
from phantomseg.image.grid import content_slices
from phantomseg.inference.mixture import DOMINANT, local_gaussians, pooled
from phantomseg.inference.tissues import (
    CORTEX,
    FLUID,
    LESION,
    WHITE,
    Sets,
    add_gains,
    at_voxels,
    channels_of,
    lesion_channels,
    summed,
)
from phantomseg.network.model import Model

DARK = (4, 43, *FLUID)  # in FLAIR
SURE = 0.8  # probability of voxels that tell how bright a tissue is
CLOSED_VOXELS = 3  # radius of gaps in the white matter that may hold lesions
LEAST_STDS, ABOVE_CORTEX_STDS = 3.5, 2.0  # of white matter, above its mean and above that of cortex
LEAST_VOXELS, LEAST_WITHIN = 5, 0.3  # of a lesion, and the share of it that lies in white matter or its gaps
LEAST_EVIDENCE = 0.03  # mean probability of lesion in what is so bright; without lesions it is below 0.005
MARGIN_VOXELS = CLOSED_VOXELS + 1
STD_OF_DEVIATION = 1.4826  # standard deviation over median absolute deviation, of Gaussians


def move_hyperintense(sets: Sets, image: torch.Tensor, model: Model) -> None:
    """Move what is hyperintense within the white matter from white matter and cortex to lesion, in place.

    Only label sets that tell lesions from white matter change, and only where fluid is darker than white matter and
    cortex brighter, as in FLAIR.

    Args:
        sets: probabilities of label sets that the model's merge into, those of `sets_to_refine` among them.
        image: what the network saw, (I, J, K).
        model: that the probabilities are of.
    """
    lesions = lesion_channels(model, sets)
    channels = channels_of(model, sets)
    if not lesions or not all(value in channels for value in (*WHITE, *CORTEX, *DARK)):
        return
    white = summed(channels[value] for value in WHITE)
    if not (white > SURE).any():
        return
    box = content_slices((white > SURE).numpy(), MARGIN_VOXELS)
    lesion = summed(sets[name][channel][box] for name, channel in lesions)
    white, image = white[box], image[box]
    cortex, fluid = (summed(channels[value][box] for value in values) for values in (CORTEX, DARK))
    if not _like_flair(image, white, cortex, fluid):
        return
    allowed = white + cortex + lesion > DOMINANT
    brighter = _stds_above(white, image, allowed)
    least = max(LEAST_STDS, float(brighter[cortex > SURE].median()) + ABOVE_CORTEX_STDS)
    found = _of_white_matter(brighter > least, _closed(white + lesion > DOMINANT))
    if found.any() and lesion[found].mean() > LEAST_EVIDENCE:
        _move(channels, sets, box, torch.nonzero(found.view(-1)).view(-1), model)


def _like_flair(image: torch.Tensor, white: torch.Tensor, cortex: torch.Tensor, fluid: torch.Tensor) -> bool:
    """Whether fluid is darker than white matter, and cortex brighter."""
    seen = [image[tissue > SURE] for tissue in (fluid, white, cortex)]
    if any(not len(one) for one in seen):
        return False
    dark, middle, bright = (float(one.median()) for one in seen)
    return dark < middle < bright


def _stds_above(white: torch.Tensor, image: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How many standard deviations of white matter a voxel is brighter than the white matter around, 0 if unwanted.

    What is much brighter than most white matter of the scan counts for neither: a large lesion that the network takes
    for white matter would hide itself.
    """
    sure = white > SURE
    middle = image[sure].median()
    sure &= image < middle + LEAST_STDS * _robust_std(image[sure] - middle)
    where = torch.nonzero(wanted.view(-1)).view(-1)
    mean = local_gaussians(pooled(sure[None].float(), image), image.shape, where)[0][0]
    above = torch.zeros_like(image)
    above.view(-1)[where] = image.reshape(-1)[where] - mean
    return above.div_(_robust_std(above[sure]) + 1e-6)


def _robust_std(deviations: torch.Tensor) -> float:
    """Standard deviation by the median of absolute deviations, which outliers hardly change."""
    return float(deviations.abs().median()) * STD_OF_DEVIATION


def _closed(mask: torch.Tensor) -> torch.Tensor:
    """The mask, and gaps in it that a ball does not fit into."""
    grown = squared_distance(mask, CLOSED_VOXELS) <= CLOSED_VOXELS**2
    return squared_distance(~grown, CLOSED_VOXELS) > CLOSED_VOXELS**2


def _of_white_matter(mask: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
    """The mask's components of LEAST_VOXELS and more, of which enough lies within."""
    pieces = cc3d.connected_components(mask.numpy(), connectivity=6).ravel()
    sizes = np.bincount(pieces)
    inside = np.bincount(pieces[within.view(-1).numpy()], minlength=len(sizes))
    kept = (sizes >= LEAST_VOXELS) & (inside >= LEAST_WITHIN * sizes)
    kept[0] = False
    return torch.from_numpy(kept[pieces]).view(mask.shape)


def _move(
    channels: dict[int, torch.Tensor],
    sets: Sets,
    box: tuple[slice, ...],
    where: torch.Tensor,
    model: Model,
) -> None:
    """Make lesion of all white matter and cortex at some voxels (N,) of a box."""
    white, cortex = at_voxels(channels, (WHITE, CORTEX), box, where)
    changes = [-white, -cortex, white + cortex]  # left, right
    for name, probabilities in sets.items():
        if not lesion_channels(model, [name]):
            continue
        add_gains(changes, (WHITE, CORTEX, LESION), model.merge(name), probabilities[(slice(None), *box)], where)
