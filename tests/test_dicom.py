"""Tiny DICOM series, written here, of which left and right can be told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command
import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless

from phantomseg.errors import ScanError
from phantomseg.image.checks import check_scan
from phantomseg.image.dicom import is_dicom_folder, read_dicom
from phantomseg.image.files import read_image, volume_count, write_image

ROWS, COLUMNS, SLICES = 3, 4, 5
AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]  # directions of a row and of a column
FIRST, STEP = np.array([-3.0, -20, 30]), np.array([0.0, 0, 3])  # towards left, posterior, superior


def pixels(number: int) -> np.ndarray:
    """100 a slice, 10 a row, 1 a column."""
    return (100 * number + 10 * np.arange(ROWS)[:, None] + np.arange(COLUMNS)).astype(np.int16)


def one_slice(number: int, position: np.ndarray, **changes: Any) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID, image.SeriesDescription, image.Modality = "1.2.3", "Head 3.0", "CT"
    image.InstanceNumber = SLICES - number  # counts from the other end
    image.ImageOrientationPatient = AXIAL
    image.ImagePositionPatient = list(position)
    image.PixelSpacing = [0.5, 2.0]  # between rows, between columns
    image.RescaleSlope, image.RescaleIntercept = 2, -1024
    image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = pixels(number).tobytes()
    for name, value in changes.items():
        setattr(image, name, value)
    return image


def save(folder: Path, number: int, image: Dataset) -> None:
    folder.mkdir(exist_ok=True)
    # the order of the names is none of the slices
    image.save_as(folder / f"IM{(number * 7) % 19:02d}", enforce_file_format=True)


def series(folder: Path, step: np.ndarray = STEP, **changes: Any) -> Path:
    for number in range(SLICES):
        save(folder, number, one_slice(number, FIRST + number * step, **changes))
    return folder


def expected() -> np.ndarray:
    """(columns, rows, slices) in Hounsfield units."""
    return np.stack([2.0 * pixels(number).T - 1024 for number in range(SLICES)], axis=-1)


def test_a_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "head.1")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    assert is_dicom_folder(folder)
    assert not is_dicom_folder(tmp_path)
    for number in range(30):  # which sort first
        (folder / f"A{number}.jpg").write_bytes(b"no image")
    assert is_dicom_folder(folder)
    assert volume_count(folder) == 1
    image = read_image(folder)
    assert image.voxels.dtype == np.float32
    assert (image.voxels == expected()).all()
    # columns run to the left from 3 mm right, rows to posterior from 20 mm anterior, slices up
    assert image.affine.tolist() == [[-2, 0, 0, 3], [0, -0.5, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]
    left = np.argwhere(image.voxels == 2 * 203 - 1024)[0]  # column 3, row 0, slice 2
    assert (image.affine @ [*left, 1])[:3].tolist() == [-3, 20, 36]  # 3 mm left of the middle
    assert [finding.what for finding in image.findings] == ["DICOM series 'Head 3.0' of 5 slices"]
    assert "values from -1024" in " ".join(finding.what for finding in check_scan(image))
    write_image(tmp_path / "a.nii.gz", image)
    file = nib.load(tmp_path / "a.nii.gz")
    assert (file.affine == image.affine).all() and (file.get_qform() == image.affine).all()
    assert file.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(file.header.get_zooms(), (2, 0.5, 3))


def test_slices_from_the_side(tmp_path: Path) -> None:
    image = read_dicom(series(tmp_path / "a", np.array([-3.0, 0, 0]), ImageOrientationPatient=SAGITTAL))
    assert nib.aff2axcodes(image.affine) == ("P", "I", "R")
    assert image.affine.tolist() == [[0, 0, 3, 3], [-2, 0, 0, 20], [0, -0.5, 0, 30], [0, 0, 0, 1]]
    assert (image.voxels == expected()).all()


def test_slices_in_the_other_order(tmp_path: Path) -> None:
    image = read_dicom(series(tmp_path / "a", -STEP))  # the first is the highest
    assert image.affine.tolist() == [[-2, 0, 0, 3], [0, -0.5, 0, 20], [0, 0, 3, 18], [0, 0, 0, 1]]
    assert (image.voxels == expected()[..., ::-1]).all()


def test_a_tilted_gantry(tmp_path: Path) -> None:
    image = read_dicom(series(tmp_path / "a", np.array([0, 1.0, 3.0])))
    assert image.affine[:, 2].tolist() == [0, -1, 3, 0]
    assert (image.voxels == expected()).all()  # nothing is resampled
    assert "axes are 18.4° off a right angle" in [finding.what for finding in check_scan(image)]
    write_image(tmp_path / "a.nii.gz", image)
    np.testing.assert_allclose(nib.load(tmp_path / "a.nii.gz").affine, image.affine, atol=1e-6)


def test_packed_pixels_and_none_of_the_scale(tmp_path: Path) -> None:
    for number in range(SLICES):
        image = one_slice(number, FIRST + number * STEP)
        del image.RescaleSlope, image.RescaleIntercept
        image.compress(RLELossless)
        save(tmp_path / "a", number, image)
    assert (read_dicom(tmp_path / "a").voxels == (expected() + 1024) / 2).all()


def item(**values: Any) -> list[Dataset]:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return [dataset]


def test_one_file_of_many_frames(tmp_path: Path) -> None:
    image = one_slice(0, FIRST)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedMRImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(image, name)
    image.SharedFunctionalGroupsSequence = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=AXIAL),
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 2.0]),
    )
    order = [2, 0, 1, 4, 3]
    image.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=list(FIRST + number * STEP)),
            PixelValueTransformationSequence=item(RescaleSlope=2, RescaleIntercept=-1024),
        )[0]
        for number in order
    ]
    image.NumberOfFrames = SLICES
    image.PixelData = b"".join(pixels(number).tobytes() for number in order)
    save(tmp_path / "a", 0, image)
    scan = read_image(tmp_path / "a")
    assert (scan.voxels == expected()).all()
    assert scan.affine.tolist() == [[-2, 0, 0, 3], [0, -0.5, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]


def test_uneven_gaps_are_told(tmp_path: Path) -> None:
    folder = series(tmp_path / "a")
    save(folder, 2, one_slice(2, FIRST + 2.1 * STEP))
    image = read_dicom(folder)
    assert image.affine[2].tolist() == [0, 0, 3, 30]
    assert image.findings[1].level == "warning"
    assert image.findings[1].what == "slices are 2.7 to 3.3 mm apart; 3 mm is used for all"


def two_series(folder: Path) -> None:
    save(folder, 9, one_slice(9, FIRST, SeriesInstanceUID="1.2.4", SeriesDescription="Scout"))


def one_missing(folder: Path) -> None:
    (folder / "IM14").unlink()  # the third


def one_twice(folder: Path) -> None:
    save(folder, 9, one_slice(2, FIRST + 2 * STEP))


def one_aside(folder: Path) -> None:
    save(folder, 2, one_slice(2, FIRST + 2 * STEP + [8, 0, 0]))


def one_cut(folder: Path) -> None:
    content = (folder / "IM14").read_bytes()
    (folder / "IM14").write_bytes(content[:-10])


def one_changed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: save(folder, 2, one_slice(2, FIRST + 2 * STEP, **changes))


def all_changed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: series(folder, **changes) and None


def all_but_one(folder: Path) -> None:
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "series": (two_series, r"a holds 2 series \(Head 3.0: 5, Scout: 1 images\), wanted one; give each a folder"),
    "missing": (one_missing, "a: slices are 3 to 6 mm apart, wanted even gaps; copy those that are missing"),
    "twice": (one_twice, "a: 1 slices lie where another does .*; convert the series with dcm2niix"),
    "aside": (one_aside, "a: a slice lies 8 mm off the line of the others"),
    "cut": (one_cut, "IM14 cannot be read as an image .*; copy or convert it again"),
    "one": (all_but_one, "a: series has 1 slice, wanted a volume"),
    "localizer": (one_changed(ImageOrientationPatient=SAGITTAL), "slices IM.. and IM14 differ in grid or direction"),
    "grid": (one_changed(Rows=4), "slices IM.. and IM14 differ in grid or direction"),
    "no position": (one_changed(ImagePositionPatient=None), "IM14 does not say where its pixels lie"),
    "no spacing": (one_changed(PixelSpacing=[0, 1]), "IM14 has a pixel spacing or directions that are none"),
    "directions": (one_changed(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "IM14 has a pixel spacing or directions"),
    "colours": (one_changed(SamplesPerPixel=3), "IM14 holds colours, wanted one number a pixel"),
    "mosaic": (one_changed(ImageType=["ORIGINAL", "MOSAIC"]), "IM14 holds many slices in one mosaic; convert"),
    "slope": (all_changed(RescaleSlope="1e300"), "a holds the value -1024 everywhere"),
    "intercept": (all_changed(RescaleIntercept="1e300"), "a holds no voxel that is a finite number"),
    "flat": (all_changed(RescaleSlope=0), "a holds the value -1024 everywhere"),
    "huge": (all_changed(Rows=65535, Columns=65535), "a has 65535 × 65535 × 5 voxels, which take 85.9 GB of memory"),
    "no image": (all_changed(Rows=None, Columns=None), "IM.. cannot be read as an image|holds no DICOM image"),
}


@pytest.mark.parametrize("case", BAD)
def test_series_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    folder = series(tmp_path / "a")
    spoil(folder)
    with pytest.raises(ScanError, match=message) as error:
        read_image(folder)
    assert "\n" not in str(error.value)


def test_folders_that_are_none_of_dicom(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="is a folder, wanted a scan"):
        read_image(tmp_path)
    with pytest.raises(ScanError, match="holds no DICOM image; give the folder of a series"):
        read_dicom(tmp_path)
    with pytest.raises(ScanError, match="has no volume 1; it holds one volume, number 0"):
        read_image(series(tmp_path / "a"), 1)


def test_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ScanError, match=r"needs pydicom; install it with: pip install 'phantomseg\[dicom\]'"):
        read_image(folder)


def test_one_image_by_itself(tmp_path: Path) -> None:
    folder = series(tmp_path / "a")
    (folder / "IM14").rename(tmp_path / "a.dcm")
    with pytest.raises(ScanError, match="a.dcm is one DICOM image; give the folder of its series instead"):
        read_image(tmp_path / "a.dcm")


def test_a_series_is_segmented(tmp_path: Path) -> None:
    head = command.head_scan((20, 22, 18)).astype(np.int16)
    for number in range(18):
        picture = {"Rows": 22, "Columns": 20, "PixelSpacing": [1, 1], "PixelData": head[:, :, number].T.tobytes()}
        save(tmp_path / "head", number, one_slice(number, FIRST + number * np.array([0, 0, 1]), **picture))
    model = command.tiny_model(tmp_path / "model")
    assert command.run("segment", tmp_path / "head", "-o", tmp_path / "out", "--model", model) == 0
    result = nib.load(tmp_path / "out" / "head_dseg.nii.gz")
    assert result.shape == (20, 22, 18)
    assert nib.aff2axcodes(result.affine) == ("L", "P", "S")
