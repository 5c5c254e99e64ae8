"""Surfaces and their distances against those of surface-distance and MONAI."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

from phantomseg.errors import LabelError
from phantomseg.evaluation.overlap import overlap, soft_dice
from phantomseg.evaluation.surface import surface_distances
from phantomseg.evaluation.surfels import CORNERS, TRIANGLES, corner_areas_mm2, neighbourhoods

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.0, 5.5), (2.0, 0.5, 1.25)]


def blobs(seed: int, shape: tuple[int, int, int] = (24, 20, 22)) -> np.ndarray:
    """A rough mask with holes and specks that touches the border of the volume."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return np.asarray(noise > 0.05)


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    similar = blobs(1)
    return [(blobs(0), blobs(5)), (similar, np.roll(similar, 1, axis=1)), (similar, ndimage.binary_erosion(similar))]


def test_areas_by_hand() -> None:
    areas = corner_areas_mm2(np.array([1.0, 2.0, 3.0]))
    assert areas[0] == areas[255] == 0
    assert areas[0b1] == pytest.approx(math.hypot(6, 3, 2) / 8)  # a corner: half the triangle between three faces
    assert areas[0b1111] == pytest.approx(2 * 3)  # a plane across the first axis
    assert areas[0b110011] == pytest.approx(1 * 3) and areas[0b1010101] == pytest.approx(1 * 2)
    assert areas[0b11] == pytest.approx(3 * math.hypot(1, 2) / 2)  # an edge along the third axis
    assert set(np.flatnonzero(areas == 0)) == {0, 255}
    assert len(TRIANGLES) == 13


def test_area_of_a_ball_is_that_of_a_sphere_nearly() -> None:
    centre = np.indices((41, 41, 41)) - 20
    codes = neighbourhoods((centre**2).sum(0) < 15.5**2)
    assert corner_areas_mm2(np.ones(3))[codes].sum() == pytest.approx(4 * math.pi * 15.5**2, rel=0.1)


def test_areas_are_those_of_surface_distance() -> None:
    lookup = pytest.importorskip("surface_distance.lookup_tables")
    theirs_of = [sum(128 >> CORNERS.index(c) for b, c in enumerate(CORNERS) if code >> b & 1) for code in range(256)]
    for spacing in SPACINGS:
        theirs = lookup.create_table_neighbour_code_to_surface_area(spacing)
        np.testing.assert_allclose(corner_areas_mm2(np.array(spacing)), theirs[theirs_of], atol=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_are_those_of_surface_distance(spacing: tuple[float, float, float]) -> None:
    metrics = pytest.importorskip("surface_distance.metrics")
    for one, other in pairs():
        found = surface_distances(one, other, np.array(spacing))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of names in scipy
            theirs = metrics.compute_surface_distances(one, other, spacing)
        for percent in (50, 95, 100):
            assert found.percentile_mm(percent) == pytest.approx(
                metrics.compute_robust_hausdorff(theirs, percent), abs=1e-6
            )
        assert found.means_mm == pytest.approx(metrics.compute_average_surface_distance(theirs), abs=1e-6)
        for tolerance in (0.0, 0.5, 1.0, 2.0, 7.0):
            expected = metrics.compute_surface_dice_at_tolerance(theirs, tolerance)
            assert found.nsd(tolerance) == pytest.approx(expected, abs=1e-6)
        assert overlap(one, other, np.array([1])).dice[0] == pytest.approx(metrics.compute_dice_coefficient(one, other))


@pytest.mark.filterwarnings("ignore:monai:FutureWarning")  # of MONAI about its own calls
@pytest.mark.parametrize("spacing", SPACINGS)
def test_measures_are_those_of_monai(spacing: tuple[float, float, float]) -> None:
    monai = pytest.importorskip("monai.metrics")
    for one, other in pairs():
        found = surface_distances(one, other, np.array(spacing), elements="voxels")
        tensors = [torch.from_numpy(mask)[None, None].float() for mask in (one, other)]
        given = {"include_background": True, "spacing": list(spacing)}
        hd95 = monai.compute_hausdorff_distance(*tensors, percentile=95, **given)
        assert found.hd95_mm == pytest.approx(hd95.item(), abs=1e-6 * max(1, hd95.item()))
        mean = monai.compute_average_surface_distance(*tensors, symmetric=True, **given)
        assert found.mean_mm == pytest.approx(mean.item(), abs=1e-6)
        counts = overlap(one, other, np.array([1]))
        assert counts.dice[0] == pytest.approx(monai.compute_dice(*tensors).item(), abs=1e-6)
        assert counts.jaccard[0] == pytest.approx(monai.compute_iou(*tensors).item(), abs=1e-6)
        subvoxels = monai.compute_surface_dice(*tensors, class_thresholds=[1.0], use_subvoxels=True, **given)
        corners = surface_distances(one, other, np.array(spacing))
        assert corners.nsd(1.0) == pytest.approx(subvoxels.item(), abs=1e-6)


def test_soft_dice_is_that_of_monai() -> None:
    losses = pytest.importorskip("monai.losses")
    rng = np.random.default_rng(0)
    predicted, reference = rng.random((2, 3, 6, 5, 4))
    loss = losses.DiceLoss(reduction="none", smooth_nr=0, smooth_dr=0)
    theirs = 1 - loss(torch.from_numpy(predicted)[None], torch.from_numpy(reference)[None]).flatten().numpy()
    np.testing.assert_allclose(soft_dice(predicted, reference), theirs, atol=1e-6)


def test_voxels_as_elements_by_hand() -> None:
    # a 3³ cube has 26 outer voxels; shifted by one, the 9 of the face left behind are 2 mm away,
    # and the middle of the face that is now inside is 1 mm from the sides
    cube = np.zeros((9, 9, 9), dtype=bool)
    cube[2:5, 2:5, 2:5] = True
    found = surface_distances(cube, np.roll(cube, 1, axis=0), np.array([2.0, 1.0, 1.0]), elements="voxels")
    assert sorted(found.predicted_to_reference) == [0] * 16 + [1] + [2] * 9
    assert found.mean_mm == pytest.approx(19 / 26) and found.percentile_mm(100) == 2
    assert found.nsd(1) == pytest.approx(17 / 26)
    with pytest.raises(LabelError, match="elements are 'faces', wanted corners or voxels"):
        surface_distances(cube, cube, np.ones(3), elements="faces")


def test_empty_masks_of_every_measure() -> None:
    nothing, cube = np.zeros((4, 4, 4), dtype=bool), np.ones((4, 4, 4), dtype=bool)
    for elements in ("corners", "voxels"):
        both = surface_distances(nothing, nothing, np.ones(3), elements)
        assert all(math.isnan(value) for value in (both.hd95_mm, both.mean_mm, both.nsd(1), *both.means_mm))
        for masks in itertools.permutations((nothing, cube)):
            one = surface_distances(*masks, np.ones(3), elements)
            assert (one.hd95_mm, one.mean_mm, one.nsd(1)) == (math.inf, math.inf, 0)
