"""Slices of a DICOM series put in order and placed in the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phantomseg.errors import ScanError
from phantomseg.image.finding import Finding

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts towards left, posterior, superior
SAME = 1e-3  # of a direction cosine, and of a spacing in mm
EVEN = 0.02  # of the usual gap; beyond, a warning
MISSING = 0.5  # of the usual gap; beyond, a slice is missing
STRAY_MM = 1.0
GROUPS = {  # where a file of several frames keeps what others keep at the top
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame of a DICOM file, with its place in the world of DICOM, towards left, posterior, superior."""

    path: Path
    frame: int
    shape: tuple[int, int]  # rows, columns
    first_mm: np.ndarray  # middle of the first pixel, (3,)
    along_mm: np.ndarray  # steps to the next column and to the next row, (3, 2)
    scale: tuple[float, float]  # slope and intercept

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the slice, (3,)."""
        across = np.cross(self.along_mm[:, 0], self.along_mm[:, 1])
        return np.asarray(across / np.linalg.norm(across))


def slices_of(dataset: Any, path: Path) -> list[Slice]:
    """The frames of one file: one, or as many as an enhanced file holds.

    Args:
        dataset: pydicom's, of the file at `path`.
        path: for messages.

    Raises:
        ScanError: a frame does not say where it lies, or holds colours.
    """
    if int(getattr(dataset, "SamplesPerPixel", 1)) != 1:
        raise ScanError(f"{path} holds colours, wanted one number a pixel; give the series of the scanner itself")
    if "MOSAIC" in getattr(dataset, "ImageType", ()):
        raise ScanError(f"{path} holds many slices in one mosaic; convert the series with dcm2niix first")
    frames = getattr(dataset, "PerFrameFunctionalGroupsSequence", None)
    if not frames:
        return [_slice([dataset], path, 0)]
    shared = getattr(dataset, "SharedFunctionalGroupsSequence", None) or [dataset]
    return [_slice([frame, shared[0], dataset], path, number) for number, frame in enumerate(frames)]


def ordered(slices: list[Slice]) -> list[Slice]:
    """Slices in order along their common normal.

    Raises:
        ScanError: fewer than two, different grids or directions, or two at one place.
    """
    if len(slices) < 2:
        raise ScanError(f"series has {len(slices)} slice, wanted a volume; give the folder of the whole series")
    one = slices[0]
    for other in slices:
        if other.shape != one.shape or not np.allclose(other.along_mm, one.along_mm, atol=SAME, rtol=SAME):
            raise ScanError(
                f"slices {one.path.name} and {other.path.name} differ in grid or direction; take away those that are "
                "no part of the volume, such as a localizer"
            )
    places = np.array([part.first_mm @ one.normal for part in slices])
    order = np.argsort(places, kind="stable")
    gaps = np.diff(places[order])
    if (gaps < SAME).any():
        count = int((gaps < SAME).sum())
        raise ScanError(
            f"{count} slices lie where another does (several times, echoes or copies); convert the series with "
            "dcm2niix, and give one volume"
        )
    return [slices[n] for n in order]


def place(slices: list[Slice]) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Affine from (column, row, slice) to R, A, S in mm, and what is doubtful in it; slices are in order.

    Slices that a tilted gantry shifted against each other stay where they are: the affine is oblique then.

    Raises:
        ScanError: a slice is missing, or lies off the line of the others.
    """
    places = np.array([part.first_mm for part in slices])  # (K, 3)
    gaps = np.diff(places @ slices[0].normal)
    usual = float(np.median(gaps))
    if (np.abs(gaps - usual) > MISSING * usual).any():
        raise ScanError(
            f"slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart, wanted even gaps; copy those that are missing"
        )
    step = (places[-1] - places[0]) / (len(slices) - 1)
    stray = np.linalg.norm(places - places[0] - np.arange(len(slices))[:, None] * step, axis=1).max()
    if stray > max(STRAY_MM, usual):
        raise ScanError(f"a slice lies {stray:.3g} mm off the line of the others; convert the series with dcm2niix")
    lps = np.eye(4)
    lps[:3, :2], lps[:3, 2], lps[:3, 3] = slices[0].along_mm, step, places[0]
    if (np.abs(gaps - usual) <= EVEN * usual).all():
        return TO_RAS @ lps, ()
    what = f"slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart; {np.linalg.norm(step):.3g} mm is used for all"
    return TO_RAS @ lps, (Finding("warning", what, "measure along the slices with care"),)


def _slice(places: list[Any], path: Path, frame: int) -> Slice:
    position, orientation = _look_up(places, "ImagePositionPatient"), _look_up(places, "ImageOrientationPatient")
    spacing = _look_up(places, "PixelSpacing")
    if not (_numbers(position, 3) and _numbers(orientation, 6) and _numbers(spacing, 2)):
        raise ScanError(f"{path} does not say where its pixels lie; give the series of the scanner itself")
    directions = np.array(orientation, dtype=float).reshape(2, 3).T
    rows_apart, columns_apart = (float(s) for s in spacing)
    if min(rows_apart, columns_apart) <= 0 or not np.allclose(directions.T @ directions, np.eye(2), atol=0.01):
        raise ScanError(f"{path} has a pixel spacing or directions that are none; export the series again")
    slope, inter = (_look_up(places, key) for key in ("RescaleSlope", "RescaleIntercept"))
    return Slice(
        path=path,
        frame=frame,
        shape=(int(places[-1].Rows), int(places[-1].Columns)),
        first_mm=np.array(position, dtype=float),
        along_mm=directions * [columns_apart, rows_apart],
        scale=(1.0 if slope in (None, "") else float(slope), 0.0 if inter in (None, "") else float(inter)),
    )


def _look_up(places: list[Any], keyword: str) -> Any:
    for place in places:
        group = getattr(place, GROUPS[keyword], None)
        value = getattr(group[0] if group else place, keyword, None)
        if value is not None:
            return value
    return None


def _numbers(values: Any, count: int) -> bool:
    return values is not None and len(values) == count and bool(np.isfinite(np.array(values, dtype=float)).all())
