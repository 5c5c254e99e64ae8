"""Scans that are stripped already keep all that they show; heads do not."""

from __future__ import annotations

from pathlib import Path

import bright
import nibabel as nib
import numpy as np
import pytest

from phantomseg.image.files import read_image
from phantomseg.image.image import Image
from phantomseg.inference.bare import shown
from phantomseg.inference.strip import Stripped, strip
from phantomseg.network.model import Model, load_model

pytestmark = pytest.mark.usefixtures("one_thread")
SPACING_MM, RADIUS_MM, SIZE = 2.5, 60.0, 56


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bright.model(tmp_path_factory.mktemp("bright") / "model"))


def ball_in_rim(rim_mm: float) -> Image:
    """A bright ball, its surroundings dimmer than half, and 0 beyond; axes of the file turned."""
    away = np.sqrt((((np.indices((SIZE,) * 3) - (SIZE - 1) / 2) * SPACING_MM) ** 2).sum(0))
    voxels = np.select([away < RADIUS_MM, away < RADIUS_MM + rim_mm], [200.0, 60.0], 0.0).astype(np.float32)
    return Image(voxels, np.diag([-SPACING_MM, SPACING_MM, -SPACING_MM, 1.0]))


def is_kept_whole(found: Stripped) -> bool:
    return any("stripped before" in finding.what for finding in found.findings)


def test_a_stripped_scan_keeps_its_fluid_and_its_ragged_edge(model: Model) -> None:
    scan = ball_in_rim(3.0)
    scan.voxels[28, 28, 54] = 60.0  # one voxel sticks out, the next one is missing
    scan.voxels[28, 28, 53] = 0.0
    found = strip(scan, model)
    assert is_kept_whole(found)
    assert np.array_equal(found.image.voxels > 0, scan.voxels > 0)
    assert np.array_equal(found.distance_mm.voxels < 0, scan.voxels > 0)


@pytest.mark.parametrize("suffix", ["nii.gz", "mgz"])
def test_axes_may_run_in_any_order(model: Model, tmp_path: Path, suffix: str) -> None:
    scan = ball_in_rim(3.0)
    scan.voxels[:26, :22, :24] = 0.0  # no longer the same along all axes, nor either way
    turned = Image(np.ascontiguousarray(scan.voxels.transpose(2, 0, 1)), scan.affine[:, [2, 0, 1, 3]])
    nib.save(nib.Nifti1Image(turned.voxels, turned.affine), tmp_path / f"scan.{suffix}")
    read = read_image(tmp_path / f"scan.{suffix}")
    found = strip(read, model)
    assert is_kept_whole(found) and np.array_equal(found.image.voxels > 0, turned.voxels > 0)


def test_holes_of_a_stripped_scan_are_within_its_mask(model: Model) -> None:
    scan = ball_in_rim(0.0)
    scan.voxels[26:30, 26:30, 26:30] = 0.0
    found = strip(scan, model)
    assert is_kept_whole(found) and bool((found.image.voxels[26:30, 26:30, 26:30] == 1).all())


def test_its_border_moves_too(model: Model) -> None:
    scan = ball_in_rim(3.0)
    sizes = [int(strip(scan, model, border_mm=mm).image.voxels.sum()) for mm in (-3.0, 0.0, 3.0)]
    radii = [(n * SPACING_MM**3 * 3 / 4 / np.pi) ** (1 / 3) for n in sizes]
    assert radii[1] - radii[0] == pytest.approx(3.0, abs=1.2) and radii[2] - radii[1] == pytest.approx(3.0, abs=1.2)


@pytest.mark.parametrize("slices", [slice(20, 36), slice(10, 30)])
def test_a_part_of_a_stripped_scan_is_kept_too(model: Model, slices: slice) -> None:
    whole = ball_in_rim(3.0)
    scan = Image(whole.voxels[:, :, slices], whole.affine)
    found = strip(scan, model)
    assert is_kept_whole(found) and np.array_equal(found.image.voxels > 0, scan.voxels > 0)
    (finding,) = found.findings
    assert finding.what.startswith(f"brain of {found.brain_ml:.4g} ml")


def test_a_neck_left_on_a_bare_brain_is_not_kept(model: Model) -> None:
    scan = ball_in_rim(0.0)
    scan.voxels[4:52, 4:52, 30:] = np.maximum(scan.voxels[4:52, 4:52, 30:], 60.0)
    found = strip(scan, model)
    assert not is_kept_whole(found) and not found.image.voxels[4, 4].any()


def test_what_lies_in_thick_shells_is_stripped_of_them(model: Model) -> None:
    scan = ball_in_rim(15.0)
    found = strip(scan, model)
    assert not is_kept_whole(found)
    assert int(found.image.voxels.sum()) < 1.1 * int((scan.voxels == 200).sum())


def test_background_is_one_value_that_hangs_together_with_corners() -> None:
    scan = ball_in_rim(3.0)
    seen = shown(scan)
    assert seen is not None and np.array_equal(seen, scan.voxels > 0)
    noisy = scan.voxels + np.random.default_rng(0).normal(0, 1, scan.shape)
    assert shown(scan.with_voxels(noisy)) is None
    assert shown(scan.with_voxels(scan.voxels + 7)) is not None
    assert shown(scan.with_voxels(np.where(scan.voxels == 0, -1024, scan.voxels))) is not None
    assert shown(Image(scan.voxels[12:44, 12:44, 12:44], scan.affine)) is None  # too little background
