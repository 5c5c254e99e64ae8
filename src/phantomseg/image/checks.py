"""A scan looked over before work: what is as it should be, what is doubtful, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable

import nibabel as nib
import numpy as np

from phantomseg.image.finding import Finding
from phantomseg.image.header import quiet
from phantomseg.image.image import Image, check_affine
from phantomseg.image.values import check_values

SMALLEST_MM, LARGEST_MM = 15.0, 400.0  # longest axis of what can be a head, or a piece of one
SMALLEST_ANIMAL_MM = 3.0
PARTIAL_MM, LARGE_MM = 120.0, 300.0
FEWEST_SLICES = 10
FINE_MM, THICK_MM, COARSE_MM = 0.3, 6.0, 10.0
MOST_SHEAR_DEG = 1.0
FAR_MM = 1000.0
APART_MM = 1.0
UNITS = {0: "no unit", 1: "metres", 2: "mm", 3: "microns"}  # of the field xyzt_units


def check_scan(scan: Image, ct: bool | None = None, any_species: bool = False) -> tuple[Finding, ...]:
    """Everything that can be told of a scan without segmenting it; takes a fraction of a second.

    Findings of the level "ok" state a value that is as it should be; those of the file come first.

    Args:
        scan: from `read_image`.
        ct: whether it was said to be computed tomography, or not; by default, values tell.
        any_species: heads and voxels may be smaller than those of humans.

    >>> scan = Image(np.random.default_rng(0).normal(100, 9, (150, 180, 160)), np.diag([1, 1, 1, 1]))
    >>> [finding.what for finding in check_scan(scan) if finding.level == "ok"][0]
    'grid 150 × 180 × 160 voxels'
    """
    sizes = (_grid, _animal_spacing, _animal_view) if any_species else (_grid, _spacing, _view)
    checks: tuple[Callable[[Image], Finding], ...] = (*sizes, _orientation, _angles, _forms, _units)
    return (*scan.findings, *(check(scan) for check in checks), *check_values(scan.voxels, ct))


def _grid(scan: Image) -> Finding:
    what = f"grid {_times(scan.shape)} voxels"
    if min(scan.shape) < FEWEST_SLICES:
        return Finding("warning", f"{what}: few slices", "segment the volume with more slices, if there is one")
    return Finding("ok", what)


def _animal_spacing(scan: Image) -> Finding:
    return _spacing(scan, finest_mm=0.0)


def _spacing(scan: Image, finest_mm: float = FINE_MM) -> Finding:
    spacing = scan.spacing_mm
    what = f"spacing {_times(spacing)} mm"
    stored = _stored_spacing(scan)
    if not np.allclose(stored, spacing, rtol=0.01):
        fix = "repair the header if the picture of the labels looks stretched"
        return Finding("warning", f"{what} by the affine, but {_times(stored)} mm by pixdim; the former is used", fix)
    if spacing.max() > COARSE_MM:
        return Finding("warning", f"{what}: coarser than {COARSE_MM:g} mm", "trust none but the largest structures")
    if spacing.max() > THICK_MM:
        return Finding("warning", f"{what}: thick slices, small structures will be poor", "use a finer scan if any")
    if spacing.min() < finest_mm:
        fix = "see that it is in mm; bring the scan to 0.5 mm or coarser if it takes long"
        return Finding("warning", f"{what}: finer than {finest_mm:g} mm", fix)
    return Finding("ok", what)


def _stored_spacing(scan: Image) -> np.ndarray:
    header = scan.header
    return np.abs(header["pixdim"][1:4]) if isinstance(header, nib.Nifti1Header) else scan.spacing_mm


def _view(scan: Image) -> Finding:
    finding, size = _sized(scan, SMALLEST_MM, 0), scan.spacing_mm * scan.shape
    what = finding.what
    if finding.level == "error":
        return finding
    if size.min() < PARTIAL_MM:
        fix = "leave out volumes of structures that are cut, if any"
        return Finding("warning", f"{what}: part of a head, or an infant's", fix)
    if size.max() > LARGE_MM:
        return Finding("warning", f"{what}: large for a head", "crop the scan to the head if the labels are poor")
    return finding


def _animal_view(scan: Image) -> Finding:
    return _sized(scan, SMALLEST_ANIMAL_MM, 1)


def _sized(scan: Image, smallest_mm: float, digits: int) -> Finding:
    """Whether a field of view, told with so many digits, can be that of a head."""
    size = scan.spacing_mm * scan.shape
    what = f"field of view {_times(np.round(size, digits))} mm"
    if size.max() > LARGEST_MM or size.max() < smallest_mm:
        fix = "crop the scan to the head, or correct its voxel size"
        return Finding("error", f"{what}, wanted {smallest_mm:g} to {LARGEST_MM:g} mm", fix)
    return Finding("ok", what)


def _orientation(scan: Image) -> Finding:
    degrees = float(np.degrees(nib.affines.obliquity(scan.affine)).max())
    what = f"axes run to {', '.join(str(code) for code in nib.aff2axcodes(scan.affine))}"
    what += f", {degrees:.0f}° oblique" if degrees >= 0.5 else ""
    centre = nib.affines.apply_affine(scan.affine, (np.array(scan.shape) - 1) / 2)
    if np.abs(centre).max() > FAR_MM:
        what += f"; the middle lies {np.abs(centre).max() / 1000:.1f} m from the origin"
        return Finding("warning", what, "see that the affine is that of this scan")
    return Finding("ok", what)


def _angles(scan: Image) -> Finding:
    axes = scan.affine[:3, :3] / scan.spacing_mm
    cosines = (axes.T @ axes)[np.triu_indices(3, 1)]
    degrees = float(np.degrees(np.arcsin(np.abs(cosines).clip(0, 1))).max())
    if degrees > MOST_SHEAR_DEG:
        fix = "resample the scan to right angles (a tilted gantry shears it), if shapes matter"
        return Finding("warning", f"axes are {degrees:.1f}° off a right angle", fix)
    return Finding("ok", "axes at right angles")


def _forms(scan: Image) -> Finding:
    """Whether the two ways of a NIfTI header to place voxels agree."""
    header = scan.header
    if not isinstance(header, nib.Nifti1Header):
        return Finding("ok", "one affine")
    if not (header["qform_code"] > 0 and header["sform_code"] > 0):
        return Finding("ok", f"placed by the {'sform' if header['sform_code'] > 0 else 'qform'} alone")
    sform = header.get_sform()
    try:
        with quiet(), np.errstate(all="ignore"):
            qform = header.get_qform()
            check_affine(qform)
            codes = ["".join(str(code) for code in nib.aff2axcodes(form)) for form in (sform, qform)]
    except Exception:  # noqa: BLE001  # nibabel raises whatever its arithmetic does
        return Finding("warning", "qform is no rotation; the sform is used", "remove the qform from the header")
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(scan.shape) - 1)
    places = [nib.affines.apply_affine(form, corners) for form in (sform, qform)]
    apart = float(np.linalg.norm(places[0] - places[1], axis=1).max())
    if codes[0] != codes[1]:
        what = f"sform runs to {codes[0]} and qform to {codes[1]}; the sform is used"
        return Finding("warning", what, "find out which one has left and right as they are, and remove the other")
    if apart > APART_MM:
        what = f"sform and qform place a corner {apart:.1f} mm apart; the sform is used"
        return Finding("warning", what, "none, if the scan was registered to a template; else remove the wrong one")
    return Finding("ok", "sform and qform agree")


def _units(scan: Image) -> Finding:
    header = scan.header
    if not isinstance(header, nib.Nifti1Header):
        return Finding("ok", "lengths in mm")
    code = int(header["xyzt_units"]) & 7
    if code in (0, 2):
        return Finding("ok", "lengths in mm" if code else "no unit of length, taken as mm")
    what = f"unit of length is {UNITS.get(code, f'code {code}')}, taken as mm"
    return Finding("warning", what, "correct xyzt_units, and the voxel size if it is wrong")


def _times(numbers: object) -> str:
    return " × ".join(f"{number:.4g}" for number in np.asarray(numbers).tolist())
