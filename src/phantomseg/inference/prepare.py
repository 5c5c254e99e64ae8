"""From a scan to the network's grid, remembering the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.errors import ScanError
from phantomseg.image.grid import Grid, canonical, content_box, crop, resample_box, resampled_grid
from phantomseg.image.image import Image, spacing_mm
from phantomseg.image.intensity import is_tomography_or_windowed, rescaled, windowed
from phantomseg.image.size import enlargement
from phantomseg.inference.find import Found, find
from phantomseg.inference.tiles import fitting
from phantomseg.network.model import Model

CONTENT = 0.01  # of the intensity range; darker borders are cut off
MARGIN_VOXELS = 4
BRAIN_MARGIN_MM = 24.0  # around the brain, for what the network looks at beside it
HEAD_MARGIN_MM = 60.0  # around the brain, for the rest of the head
CUT_VOXELS = 11  # of repeated planes where the field of view cuts the brain
NEAR_FACE_MM = 6.0
NECK_MM = 50.0  # more than that below it
MOST_VOXELS = 2**25  # 322³: more than any head, and 3 GB of probabilities


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the network's grid: `image` (1, 1, I, J, K), and the way back."""

    image: torch.Tensor
    inside: tuple[slice, slice, slice]  # the part of it that the scan saw; the rest is padding
    scan: Image
    canonical: Grid  # the scan's grid with axes to right, anterior, superior
    grid: Grid  # the network's
    middle: tuple[float, float, float] | None  # of the brain, in voxels of `image`; None where none was found
    enlarged: float = 1.0  # times longer that the network sees a small head
    ct: bool = False  # cut to the window of soft tissue

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel of the network's grid."""
        return float(abs(np.linalg.det(self.grid.affine[:3, :3])))


def prepare(scan: Image, model: Model, brain_alone: bool = False) -> Prepared:
    """Canonical axes, CT windowed, the model's spacing, dark borders cut, between 0 and 1, padded to its multiple.

    Args:
        scan: any grid.
        model: tells spacing and multiple.
        brain_alone: cut off what is far from the brain, as no label lies there.

    Raises:
        ScanError: too many voxels for any head.
    """
    image = canonical(scan)
    ct = is_tomography_or_windowed(image.voxels)
    image = image.with_voxels(windowed(image.voxels, ct))
    found, times = _found(image, model)
    grid = resampled_grid(image, model.spacing_mm / times)
    dark = float(image.voxels.min())
    corners = _region(found, grid, brain_alone, times)
    near = resample_box(image, grid, *corners)
    low, high = _content(near.voxels - dark)
    cut = _cut_faces(found, grid, times) & (np.array([low, near.shape - high]) == 0) & _at_ends(corners, grid)
    multiple: int = model.network.multiple  # type: ignore[assignment]
    before, after = CUT_VOXELS * cut
    shape = fitting(high - low + before + after, multiple)
    if np.prod(shape) > MOST_VOXELS:
        raise ScanError(
            f"scan fills {tuple(shape.tolist())} voxels of {model.spacing_mm / times:.2g} mm, wanted at most "
            f"{MOST_VOXELS // 10**6} million in all; crop it to the head"
        )
    # padding is as dark as the darkest voxel; percentiles are those of the head, not of the border around it, nor of
    # planes that are repeated
    size = high - low
    usual = crop(near, low, low + fitting(size, multiple), outside=dark)
    seen = crop(usual.with_voxels(rescaled(usual.voxels - dark)), np.zeros(3), size)
    whole = _repeated(seen, before, np.where(cut[1], shape - before - size, 0))
    placed = crop(whole, np.zeros(3), shape)
    tensor = torch.from_numpy(placed.voxels)[None, None]
    i, j, k = (slice(int(a), int(a + n)) for a, n in zip(before, high - low, strict=True))
    return Prepared(
        image=tensor,
        inside=(i, j, k),
        scan=scan,
        canonical=Grid(image.shape, image.affine),
        grid=Grid(placed.shape, placed.affine),
        middle=_middle(found, placed.affine),
        enlarged=times,
        ct=ct,
    )


def _found(image: Image, model: Model) -> tuple[Found, float]:
    """Where the brain is, and how many times longer the network is to see it: 1 but for infants and fetuses."""
    found = find(image)
    times = enlargement(found.intracranial_ml) if model.enlarges and not found.is_cut else 1.0
    if times == 1:
        return found, 1.0
    closer = find(image, times)
    return (found, times) if closer.brain is None else (closer, enlargement(closer.intracranial_ml))


def _region(found: Found, grid: Grid, brain_alone: bool, times: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners, in voxels of `grid`, of what has content and is not too far from the brain."""
    low, high = found.content.voxels(grid.affine, MARGIN_VOXELS * float(spacing_mm(grid.affine)[0]))
    if found.brain is not None:
        margin_mm = (BRAIN_MARGIN_MM if brain_alone else HEAD_MARGIN_MM) / times
        near_low, near_high = found.brain.voxels(grid.affine, margin_mm)
        near_low[2] -= 0 if brain_alone else round(NECK_MM / times / float(spacing_mm(grid.affine)[2]))
        low, high = np.maximum(low, near_low), np.minimum(high, near_high)
    return np.maximum(low, 0), np.minimum(high, grid.shape)


def _at_ends(corners: tuple[np.ndarray, np.ndarray], grid: Grid) -> np.ndarray:
    """Whether the region begins, and ends, where the grid does, boolean, shape (2, 3)."""
    return np.array([corners[0] <= 0, corners[1] >= np.array(grid.shape)])


def _cut_faces(found: Found, grid: Grid, times: float) -> np.ndarray:
    """Through which faces of the field of view, low and high, the brain seems to go on, boolean, shape (2, 3)."""
    if found.brain is None:
        return np.ones((2, 3), dtype=bool)
    low, high = found.brain.voxels(grid.affine, NEAR_FACE_MM / times)
    return np.array([low <= 0, high >= np.array(grid.shape)])


def _repeated(image: Image, before: np.ndarray, after: np.ndarray) -> Image:
    """Image with its outermost planes repeated: to the network, a cut head goes on rather than ends."""
    voxels = np.pad(image.voxels, list(zip(before.tolist(), after.tolist(), strict=True)), mode="edge")
    shift = np.eye(4)
    shift[:3, 3] = -before
    return Image(voxels, image.affine @ shift)


def _content(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = content_box(rescaled(voxels) > CONTENT)
    return np.maximum(low - MARGIN_VOXELS, 0), np.minimum(high + MARGIN_VOXELS, voxels.shape)


def _middle(found: Found, affine: np.ndarray) -> tuple[float, float, float] | None:
    if found.brain is None:
        return None
    to_voxel = np.linalg.inv(affine)
    i, j, k = to_voxel[:3, :3] @ ((found.brain.low + found.brain.high) / 2) + to_voxel[:3, 3]
    return float(i), float(j), float(k)
