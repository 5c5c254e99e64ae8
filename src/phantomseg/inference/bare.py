"""Scans that are stripped already: they show a brain before a background of one value, and nothing else."""

from __future__ import annotations

import itertools

import cc3d
import numpy as np
import torch
from scipy import ndimage

from phantomseg.image.distance import squared_distance
from phantomseg.image.grid import canonical
from phantomseg.image.image import Image
from phantomseg.inference.look import Look
from phantomseg.inference.restore import places_on

CORNERS = 5  # of the eight of a scan, that have the value of its background
LEAST_BACKGROUND = 0.1  # of the voxels
NEAR_VOXELS = 4  # of the network; a skull and its skin are thicker
MOST_SHOWN = 1.3  # volumes of the brain found, where it is less than it should be
AT_BACKGROUND = 0.5  # of the surface of a brain that lies bare; the rest is where a network erred, or a cut


def shown(scan: Image) -> np.ndarray | None:
    """Where a scan shows anything, boolean (I, J, K); None where its background has more than one value.

    Background is what has the value of most corners and hangs together with one; holes within are shown.

    >>> voxels = np.zeros((5, 5, 5)); voxels[1:4, 1:4, 1:4] = 1; voxels[2, 2, 2] = 0
    >>> int(shown(Image(voxels, np.eye(4))).sum())
    27
    """
    corners = list(itertools.product(*[(0, n - 1) for n in scan.shape]))
    values, counts = np.unique([scan.voxels[corner] for corner in corners], return_counts=True)
    if counts.max() < CORNERS:
        return None
    dark = scan.voxels == values[counts.argmax()]
    pieces, count = cc3d.connected_components(dark, connectivity=6, return_N=True)
    at_corners = np.zeros(count + 1, dtype=bool)
    at_corners[[pieces[corner] for corner in corners]] = True
    at_corners[0] = False  # of a corner that is not dark
    background = at_corners[pieces]
    return None if background.mean() < LEAST_BACKGROUND else ~background


def _on_look(shown: np.ndarray, look: Look) -> np.ndarray:
    """What a scan shows, on the grid of a look, boolean."""
    image = canonical(look.prepared.scan.with_voxels(shown.astype(np.uint8)))
    places = places_on(look.prepared.canonical, look.prepared.grid)
    # a scan that is cut goes on beyond the cut
    nearest = [np.floor(p + 0.5).astype(int).clip(0, n - 1) for p, n in zip(places, image.shape, strict=True)]
    return image.voxels[np.ix_(*nearest)] > 0


def stripped_before(scan: Image, look: Look) -> tuple[np.ndarray, np.ndarray] | None:
    """All that a scan shows, if background begins where its brain ends: on its own grid and on that of the look.

    Both are boolean (I, J, K); None where the scan was not stripped before.

    Args:
        scan: on its own grid.
        look: with a brain. Most of its surface, but for where the field of view cuts it, is to lie within NEAR_VOXELS
            of what the scan does not show, and all that it shows is to be no more than MOST_SHOWN brains.
    """
    seen = shown(scan)
    if seen is None or seen.sum() * scan.voxel_volume_mm3 > MOST_SHOWN * 1000 * look.brain_ml:
        return None
    surface = look.piece & ~ndimage.binary_erosion(look.piece, border_value=1) & _within_view(look)
    near = _on_look(seen, look)
    squared = squared_distance(torch.from_numpy(~near), NEAR_VOXELS).numpy()[surface]
    return (seen, near) if squared.size and (squared <= NEAR_VOXELS**2).mean() >= AT_BACKGROUND else None


def _within_view(look: Look) -> np.ndarray:
    """Which voxels of a look do not lie at a face of the scan, or beyond, boolean."""
    view, grid = look.prepared.canonical, look.prepared.grid
    inside = np.ones(grid.shape, dtype=bool)
    for axis, place in enumerate(places_on(view, grid)):
        step = place[1] - place[0]
        far = (place >= step) & (place <= view.shape[axis] - 1 - step)
        if far.any():  # a single slice has no side but its faces
            inside &= far.reshape([-1 if other == axis else 1 for other in range(3)])
    return inside
