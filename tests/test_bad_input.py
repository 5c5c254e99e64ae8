from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import command
import nibabel as nib
import numpy as np
import phantom
import pytest

Capture = pytest.CaptureFixture[str]
SCAN = command.head_scan()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return command.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def patched(path: Path, offset: int, *values: float) -> Path:
    """An uncompressed scan with other numbers at one place of its header."""
    nib.save(nib.Nifti1Image(SCAN, np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    new = np.array(values, dtype="<f4").tobytes()
    raw[offset : offset + len(new)] = new
    path.write_bytes(raw)
    return path


def spoilt(value: float) -> np.ndarray:
    voxels = SCAN.copy()
    voxels[3, 3, 3:5] = value
    return voxels


def text_file(path: Path) -> None:
    path.write_text("this is no scan\n", encoding="utf-8")


def cut_in_half(path: Path) -> None:
    phantom.save(path, SCAN)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_shape(*shape: int) -> Callable[[Path], object]:
    return lambda path: phantom.save(path, np.ones(shape, dtype=np.float32), np.eye(4))


SCANS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.nii.gz", lambda path: None, "a.nii.gz does not exist or is no file; check the path"),
    "folder": ("a.nii.gz", lambda path: path.mkdir(), "does not exist or is no file"),
    "text": ("a.nii.gz", text_file, "cannot be read as an image .*; copy or convert it again"),
    "text, plain": ("a.nii", text_file, "cannot be read as an image"),
    "text, mgz": ("a.mgz", text_file, "cannot be read as an image"),
    "empty": ("a.nii.gz", lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "truncated": ("a.nii.gz", cut_in_half, "cannot be read as an image .*; copy or convert it again"),
    "truncated, plain": ("a.nii", cut_in_half, "cannot be read as an image .*; copy or convert it again"),
    "2-D": ("a.nii.gz", of_shape(5, 6), r"has shape \(5, 6\), wanted a volume of three axes"),
    "one slice": ("a.nii.gz", of_shape(5, 6, 1), r"has shape \(5, 6, 1\), wanted a volume of three axes"),
    "4-D": ("a.nii.gz", of_shape(5, 6, 7, 3), "holds 3 volumes, wanted one; split the file"),
    "5-D": ("a.nii.gz", of_shape(5, 6, 7, 1, 3), r"has shape \(5, 6, 7, 1, 3\), wanted a volume"),
    "zeros": ("a.nii.gz", lambda p: phantom.save(p, 0 * SCAN), "holds the value 0 everywhere; wanted an image"),
    "NaN": ("a.nii.gz", lambda p: phantom.save(p, spoilt(np.nan)), "2 voxels that are NaN or infinite; set them to 0"),
    "infinity": ("a.nii.gz", lambda p: phantom.save(p, spoilt(-np.inf)), "2 voxels that are NaN or infinite"),
    "complex": ("a.nii.gz", lambda p: phantom.save(p, SCAN.astype(np.complex64)), "holds complex64 values"),
    "no voxel size": ("a.nii", lambda p: patched(p, 80, 0.0), r"voxel size is \(0.0, 1.0, 1.0\) mm.*repair"),
    "voxel size NaN": ("a.nii", lambda p: patched(p, 84, np.nan), r"voxel size is \(1.0, nan, 1.0\) mm.*repair"),
    "no column": ("a.nii", lambda p: patched(p, 280, 0.0), r"voxel size is \(0.0, 1.0, 1.0\) mm.*repair"),
    "singular": ("a.nii", lambda p: patched(p, 280, 1, 1, 0, 0, 1, 1, 0), "affine is singular .*; repair the header"),
    "affine NaN": ("a.nii", lambda p: patched(p, 292, np.nan), "affine is not a finite 4 × 4 matrix; repair"),
    "suffix": ("a.png", text_file, "is not a .nii.gz, .nii, .mgz, .mgh file; convert it to NIfTI"),
    "huge": (
        "a.nii.gz",
        lambda p: phantom.save(p, SCAN, np.diag([30, 1, 1, 1])),
        r"\(600.0, 22.0, 18.0\) mm, wanted 15 to 400 mm",
    ),
}


@pytest.mark.parametrize("case", SCANS)
def test_scans_that_cannot_be_used(tmp_path: Path, model: Path, capfd: Capture, case: str) -> None:
    name, make, message = SCANS[case]
    make(tmp_path / name)
    error = command.refused(capfd, tmp_path / "out", "segment", tmp_path / name, "--model", model)
    assert str(tmp_path / name) in error
    assert re.search(message, error), error


def test_text_file_is_not_touched(tmp_path: Path, model: Path, capfd: Capture) -> None:
    good = phantom.save(tmp_path / "a.nii.gz", SCAN)
    text_file(tmp_path / "out")
    error = command.refused(capfd, tmp_path / "out", "segment", good, "--model", model)
    assert re.search("out cannot be read or written .*; check path, rights and disk", error)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "this is no scan\n"


@pytest.mark.parametrize(
    "flag, value, message",
    [
        ("--labels", "nothing", "no label set 'nothing'; choose one of brain"),
        ("--labels", "generation", "no merge from 'head' to 'generation'; shipped are"),
        ("--model", "nothing", "no model 'nothing'; give a model folder or one of"),
        ("--device", "toaster", "device 'toaster' is not available here; choose auto or one of cpu"),
    ],
)
def test_segment_options(tmp_path: Path, model: Path, capfd: Capture, flag: str, value: str, message: str) -> None:
    scans = [phantom.save(tmp_path / f"{name}.nii.gz", SCAN) for name in "ab"]
    error = command.refused(capfd, tmp_path / "out", "segment", *scans, "--model", model, flag, value)
    assert re.search(message, error)


def described(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps(content | changes), encoding="utf-8")


def junk_with_its_checksum(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"junk")
    described(folder, weights_sha256=hashlib.sha256(b"junk").hexdigest())


def half_the_weights(folder: Path) -> None:
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[: len(content) // 2])


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda p: (p / "model.json").unlink(), "lacks model.json; copy the whole folder"),
    "no weights": (lambda p: (p / "weights.safetensors").unlink(), "lacks weights.safetensors; copy the whole folder"),
    "half": (half_the_weights, "weights.safetensors is not the file that model.json describes.*; copy the whole"),
    "junk": (junk_with_its_checksum, r"is damaged \(.+\); copy the whole folder again"),
    "no JSON": (lambda p: (p / "model.json").write_text("{", encoding="utf-8"), r"is damaged \(.+\); copy"),
    "no text": (lambda p: (p / "model.json").write_bytes(b"\xff\xfe"), r"is damaged \(.+\); copy"),
    "list": (lambda p: (p / "model.json").write_text("[]", encoding="utf-8"), r"is damaged \(.+\); copy"),
    "no key": (lambda p: (p / "model.json").write_text("{}", encoding="utf-8"), r"is damaged \('labels'\); copy"),
    "network": (lambda p: described(p, network="nothing"), "no network 'nothing'"),
    "labels": (lambda p: described(p, labels="nothing"), "no label set 'nothing'"),
    "other ids": (lambda p: described(p, label_ids=[0, 1]), "its label set has changed"),
    "config": (lambda p: described(p, config=None), r"is damaged \(.+\); copy"),
    "unknown config": (lambda p: described(p, config={"depth": 3}), r"is damaged \(.+\); copy"),
    "other config": (lambda p: described(p, config=command.TINY | {"detail": 3}), r"is damaged \(.+\); copy"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_used(tmp_path: Path, model: Path, capfd: Capture, case: str) -> None:
    spoil, message = MODELS[case]
    spoil(shutil.copytree(model, tmp_path / "model"))
    scan = phantom.save(tmp_path / "a.nii.gz", SCAN)
    error = command.refused(capfd, tmp_path / "out", "segment", scan, "--model", tmp_path / "model")
    assert str(tmp_path / "model") in error
    assert re.search(message, error), error


def test_one_bad_scan_among_good_ones(tmp_path: Path, model: Path, capfd: Capture) -> None:
    scans = [phantom.save(tmp_path / f"{name}.nii.gz", SCAN) for name in "abc"]
    cut_in_half(scans[1])
    assert command.run("segment", *scans, "-o", tmp_path / "out", "--model", model) == 1
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"error: {scans[1]} cannot be read")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["a_dseg.nii.gz", "c_dseg.nii.gz", "volumes.csv"]
    rows = (tmp_path / "out" / "volumes.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["scan", str(scans[0]), str(scans[2])]
    assert str(scans[0]) in printed.out and str(scans[2]) in printed.out


def test_two_scans_of_one_name(tmp_path: Path, model: Path, capfd: Capture) -> None:
    (tmp_path / "other").mkdir()
    scans = [phantom.save(tmp_path / name, SCAN) for name in ("a.nii.gz", "b.nii", "other/a.nii")]
    error = command.refused(capfd, tmp_path / "out", "segment", *scans, "--model", model)
    assert f"{scans[0]} and {scans[2]} would both be written to a_dseg.nii.gz; rename one" in error
