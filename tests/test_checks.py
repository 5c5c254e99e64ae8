"""Scans that are right but for one thing, and what is said of it; and headers declared anew."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import GeometryError
from phantomseg.image.checks import check_scan
from phantomseg.image.files import read_image, write_image
from phantomseg.image.finding import Finding
from phantomseg.image.image import Image
from phantomseg.image.reorient import reoriented

SHAPE = (24, 28, 26)


def grey(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(200, 30, shape).round().astype(np.float32)


def scaled(*spacing_mm: float) -> np.ndarray:
    return np.diag([*spacing_mm, 1.0])


def scan(voxels: np.ndarray | None = None, affine: np.ndarray | None = None, header: object = None) -> Image:
    """132 × 154 × 143 mm of noise, without a flaw unless one is given."""
    return Image(grey() if voxels is None else voxels, scaled(5.5, 5.5, 5.5) if affine is None else affine, header)


def doubts(image: Image) -> list[Finding]:
    return [finding for finding in check_scan(image) if finding.level != "ok"]


def only(image: Image, level: str = "warning") -> str:
    """What the one finding says that is not ok."""
    (finding,) = doubts(image)
    assert finding.level == level
    assert finding.fix
    return finding.what


def test_a_scan_without_a_flaw() -> None:
    whats = [finding.what for finding in check_scan(scan())]
    assert doubts(scan()) == []
    assert whats[:5] == [
        "grid 24 × 28 × 26 voxels",
        "spacing 5.5 × 5.5 × 5.5 mm",
        "field of view 132 × 154 × 143 mm",
        "axes run to R, A, S",
        "axes at right angles",
    ]
    assert "MR or other, air around the head" in whats[7]


@pytest.mark.parametrize(
    "shape, spacing, what",
    [
        ((160, 160, 9), (1, 1, 15), "grid 160 × 160 × 9 voxels: few slices"),
        ((130, 130, 30), (1, 1, 6.5), "spacing 1 × 1 × 6.5 mm: thick slices, small structures will be poor"),
        ((130, 130, 12), (1, 1, 12), "spacing 1 × 1 × 12 mm: coarser than 10 mm"),
        ((24, 24, 600), (6, 6, 0.25), "spacing 6 × 6 × 0.25 mm: finer than 0.3 mm"),
        ((24, 24, 15), (6, 6, 6), "field of view 144 × 144 × 90 mm: part of a head, or an infant's"),
        ((24, 24, 60), (6, 6, 6), "field of view 144 × 144 × 360 mm: large for a head"),
    ],
)
def test_grids_and_sizes(shape: tuple[int, int, int], spacing: tuple[float, ...], what: str) -> None:
    findings = doubts(scan(grey(shape), scaled(*spacing)))
    assert what in [finding.what for finding in findings]
    assert {finding.level for finding in findings} == {"warning"}


def test_animals_may_be_scanned_in_finer_voxels_and_no_thicker_slices() -> None:
    fine = check_scan(scan(grey((90, 90, 60)), scaled(0.1, 0.1, 0.2)), any_species=True)
    assert "spacing 0.1 × 0.1 × 0.2 mm" in [finding.what for finding in fine if finding.level == "ok"]
    thick = check_scan(scan(grey((130, 130, 30)), scaled(1, 1, 6.5)), any_species=True)
    assert any("thick slices" in finding.what for finding in thick if finding.level == "warning")


@pytest.mark.parametrize("spacing, size", [(20.0, "480 × 560 × 520"), (0.5, "12 × 14 × 13")])
def test_what_is_no_head(spacing: float, size: str) -> None:
    errors = [f.what for f in check_scan(scan(affine=scaled(spacing, spacing, spacing))) if f.level == "error"]
    assert errors == [f"field of view {size} mm, wanted 15 to 400 mm"]


def turned(degrees: float) -> np.ndarray:
    """First two axes turned about the third, which runs to inferior."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = 5.5 * np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, -1]])
    return affine


def test_directions() -> None:
    assert check_scan(scan(affine=turned(12)))[3] == Finding("ok", "axes run to R, A, I, 12° oblique")
    assert check_scan(scan(affine=turned(90)))[3] == Finding("ok", "axes run to A, L, I")
    far = scaled(5.5, 5.5, 5.5)
    far[0, 3] = 2500 - 5.5 * 11.5
    assert only(scan(affine=far)) == "axes run to R, A, S; the middle lies 2.5 m from the origin"


def test_axes_that_are_not_at_right_angles() -> None:
    sheared = scaled(5.5, 5.5, 5.5)
    sheared[:3, 2] = 5.5 * np.array([0, np.sin(np.radians(10)), np.cos(np.radians(10))])
    assert only(scan(affine=sheared)) == "axes are 10.0° off a right angle"
    sheared[:3, 2] = 5.5 * np.array([0, np.sin(np.radians(0.5)), np.cos(np.radians(0.5))])
    assert doubts(scan(affine=sheared)) == []


def with_header(sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int] = (1, 1), units: int = 2) -> Image:
    header = nib.Nifti1Header()
    header.set_sform(sform, code=codes[0])
    header.set_qform(qform, code=codes[1])
    header["xyzt_units"] = units
    return scan(affine=sform if codes[0] else qform, header=header)


def test_two_forms() -> None:
    affine = scaled(5.5, 5.5, 5.5)
    assert Finding("ok", "sform and qform agree") in check_scan(with_header(affine, affine))
    assert Finding("ok", "placed by the sform alone") in check_scan(with_header(affine, affine, (2, 0)))
    assert Finding("ok", "placed by the qform alone") in check_scan(with_header(affine, affine, (0, 1)))
    shifted = affine.copy()
    shifted[:3, 3] = 0, 3, 4
    assert only(with_header(affine, shifted)) == "sform and qform place a corner 5.0 mm apart; the sform is used"
    shifted[:3, 3] = 0, 0.3, 0.4
    assert doubts(with_header(affine, shifted)) == []
    mirrored = scaled(-5.5, 5.5, 5.5)
    assert only(with_header(affine, mirrored)) == "sform runs to RAS and qform to LAS; the sform is used"
    broken = with_header(affine, affine)
    broken.header["quatern_b"] = broken.header["quatern_c"] = 1
    assert only(broken) == "qform is no rotation; the sform is used"


def test_spacing_said_twice() -> None:
    affine = scaled(5.5, 5.5, 5.5)
    image = with_header(affine, scaled(5.5, 5.5, 4), (1, 0))
    assert only(image) == "spacing 5.5 × 5.5 × 5.5 mm by the affine, but 5.5 × 5.5 × 4 mm by pixdim; the former is used"


@pytest.mark.parametrize("units, what", [(1, "metres"), (3, "microns"), (5, "code 5")])
def test_units(units: int, what: str) -> None:
    affine = scaled(5.5, 5.5, 5.5)
    assert only(with_header(affine, affine, units=units | 8)) == f"unit of length is {what}, taken as mm"
    assert Finding("ok", "lengths in mm") in check_scan(with_header(affine, affine, units=2 | 8))
    assert Finding("ok", "no unit of length, taken as mm") in check_scan(with_header(affine, affine, units=0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_missing_slices(axis: int) -> None:
    voxels = grey()
    np.moveaxis(voxels, axis, 0)[[0, 1, 9, 11, -1]] = 190  # those at the border are a border
    assert only(scan(voxels)) == f"2 slices of one value among the others, along axis {axis}: 9, 11"


def test_a_slice_with_one_other_voxel_is_not_missing() -> None:
    voxels = grey()
    voxels[9] = 190
    voxels[9, 3, 3] = 200
    assert doubts(scan(voxels)) == []


def test_masks_and_label_maps() -> None:
    mask = (grey() > 200).astype(np.float32)
    assert only(scan(mask)) == "2 grey values: looks like a mask or label map"
    labels = np.zeros(SHAPE, dtype=np.float32)
    # 18 of 20 neighbours along the first axis lie in one label
    labels[2:22, 2:26, 2:24] = np.kron(np.arange(1, 25).reshape(2, 12), np.ones((10, 2)))[:, :, None]
    assert only(scan(labels)) == "neighbours share one value nearly everywhere: looks like a label map"


def test_low_contrast() -> None:
    voxels = np.random.default_rng(0).integers(0, 8, SHAPE).astype(np.float32)
    bright = np.random.default_rng(1).choice(voxels.size, 60, replace=False)
    voxels.flat[bright] = 1000 + np.arange(60)
    assert only(scan(voxels)) == "8 grey values, apart from a few bright or dark voxels: low contrast"


def test_clipped_values() -> None:
    voxels = grey()
    high = np.percentile(voxels, 90)
    (finding,) = doubts(scan(voxels.clip(None, high)))
    share = 100 * (voxels >= high).sum() / (voxels > voxels.min()).sum()
    assert finding.what == f"{share:.0f} % of the voxels above the lowest value have the highest: clipped"


def test_kinds_of_scan() -> None:
    computed = grey()
    computed[:4] = -1000 - computed[:4]  # air around the head
    assert doubts(scan(computed)) == []
    assert check_scan(scan(computed))[7].what.endswith("CT in Hounsfield units")
    assert only(scan(grey() - 200)).endswith("% negative: normalised MR, or CT without its air")
    stripped = grey()
    stripped[:12] = 0
    assert check_scan(scan(stripped))[7].what.endswith("MR or other, 50 % are 0 (stripped or masked)")


def test_kind_that_was_declared() -> None:
    little_air = grey()
    little_air[0, 0, 0] = -1000
    assert only(scan(little_air)).endswith("low for MR, but not those of CT; taken as MR")
    assert check_scan(scan(little_air), ct=True)[7].what.endswith("CT in Hounsfield units, as declared")
    assert check_scan(scan(little_air), ct=False)[7].what.endswith("MR or other, as declared")
    (finding,) = [finding for finding in check_scan(scan(), ct=True) if finding.level == "warning"]
    assert finding.what.endswith("no air as in Hounsfield units; taken as CT, as declared")
    assert finding.fix == "leave out --ct, unless it is CT in Hounsfield units"


def test_what_was_doubtful_in_the_file_comes_first(tmp_path: Path) -> None:
    voxels = grey()
    voxels[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(voxels, scaled(5.5, 5.5, 5.5)), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.findings[0].what.startswith("1 voxels (0.0057 %) are NaN, infinite or beyond")
    assert check_scan(image)[0] == image.findings[0]


def test_axes_declared_anew() -> None:
    image = scan(affine=turned(12))
    repaired = reoriented(image, "lps")
    assert repaired.voxels is image.voxels
    np.testing.assert_allclose(repaired.affine[:3, :3], np.diag([-5.5, -5.5, 5.5]), atol=1e-12)
    np.testing.assert_allclose(repaired.spacing_mm, image.spacing_mm)
    (finding,) = repaired.findings
    assert finding.what == "axes declared to run to LPS, not to RAI: results have the declared affine"
    assert reoriented(image, "RAI").findings == ()
    middle = [11.5, 13.5, 12.5, 1]
    np.testing.assert_allclose(repaired.affine @ middle, image.affine @ middle)
    permuted = reoriented(scan(affine=scaled(1, 2, 3)), "SLA")  # first axis to superior, and so on
    assert permuted.affine[:3, :3].tolist() == [[0, -2, 0], [0, 0, 3], [1, 0, 0]]


@pytest.mark.parametrize("axcodes", ["", "LA", "LAL", "LAX", "RASS", "LRA", "+xy"])
def test_axes_that_are_none(axcodes: str) -> None:
    with pytest.raises(GeometryError, match=f"axes are declared as '{axcodes}'".replace("+", r"\+")):
        reoriented(scan(), axcodes)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.MGHImage])
@pytest.mark.parametrize("written", ["b.nii.gz", "b.mgz"])
def test_repaired_headers_are_written(tmp_path: Path, kind: type, written: str) -> None:
    source = tmp_path / ("a.mgz" if kind is nib.MGHImage else "a.nii")
    nib.save(kind(grey(), turned(30)), source)
    image = read_image(source, axcodes="PSR")
    write_image(tmp_path / written, image)
    file = nib.load(tmp_path / written)
    assert nib.aff2axcodes(file.affine) == ("P", "S", "R")
    np.testing.assert_allclose(file.affine, image.affine, atol=1e-4)
    assert (np.asarray(file.dataobj) == grey()).all()
    if kind is not nib.MGHImage and written == "b.nii.gz":
        assert type(file) is kind
        np.testing.assert_allclose(file.get_qform(), image.affine, atol=1e-4)
        assert (file.header["qform_code"], file.header["sform_code"]) == (1, 1)
        assert file.header.get_xyzt_units()[0] == "mm"
        assert Finding("ok", "sform and qform agree") in check_scan(read_image(tmp_path / written))


def test_axes_declared_where_the_header_says_nothing(tmp_path: Path) -> None:
    file = nib.Nifti1Image(grey(), None)
    file.header.set_zooms((1, 2, 3))
    nib.save(file, tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="codes are both 0.*or declare which way the axes run"):
        read_image(tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii", axcodes="LAS")
    assert image.affine.tolist() == [[-1, 0, 0, 11.5], [0, 2, 0, -27], [0, 0, 3, -37.5], [0, 0, 0, 1]]
