from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import GeometryError, ScanError
from phantomseg.image.files import read_image, read_labels, scan_paths, stem, write_atomically, write_image
from phantomseg.image.image import Image

GEOMETRY = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "pixdim", "xyzt_units")
KINDS = {"a.nii": nib.Nifti1Image, "a.nii.gz": nib.Nifti1Image, "b.nii.gz": nib.Nifti2Image}


def oblique(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.9375, 0.9375, 1.2]
    affine[:3, 3] = rng.normal(size=3) * 80
    return affine


def grey(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def labels_beside(scan: Path, folder: Path) -> tuple[Image, Path]:
    """The scan, and a label map on its grid as the program would write it."""
    image = read_image(scan)
    path = folder / f"labels_{scan.name}"
    write_image(path, image.with_voxels((image.voxels > 0).astype(np.uint8)))
    return image, path


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("codes", [(1, 1), (0, 4), (2, 0), (1, 0), (0, 2)])  # of qform and sform
def test_nifti_geometry_comes_back_bit_for_bit(tmp_path: Path, name: str, codes: tuple[int, int]) -> None:
    file = KINDS[name](grey(), None)
    file.set_qform(oblique(1), code=codes[0])  # the two differ, as they do in files that were registered
    file.set_sform(oblique(2), code=codes[1])
    file.header.set_xyzt_units("mm", "sec")
    nib.save(file, tmp_path / name)
    image, path = labels_beside(tmp_path / name, tmp_path)
    before, after = nib.load(tmp_path / name), nib.load(path)
    assert type(after) is type(before) is KINDS[name]
    assert after.shape == before.shape == (4, 5, 6)
    assert after.get_data_dtype() == np.uint8
    assert (after.affine == before.affine).all() and (image.affine == before.affine).all()
    for field in GEOMETRY:
        assert after.header[field].tobytes() == before.header[field].tobytes(), field
    for method in ("get_qform", "get_sform"):
        assert (getattr(after, method)() == getattr(before, method)()).all()
    np.testing.assert_allclose(image.affine, oblique(2) if codes[1] else oblique(1), atol=1e-4)
    assert (read_labels(path).voxels == (before.get_fdata() > 0)).all()
    assert (read_image(tmp_path / name).voxels == grey()).all()


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("affine", [oblique(3), oblique(4), np.diag([-1.0, 1, 1, 1])], ids=["one", "two", "left"])
def test_mgz_geometry_comes_back_bit_for_bit(tmp_path: Path, name: str, affine: np.ndarray) -> None:
    nib.save(nib.MGHImage(grey(), affine), tmp_path / name)
    image, path = labels_beside(tmp_path / name, tmp_path)
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    after = read_labels(path)
    assert (after.affine == image.affine).all()
    assert after.header.get_data_dtype() == np.uint8
    assert (after.voxels == (grey() > 0)).all()
    assert (image.voxels == grey()).all()


def test_from_mgz_to_nifti(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(grey(), oblique()), tmp_path / "a.mgz")
    image = read_image(tmp_path / "a.mgz")
    write_image(tmp_path / "a.nii.gz", image)
    again = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-5)
    assert (again.voxels == image.voxels).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_and_big_endian_files_are_read_right(tmp_path: Path, order: str) -> None:
    stored = np.arange(-30, 30).reshape(3, 4, 5)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    file = nib.Nifti1Image(stored.astype(np.int16), oblique(), header)
    file.header.set_slope_inter(0.25, -3)
    nib.save(file, tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").header.endianness == order
    image, path = labels_beside(tmp_path / "a.nii", tmp_path)
    assert image.voxels.dtype == np.float32
    assert (image.voxels == 0.25 * stored - 3).all()
    after = nib.load(path)
    assert (after.dataobj.slope, after.dataobj.inter) == (1, 0)
    assert (np.asarray(after.dataobj) == (image.voxels > 0)).all()
    assert np.asarray(after.dataobj).dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_usual_kind_of_number(tmp_path: Path, dtype: type) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(values.astype(dtype), np.eye(4)), tmp_path / "a.nii.gz")
    assert read_image(tmp_path / "a.nii.gz").voxels.dtype == np.float32
    assert (read_image(tmp_path / "a.nii.gz").voxels == values).all()
    assert read_labels(tmp_path / "a.nii.gz").voxels.dtype == np.int32
    assert (read_labels(tmp_path / "a.nii.gz").voxels == values).all()


def test_one_volume_of_four_axes_is_a_scan(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(grey((4, 5, 6, 1)), oblique()), tmp_path / "a.nii.gz")
    image, path = labels_beside(tmp_path / "a.nii.gz", tmp_path)
    assert image.shape == nib.load(path).shape == (4, 5, 6)
    assert (image.voxels == grey((4, 5, 6))).all()


def test_extensions_are_left_out(tmp_path: Path) -> None:
    file = nib.Nifti1Image(grey(), oblique())
    file.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"name of a patient" * 100))
    nib.save(file, tmp_path / "a.nii")
    _, path = labels_beside(tmp_path / "a.nii", tmp_path)
    assert b"patient" in (tmp_path / "a.nii").read_bytes()
    assert b"patient" not in path.read_bytes()
    assert (read_labels(path).voxels == (grey() > 0)).all()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_voxel_sizes_that_are_none(tmp_path: Path, value: float, caplog: pytest.LogCaptureFixture) -> None:
    nib.save(nib.Nifti1Image(grey(), np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[84:88] = np.array(value, dtype="<f4").tobytes()  # pixdim of the second axis
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(GeometryError, match=rf"a.nii: voxel size is \(1.0, {value}, 1.0\) mm.*repair"):
        read_image(tmp_path / "a.nii")
    assert caplog.records == []  # one sentence is enough


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(grey(), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ScanError, match="not whole numbers"):
        read_labels(tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.uint8), np.eye(4)), tmp_path / "a.nii")
    assert read_labels(tmp_path / "a.nii").voxels.sum() == 0


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail(temporary: str) -> None:
        Path(temporary).write_text("half", encoding="utf-8")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(tmp_path / "a.csv", fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.csv").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(tmp_path / "a.csv", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "old"


def test_a_write_replaces_the_file_at_once(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.nii.gz"
    write_atomically(target, lambda temporary: Path(temporary).write_text("old", encoding="utf-8"))
    seen = []

    def write(temporary: str) -> None:
        assert Path(temporary).parent == target.parent and temporary.endswith(".nii.gz")
        Path(temporary).write_text("new", encoding="utf-8")
        seen.append(target.read_text(encoding="utf-8"))

    write_atomically(target, write)
    assert seen == ["old"] and target.read_text(encoding="utf-8") == "new"
    assert [p.name for p in target.parent.iterdir()] == ["a.nii.gz"]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_names_of_files(tmp_path: Path) -> None:
    names = {"sub-01.nii.gz": "sub-01", "a.b.nii": "a.b", "x/y.mgz": "y", "Z.NII.GZ": "Z", "n.mgh": "n", "t.txt": "t"}
    assert {name: stem(Path(name)) for name in names} == names
    for name in ("b.nii.gz", "a.mgz", "C.NII", "note.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.nii").mkdir()
    assert [p.name for p in scan_paths(tmp_path)] == ["C.NII", "a.mgz", "b.nii.gz"]
