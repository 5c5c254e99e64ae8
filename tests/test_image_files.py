from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import GeometryError, ScanError
from phantomseg.image import voxels
from phantomseg.image.files import (
    read_image,
    read_labels,
    scan_paths,
    stem,
    volume_count,
    write_atomically,
    write_image,
)
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


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz"])
def test_one_of_several_volumes(tmp_path: Path, name: str) -> None:
    several = grey((4, 5, 6, 3))
    kind = nib.MGHImage if name == "a.mgz" else nib.Nifti1Image
    nib.save(kind(several, oblique()), tmp_path / name)
    assert volume_count(tmp_path / name) == 3
    for number in range(3):
        image = read_image(tmp_path / name, number)
        assert (image.voxels == several[..., number]).all()
        np.testing.assert_allclose(image.affine, oblique(), atol=1e-4)
        write_image(tmp_path / "one.nii.gz", image)
        assert volume_count(tmp_path / "one.nii.gz") == 1
        assert (read_image(tmp_path / "one.nii.gz", 0).voxels == several[..., number]).all()
    with pytest.raises(ScanError, match="holds 3 volumes, wanted one; say which volume, from 0 to 2"):
        read_image(tmp_path / name)
    for number in (3, -1):
        with pytest.raises(ScanError, match=f"has no volume {number}; it holds 3 volumes, from 0 to 2"):
            read_image(tmp_path / name, number)
    with pytest.raises(ScanError, match="has no volume 1; it holds one volume, number 0"):
        read_image(tmp_path / "one.nii.gz", 1)


def test_one_volume_of_labels(tmp_path: Path) -> None:
    labels = np.arange(24 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    assert (read_labels(tmp_path / "a.nii.gz", 1).voxels == labels[..., 1]).all()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_are_held_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxels, "SLAB_VOXELS", 2**10)
    stored = np.arange(64**3 * 4).astype(np.int16).reshape(64, 64, 64, 4)
    file = nib.Nifti1Image(stored, np.eye(4))
    file.header.set_slope_inter(0.5, 1)
    nib.save(file, tmp_path / name)
    read_image(tmp_path / name, 0)  # what is imported and kept by then is not counted
    tracemalloc.start()
    image = read_image(tmp_path / name, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (image.voxels == 0.5 * stored[..., 3] + 1).all()
    assert peak < 2.2 * image.voxels.nbytes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e31, -1e300])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_that_are_no_numbers_take_the_lowest_value(tmp_path: Path, value: float, name: str) -> None:
    values = np.arange(2.0, 26).reshape(2, 3, 4)
    values[0, 0, 0] = values[1, 2, 3] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.voxels[0, 0, 0] == image.voxels[1, 2, 3] == 3
    assert image.voxels.flatten()[1:-1].tolist() == list(range(3, 25))
    (finding,) = image.findings
    assert finding.level == "warning"
    assert finding.what == "2 voxels (8.3 %) are NaN, infinite or beyond 1e+30; the lowest value is taken there"


def test_scans_that_are_right_have_no_findings(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(grey(), np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.MGHImage(grey(), np.eye(4)), tmp_path / "a.mgz")
    assert read_image(tmp_path / "a.nii.gz").findings == read_image(tmp_path / "a.mgz").findings == ()


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.MGHImage])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.mgh"])
@pytest.mark.parametrize("packed", [True, False])
def test_content_tells_more_than_a_name(tmp_path: Path, kind: type, name: str, packed: bool) -> None:
    content = kind(grey(), oblique()).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    image = read_image(tmp_path / name)
    assert (image.voxels == grey()).all()
    np.testing.assert_allclose(image.affine, oblique(), atol=1e-4)


def test_what_follows_a_packed_scan(tmp_path: Path) -> None:
    content = gzip.compress(nib.Nifti1Image(grey(), np.eye(4)).to_bytes())
    (tmp_path / "a.nii.gz").write_bytes(content + b"\0" * 512)  # padding is no part of it, and harmless
    assert read_image(tmp_path / "a.nii.gz").findings == ()
    (tmp_path / "a.nii.gz").write_bytes(content + b"garbage")
    image = read_image(tmp_path / "a.nii.gz")
    assert (image.voxels == grey()).all()
    assert [finding.what for finding in image.findings] == ["bytes that are no part of the scan follow its end"]


def with_bytes(path: Path, at: int, new: bytes) -> Path:
    raw = bytearray(nib.Nifti1Image(grey(), np.eye(4)).to_bytes())
    raw[at : at + len(new)] = new
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    "at, new",
    [
        (148, "Räntgen é".encode("latin-1")),  # description
        (108, struct.pack("<f", 0)),  # offset of the voxels: not stated
        (76, struct.pack("<f", 0)),  # side of the qform: not stated
        (112, struct.pack("<ff", np.nan, np.nan)),  # slope and intercept: not stated
        (112, struct.pack("<ff", 0, 7)),
    ],
)
def test_what_does_no_harm(tmp_path: Path, at: int, new: bytes) -> None:
    image = read_image(with_bytes(tmp_path / "a.nii", at, new))
    assert (image.voxels == grey()).all()
    assert image.findings == ()


@pytest.mark.parametrize("size", [2**31 - 1, 0, -16])
def test_extensions_of_no_size(tmp_path: Path, size: int) -> None:
    file = nib.Nifti1Image(grey(), np.eye(4))
    file.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 24))
    raw = bytearray(file.to_bytes())
    raw[352:356] = struct.pack("<i", size)
    (tmp_path / "a.nii").write_bytes(raw)
    assert (read_image(tmp_path / "a.nii").voxels == grey()).all()


def test_bits_that_do_not_fit_the_kind_of_number(tmp_path: Path) -> None:
    image = read_image(with_bytes(tmp_path / "a.nii", 72, struct.pack("<h", 16)))
    assert (image.voxels == grey()).all()
    (finding,) = image.findings
    assert finding.what == "header claims 16 bits a voxel, though float32 has 32; the latter is used"


def test_header_of_another_grid_is_not_used(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(grey(), oblique()), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    affine = image.affine.copy()
    affine[:3, 3] += 5
    write_image(tmp_path / "b.nii.gz", Image(image.voxels, affine, image.header))
    np.testing.assert_allclose(read_image(tmp_path / "b.nii.gz").affine, affine, atol=1e-4)


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
    (tmp_path / "series.1").mkdir()
    assert stem(tmp_path / "series.1") == "series.1"
    assert [p.name for p in scan_paths(tmp_path)] == ["C.NII", "a.mgz", "b.nii.gz"]
