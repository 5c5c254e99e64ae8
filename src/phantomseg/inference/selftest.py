"""A head made of ellipsoids, and what must be right about its labels wherever the package is installed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phantomseg.image.image import Image
from phantomseg.inference.segment import Segmentation, segment
from phantomseg.labels import LabelSet
from phantomseg.network.model import Model

SPACING_MM = 2.0
HALF_MM = (52.0, 66.0, 58.0)  # of the field of view
SCALE = 0.75  # of an adult's, to be quick
NOISE = 1.0
LABELS = "freesurfer"
TISSUE = 50.0  # fluid is darker
LEAST_OVERLAP = 0.65  # Dice of the labels and the tissue made; it was 0.82
LEAST_SIDED = 0.75  # of the voxels of a side; it was 0.91 and 0.98


@dataclass(frozen=True)
class Part:
    """An ellipsoid of one grey value: centre and semi-axes in mm of an adult, towards right, anterior, superior.

    Those beside the middle have a twin on the left.
    """

    grey: float
    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]


PARTS = (  # as in T1: fluid dark, white matter bright; later ones lie over earlier ones
    Part(22, (0, 0, 4), (69, 85, 61)),  # fluid
    Part(62, (0, 0, 6), (66, 82, 56)),  # cortex
    Part(95, (0, 0, 8), (62, 78, 50)),  # white matter
    Part(22, (0, 0, 50), (1.6, 84, 44)),  # fissure
    Part(22, (0, -30, -60), (60, 60, 34)),  # fluid around the cerebellum
    Part(62, (38, 8, -26), (17, 32, 14)),  # temporal lobe
    Part(95, (38, 8, -25), (10, 24, 7)),
    Part(62, (22, -50, -38), (26, 28, 20)),  # cerebellum
    Part(92, (20, -48, -38), (18, 15, 9)),
    Part(88, (0, -24, -30), (11, 13, 30)),  # brain-stem
    Part(20, (9, 0, 12), (6, 30, 8)),  # ventricles
    Part(20, (0, -8, 2), (2.5, 14, 8)),
    Part(75, (10, -12, 3), (8, 13, 8)),  # thalamus
    Part(66, (13, 16, 10), (5, 12, 8)),  # caudate
    Part(68, (25, 6, 1), (6, 17, 9)),  # putamen
)


def self_test(model: Model) -> tuple[str, ...]:
    """Segment the made head twice; returns a sentence for each thing that is wrong, none where all is well."""
    scan, brain = made_head()
    first, second = (segment(scan, model, LABELS, flip=False) for _ in range(2))
    problems = problems_of(first, scan, brain)
    if not np.array_equal(first.image.voxels, second.image.voxels):
        problems.append("the same scan got other labels when it was segmented again")
    return tuple(problems)


def made_head() -> tuple[Image, np.ndarray]:
    """A T1-like brain without skull, its axes towards left, posterior, superior, and where its tissue is."""
    shape = np.ceil(2 * np.array(HALF_MM) / SPACING_MM).astype(int)
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (shape - 1) / 2
    voxels = np.zeros(tuple(shape), dtype=np.float32)
    points = _world(voxels.shape, affine) / SCALE
    for part in PARTS:
        x, y, z = part.centre
        for centre in {(x, y, z), (-x, y, z)}:
            away = (points - np.array(centre)) / np.array(part.semi_axes)
            voxels[(away**2).sum(-1) <= 1] = part.grey
    noise = np.abs(np.random.default_rng(0).normal(0, NOISE, voxels.shape))
    return Image((voxels + noise).astype(np.float32), affine), voxels > TISSUE


def problems_of(found: Segmentation, scan: Image, brain: np.ndarray) -> list[str]:
    """What is wrong with the labels of a scan whose brain, True in `brain`, has its middle at the origin."""
    labels = found.image.voxels
    if labels.shape != scan.shape or not np.array_equal(found.image.affine, scan.affine):
        return ["the label map is not on the grid of the scan"]
    problems = []
    overlap = 2 * ((labels > 0) & brain).sum() / max(1, (labels > 0).sum() + brain.sum())
    if overlap < LEAST_OVERLAP:
        problems.append(f"labels and head overlap by {overlap:.2f}, wanted at least {LEAST_OVERLAP}")
    right_mm = _world(labels.shape, scan.affine)[..., 0]
    for side, on_side in (("left", right_mm < 0), ("right", right_mm > 0)):
        share = _share(labels, found.labels, side, on_side)
        if share < LEAST_SIDED:
            problems.append(f"{share:.0%} of the voxels of the {side} lie there, wanted at least {LEAST_SIDED:.0%}")
    return problems


def _share(labels: np.ndarray, label_set: LabelSet, side: str, on_side: np.ndarray) -> float:
    """Share of the voxels with labels of a side that lie on it; 0 where there are none."""
    of_side = np.isin(labels, [label.id for label in label_set.labels if label.side == side])
    return float(on_side[of_side].mean()) if of_side.any() else 0.0


def _world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """World point of each voxel in mm, shape (I, J, K, 3)."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])
