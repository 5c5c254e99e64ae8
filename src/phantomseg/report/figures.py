"""Pictures: contact sheets of samples, overlays of labels on scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phantomseg.image.files import write_atomically
from phantomseg.image.grid import canonical, content_box
from phantomseg.image.image import Image
from phantomseg.image.intensity import windowed
from phantomseg.inference.segment import Segmentation
from phantomseg.labels import LabelSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def palette(labels: LabelSet) -> np.ndarray:
    """Colour of each channel, between 0 and 1, shape (C, 3)."""
    return np.array([[int(x.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for x in labels.labels])


def slice_of(volume: np.ndarray, plane: int, at: int) -> np.ndarray:
    """One slice of a canonical volume as a picture: superior or anterior up, left of the head on the left."""
    return np.take(volume, at, axis=plane).T[::-1]


def tint(grey: np.ndarray, channels: np.ndarray, colors: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Grey picture (H, W) between 0 and 1 with labels laid over it, (H, W, 3); background stays grey."""
    base = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=-1)
    laid = (1 - opacity) * base + opacity * colors[channels]
    return np.where((channels > 0)[..., None], laid, base)


def middle_slice(number: int, image: np.ndarray, channels: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Image (I, J, K) and target side by side as a picture (H, 2W, 3), its plane changing with the sample's number."""
    plane = (2, 1, 0)[number % 3]
    at = image.shape[plane] // 2
    grey, color = slice_of(image, plane, at), palette(labels)[slice_of(channels, plane, at)]
    return np.hstack([np.repeat(grey[..., None], 3, -1), color])


def contact_sheet(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """Pictures of samples, each under its title, four a row, as a PNG file."""
    columns = min(4, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = _black_figure(4.4 * columns, 2.8 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture)
        axis.set_title(title, color="white", fontsize=8)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=80))


def draw_overlay(path: Path, scan: Image, result: Segmentation, ct: bool | None = None) -> None:
    """Three planes, three slices each, axes towards right, anterior, superior: grey above, with labels below.

    Args:
        path: PNG file to write.
        scan: any grid and intensities.
        result: labels on the same grid.
        ct: whether it is computed tomography; by default, values tell.
    """
    image, found = canonical(scan), canonical(result.image)
    voxels, labels = windowed(image.voxels, ct), result.labels
    colors = palette(labels)
    low, high = np.percentile(voxels[::2, ::2, ::2], [0.5, 99.5])
    box_low, box_high = content_box(found.voxels > 0)
    figure = _black_figure(15, 4.2)
    axes = figure.subplots(2, 9)
    for plane in range(3):
        others = [axis for axis in range(3) if axis != plane]
        aspect = image.spacing_mm[others[1]] / image.spacing_mm[others[0]]
        for number, share in enumerate((0.35, 0.5, 0.65)):
            at = int(box_low[plane] + share * (box_high[plane] - 1 - box_low[plane]))
            picture = (slice_of(voxels, plane, at) - low) / max(high - low, 1e-30)
            channels = labels.index_of_ids(slice_of(found.voxels, plane, at))
            for row, shown in enumerate((picture, tint(picture, channels, colors))):
                axis = axes[row, 3 * plane + number]
                axis.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=aspect)
                axis.axis("off")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100))


def _black_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # late, as reports do without it, and a scan is segmented in about the time

    return Figure(figsize=(width, height), layout="constrained", facecolor="black")
