"""The brain is found in a head of ellipsoids as large as a head, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantom
import pytest

from phantomseg.image.image import Image
from phantomseg.inference.find import Box, find
from phantomseg.inference.prepare import CUT_VOXELS, prepare
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network

pytestmark = pytest.mark.usefixtures("one_thread")
GREY = {511: 140, 515: 25, 24: 35, 3: 120, 42: 120, 2: 190, 41: 190, 4: 35, 43: 35, 12: 145, 51: 145}
INSIDE = (24, 3, 42, 2, 41, 4, 43, 12, 51)
MODEL = Model(
    build_network("fast", {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}),
    label_set("head"),
    record={"smallest_head_ml": 1300.0},
)


def head(spacing_mm: float = 4.0, centre_mm: tuple[float, float, float] = (0, 0, 0)) -> Image:
    """A head of 152 × 184 × 152 mm like a T1-weighted scan; its skull and all inside measure 120 × 152 × 120 mm."""
    labels = phantom.head()
    voxels = np.random.default_rng(0).normal(0, 4, labels.shape)
    for value, grey in GREY.items():
        voxels[labels == value] += grey
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.array(centre_mm) - spacing_mm * (np.array(labels.shape) - 1) / 2
    return Image(voxels.astype(np.float32), affine)


def inside_mm(scan: Image) -> tuple[np.ndarray, np.ndarray]:
    """Corners of what lies inside the skull."""
    index = np.argwhere(np.isin(phantom.head(), INSIDE))
    return tuple(scan.affine[:3, :3] @ corner + scan.affine[:3, 3] for corner in (index.min(0), index.max(0)))


def padded(image: Image, voxels: int) -> Image:
    """The same head in the midst of nothing."""
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, voxels)
    return Image(np.pad(image.voxels, voxels, constant_values=image.voxels.min()), affine)


def test_box_in_voxels_of_a_grid() -> None:
    affine = np.diag([2.0, 1, 4, 1])
    affine[:3, 3] = (-20, 0, 8)
    low, high = Box(np.array([-4.0, 3, 16]), np.array([4.0, 9, 24])).voxels(affine, 0.0)
    # (-4 + 20) / 2 = 8 and (4 + 20) / 2 = 12, whose voxel counts; one past the end
    assert (low.tolist(), high.tolist()) == ([8, 3, 2], [13, 10, 5])
    low, high = Box(np.array([-4.0, 3, 16]), np.array([4.0, 9, 24])).voxels(affine, 4.0)
    assert (low.tolist(), high.tolist()) == ([6, -1, 1], [15, 14, 6])


@pytest.mark.parametrize(
    ("spacing", "centre"), [(4.0, (0, 0, 0)), (4.0, (300, -200, 55)), (3.5, (0, 0, 0)), (4.5, (10, 0, 0))]
)
def test_brain_of_a_head_is_found(spacing: float, centre: tuple[float, float, float]) -> None:
    scan = head(spacing, centre)
    found = find(scan)
    assert found.brain is not None
    low, high = inside_mm(scan)
    assert np.abs(found.brain.low - low).max() < 3.5 * 4 and np.abs(found.brain.high - high).max() < 3.5 * 4
    assert (np.abs((found.brain.low + found.brain.high) / 2 - centre) < 10).all()


def test_content_is_where_the_scan_is_not_dark() -> None:
    scan = padded(head(), 6)
    found = find(scan)
    wanted = 4.0 * np.array([19, 23, 19])  # semi-axes of the skin
    assert found.brain is not None
    assert (np.abs(found.content.high - wanted) < 10).all() and (np.abs(found.content.low + wanted) < 10).all()


@pytest.mark.parametrize("kind", ["ramp", "ball"])
def test_nothing_is_found_where_there_is_no_head(kind: str) -> None:
    i, j, k = np.indices((32, 32, 32))
    images = {
        "ramp": i + 0.1 * j,
        "ball": ((i - 15) ** 2 + (j - 15) ** 2 + (k - 15) ** 2 < 3**2).astype(float),
    }
    found = find(Image(images[kind].astype(np.float32), np.diag([4.0, 4, 4, 1])))
    assert found.brain is None
    assert (found.content.high > found.content.low).all()


def test_thin_slab_is_all_looked_at() -> None:
    whole = head()
    thin, thick = (Image(whole.voxels[:, 20 : 20 + n], whole.affine) for n in (7, 10))
    found, usual = find(thin), find(thick)
    assert found.brain is found.content and usual.brain is not usual.content
    assert prepare(thin, MODEL).image.shape[3] == 28 + 2 * CUT_VOXELS + 2  # 28 mm, cut on either side, made even


def test_network_sees_the_brain_and_little_else() -> None:
    scan = padded(head(), 10)
    brain = prepare(scan, MODEL, brain_alone=True)
    whole = prepare(scan, MODEL)
    assert brain.middle is not None and whole.middle is not None
    inner = np.array(brain.image.shape[2:])
    outer = np.array(whole.image.shape[2:])
    # 24 mm around what is inside the skull at most, of 232 mm a side in all; with the rest of the head, all of it
    assert (inner <= np.array([120, 152, 120]) + 2 * (24 + 14) + 4).all()
    assert (outer >= 2 * np.array([19, 23, 19]) * 4).all() and (outer < 232).all()
    for prepared in (brain, whole):
        assert prepared.middle is not None
        world = prepared.grid.affine @ [*prepared.middle, 1]
        assert np.abs(world[:3]).max() < 10


def test_small_head_is_shown_at_the_size_of_an_adult() -> None:
    adult, infant = (prepare(head(spacing), MODEL) for spacing in (4.0, 2.4))
    assert adult.enlarged == 1.0 and np.allclose(adult.grid.affine.diagonal()[:3], 1.0)
    # (152 · 0.6)³ / 152³ of the volume of the larger one, and 1700 ml wanted
    assert 1.4 < infant.enlarged < 2.2
    assert np.allclose(infant.grid.affine.diagonal()[:3], 1 / infant.enlarged)
    seen = np.array([s.stop - s.start for s in infant.inside]) / infant.enlarged
    assert (seen < 1.1 * np.array([0.6 * n for n in (172, 204, 172)])).all()


def test_part_of_a_small_head_is_left_as_it_is() -> None:
    scan = head(2.4)
    half = Image(scan.voxels[:20], scan.affine)
    assert find(half).is_cut and prepare(half, MODEL).enlarged == 1.0
    assert not find(scan).is_cut


@pytest.mark.parametrize(
    "record",
    [
        {"supervised": True},
        {"smallest_head_ml": 420.0},
        {"templates": ["infant"]},
        {"smallest_head_ml": 1300.0, "earlier": [{"smallest_head_ml": 420.0}]},
    ],
)
def test_models_that_know_small_heads_see_them_as_they_are(record: dict) -> None:
    knows = replace(MODEL, record=record)
    assert not knows.enlarges
    assert prepare(head(2.4), knows).enlarged == 1.0
    assert replace(MODEL, record={"smallest_head_ml": 1200.0}).enlarges
