"""Rows of slices with outlined labels, as pictures that need no script."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from phantomseg.image.grid import content_box
from phantomseg.labels import LabelSet
from phantomseg.report.figures import palette, slice_of
from phantomseg.report.shown import Shown
from phantomseg.report.sprites import picture_uri

WIDTH = 1640  # pixels of the widest row
SLICES = 5  # of the widest plane; narrower ones have more, to fill the row
GAP = 6  # pixels between slices
QUALITY = 82


@dataclass(frozen=True)
class Plane:
    """How one plane is looked at: the axis cut, its name, and the ends of the picture from left, right, down, up."""

    axis: int
    name: str
    ends: tuple[str, str, str, str]


PLANES = (
    Plane(2, "axial", ("L", "R", "P", "A")),
    Plane(1, "coronal", ("L", "R", "I", "S")),
    Plane(0, "sagittal", ("P", "A", "I", "S")),
)


@dataclass(frozen=True)
class Mosaic:
    """One plane's row: a JPEG, and which slices it shows, from left to right."""

    plane: Plane
    source: str  # data URI
    width: int
    height: int
    slices: tuple[int, ...]


def mosaics(volume: Shown, labels: LabelSet) -> list[Mosaic]:
    """A row of slices a plane, at one scale, spread over the brain; without one over the labels, or over everything."""
    size_mm = volume.spacing_mm * volume.grey.shape
    across_mm = {plane.axis: float(size_mm[1 if plane.axis == 0 else 0]) for plane in PLANES}
    widest_mm = max(across_mm.values())
    pixels_per_mm = (WIDTH - GAP * (SLICES - 1)) / SLICES / widest_mm
    low, high = look_box(volume.channels, labels)
    rows = []
    for plane in PLANES:
        count = min(round(SLICES * widest_mm / across_mm[plane.axis]), 2 * SLICES)
        slices = _spread(int(low[plane.axis]), int(high[plane.axis]), count)
        tiles = [_tile(volume, labels, plane.axis, at, pixels_per_mm) for at in slices]
        row = _side_by_side(tiles)
        rows.append(Mosaic(plane, picture_uri(row, QUALITY), row.shape[1], row.shape[0], slices))
    return rows


def look_box(channels: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """Box of the structures that are one piece each, all of the brain; else of all labels; else everything."""
    brain = np.array([bool(label.topology) for label in labels.labels])[channels]
    return content_box(brain if brain.any() else channels > 0)


def outlines(channels: np.ndarray) -> np.ndarray:
    """Pixels (H, W) of a label that touch, by an edge, a pixel of another value.

    >>> square = np.zeros((5, 5), int); square[1:4, 1:4] = 7
    >>> outlines(square).sum().item()
    8
    """
    padded = np.pad(channels, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in beside], axis=0))


def _spread(low: int, high: int, count: int) -> tuple[int, ...]:
    """Different slices from `low` up to and without `high`, at the middle of so many equal parts.

    >>> _spread(0, 10, 5), _spread(3, 4, 5)
    ((1, 3, 5, 7, 9), (3,))
    """
    places = low + (np.arange(count) + 0.5) * (high - low) / count
    return tuple(sorted(set(places.astype(int).tolist())))


def _tile(volume: Shown, labels: LabelSet, axis: int, at: int, pixels_per_mm: float) -> np.ndarray:
    """One slice with its outlines, (H, W, 3), 8 bits."""
    across, up = (other for other in range(3) if other != axis)
    size_mm = volume.spacing_mm * volume.grey.shape
    size = (max(1, round(size_mm[across] * pixels_per_mm)), max(1, round(size_mm[up] * pixels_per_mm)))
    fine = np.asarray(_picture(volume.grey, axis, at).resize(size, Picture.Resampling.BICUBIC).point(_window(volume)))
    values = np.asarray(_picture(volume.channels, axis, at).resize(size, Picture.Resampling.NEAREST))
    colors = np.round(255 * palette(labels)).astype(np.uint8)
    return np.where(outlines(values)[..., None], colors[values], fine[..., None])


def _picture(volume: np.ndarray, axis: int, at: int) -> Picture.Image:
    return Picture.fromarray(np.ascontiguousarray(slice_of(volume, axis, at)))


def _window(volume: Shown) -> list[int]:
    """What each grey becomes when the window fills the range from black to white."""
    low, high = volume.window
    values = volume.low + np.arange(256) / 255 * (volume.high - volume.low)
    return [int(grey) for grey in np.round((255 * (values - low) / (high - low)).clip(0, 255))]


def _side_by_side(tiles: list[np.ndarray]) -> np.ndarray:
    gap = np.zeros((tiles[0].shape[0], GAP, 3), np.uint8)
    return np.hstack([part for tile in tiles for part in (gap, tile)][1:])
