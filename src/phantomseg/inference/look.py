"""Looks at a scan: what the network sees of it, at which scale, and the brain that it finds there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cc3d
import numpy as np
import torch

from phantomseg.errors import MemoryLimitError, ScanError
from phantomseg.image.grid import Grid, content_box, crop, resample_box, resampled_grid
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescaled
from phantomseg.inference.find import CONTENT, PROBABLE, Box, box_of
from phantomseg.inference.memory import needed_bytes
from phantomseg.inference.predict import predict
from phantomseg.inference.prepare import Prepared
from phantomseg.inference.tiles import Tiles, fitting
from phantomseg.network.losses import SOFT_VOXELS
from phantomseg.network.model import Model
from phantomseg.synth.source import BORDER, FLUID, INSIDE, OUTERMOST

MASK = "mask"
SAMPLES = 128  # of a scan along each axis, in which its content is looked for
SURE = 0.01  # probability from 0 or 1, within which nothing fades
MOST_VOXELS = 16e6  # of a look; brains of the size that the network knows have a twentieth
FEWEST_VOXELS = 300  # of a brain: no sample of the training has a smaller one
FACE_AREA = 2 / 3  # of a smooth surface, for each face of its staircase of voxels


@dataclass(frozen=True, eq=False)
class Look:
    """Probability of brain (I, J, K), on a grid that covers a part of a scan, and its largest piece."""

    prepared: Prepared
    probability: torch.Tensor
    piece: np.ndarray
    spacing_mm: float
    judged: bool = True  # whether its sureness tells anything
    tissue: torch.Tensor | None = None  # probability of brain without fluid, of models that tell it
    whole: Look | None = None  # of which this one is a part, and whose sureness it has

    @property
    def found(self) -> bool:
        """Whether there is any brain."""
        return bool(self.piece.any())

    @property
    def box(self) -> Box:
        """Around the piece."""
        return box_of(self.piece, self.prepared.grid.affine)

    @property
    def brain_ml(self) -> float:
        """Volume of the piece."""
        return float(self.piece.sum()) * self.prepared.voxel_volume_mm3 / 1000

    @property
    def diameter_mm(self) -> float:
        """Longest side of the piece's box."""
        low, high = content_box(self.piece)
        return float((high - low).max()) * self.spacing_mm

    @cached_property
    def sureness(self) -> float:
        """Width over which a sure network fades from brain to none, over the width found; at most 1, 0 without a brain.

        The width is the mean one of the border, in voxels, if all that fades does so at the surface of the piece:
        p · (1 - p), summed along a line through a surface that the network is sure of, is SOFT_VOXELS.
        """
        if self.whole is not None:
            return self.whole.sureness
        if not self.found:
            return 0.0
        p = self.probability
        faces = sum(int((self.piece.take(range(1, n), axis) != self.piece.take(range(n - 1), axis)).sum())
                    for axis, n in enumerate(self.piece.shape))  # fmt: skip
        fading = float((p * (1 - p))[(p > SURE) & (p < 1 - SURE)].sum(dtype=torch.float64))
        return min(1.0, SOFT_VOXELS * FACE_AREA * faces / max(fading, 1e-9))

    def without_fluid(self) -> Look:
        """The same without the fluid in sulci and cisterns; its sureness is that of the whole."""
        assert self.tissue is not None
        piece = cc3d.largest_k((self.tissue > PROBABLE).numpy() & self.piece, k=1, connectivity=6) > 0
        return replace(self, probability=self.tissue, piece=piece, whole=self)


class TooLargeError(ScanError):
    """A look that would have so many voxels that its scale cannot be meant."""


def content_of(image: Image) -> Box:
    """Where a scan is not dark."""
    steps = np.maximum(1, np.array(image.shape) // SAMPLES)
    some = image.voxels[tuple(slice(None, None, step) for step in steps)]
    return box_of(rescaled(some) > CONTENT, image.affine @ np.diag([*steps, 1]))


def look_at(image: Image, scan: Image, model: Model, spacing_mm: float, box: Box, most_bytes: float) -> Look:
    """What the network finds in a part of a scan.

    Args:
        image: the scan with canonical axes, tomography in its window.
        scan: on its own grid, for the way back.
        model: of masks.
        spacing_mm: of the voxels that the network sees.
        box: the part.
        most_bytes: memory that may be taken.

    Raises:
        TooLargeError: it would have more than MOST_VOXELS.
        MemoryLimitError: it needs more.
    """
    grid = resampled_grid(image, spacing_mm, tolerance_mm=0.0)
    low, high = box.voxels(grid.affine, 0.0)
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    multiple: int = model.network.multiple  # type: ignore[assignment]
    i, j, k = fitting(high - low, multiple).tolist()
    if i * j * k > MOST_VOXELS:
        raise TooLargeError(
            f"the part of the scan to look at has {i} × {j} × {k} voxels of {spacing_mm:.2g} mm, wanted at most "
            f"{MOST_VOXELS / 1e6:.0f} million; choose a larger --species, or crop the scan to the head"
        )
    if (needed := needed_bytes(Tiles((i, j, k), (i, j, k), multiple), 2, model.network)) > most_bytes:
        raise MemoryLimitError(
            f"a look at {i} × {j} × {k} voxels needs {needed / 1e9:.1f} GB beside what is in use already, and may use "
            f"{max(most_bytes, 0) / 1e9:.1f} GB; raise --max-memory"
        )
    part = resample_box(image, grid, low, high)
    before = (np.array([i, j, k]) - (high - low)) // 2
    near = crop(part.with_voxels(rescaled(part.voxels)), -before, np.array([i, j, k]) - before)
    tensor = torch.from_numpy(near.voxels)[None, None]
    (found,) = predict(model, tensor, [BORDER if tells_fluid(model) else MASK], flip=False).sets
    probability = found[1:].sum(0, dtype=torch.float32)
    tissue = found[[INSIDE, OUTERMOST]].sum(0, dtype=torch.float32) if tells_fluid(model) else None
    piece = cc3d.largest_k((probability > PROBABLE).numpy(), k=1, connectivity=6) > 0
    piece &= piece.sum() >= FEWEST_VOXELS
    inside = (slice(0, i), slice(0, j), slice(0, k))
    prepared = Prepared(tensor, inside, scan, Grid(image.shape, image.affine), Grid(near.shape, near.affine), None)
    return Look(prepared, probability, piece, spacing_mm, tissue=tissue)


def tells_fluid(model: Model) -> bool:
    """Whether a model of masks tells fluid in them from the brain."""
    return model.labels.name == BORDER and len(model.labels) > FLUID
