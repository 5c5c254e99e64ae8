from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import command
import malformed
import phantom
import pytest

from phantomseg.errors import GeometryError, ScanError
from phantomseg.image.files import read_image

Capture = pytest.CaptureFixture[str]
SCAN = malformed.SCAN


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return command.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("case", malformed.SCANS)
def test_scans_that_cannot_be_used(tmp_path: Path, model: Path, capfd: Capture, case: str) -> None:
    name, make, message = malformed.SCANS[case]
    make(tmp_path / name)
    started = time.perf_counter()
    error = command.refused(capfd, tmp_path / "out", "segment", tmp_path / name, "--model", model)
    assert time.perf_counter() - started < 10
    assert error.count(str(tmp_path / name)) == 1
    assert re.search(message, error), error


@pytest.mark.parametrize("case", malformed.SCANS)
def test_no_claim_takes_memory(tmp_path: Path, case: str) -> None:
    name, make, _ = malformed.SCANS[case]
    make(tmp_path / name)
    tracemalloc.start()
    try:
        with contextlib.suppress(ScanError, GeometryError):  # those of a wrong size are read
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_many_kinds_of_bad_input() -> None:
    assert len(malformed.SCANS) >= 60


def test_memory_is_capped(tmp_path: Path) -> None:
    scan = phantom.save(tmp_path / "a.nii.gz", SCAN)  # 20 × 22 × 18 voxels of 4 bytes
    assert read_image(scan, most_bytes=31680).shape == SCAN.shape
    message = r"a.nii.gz has 20 × 22 × 18 voxels, which take 31.7 kB of memory, wanted at most 31.7 kB; crop it"
    with pytest.raises(ScanError, match=message):
        read_image(scan, most_bytes=31679)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists and cannot be read")
def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to("/proc/self/mem")
    with pytest.raises(ScanError, match=r"a.nii cannot be read as an image \(Input/output error\); copy or convert"):
        read_image(tmp_path / "a.nii")


def test_text_file_is_not_touched(tmp_path: Path, model: Path, capfd: Capture) -> None:
    good = phantom.save(tmp_path / "a.nii.gz", SCAN)
    (tmp_path / "out").write_bytes(malformed.TEXT)
    error = command.refused(capfd, tmp_path / "out", "segment", good, "--model", model)
    assert "out is a file, wanted a folder for the results; choose another name" in error
    assert (tmp_path / "out").read_text(encoding="utf-8") == "this is no scan\n"


@pytest.mark.parametrize(
    "flag, value, message",
    [
        ("--labels", "nothing", "no label set 'nothing'; choose one of border"),
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
    "other ids": (lambda p: described(p, label_ids=[0, 1]), "label set head has no id 1; wanted some of"),
    "fewer ids": (lambda p: described(p, label_ids=[0, 16]), "has 51 classes and 2 labels"),
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
    malformed.cut(0.5)(scans[1])
    assert command.run("segment", *scans, "-o", tmp_path / "out", "--model", model) == 1
    printed = capfd.readouterr()
    (error,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {scans[1]} cannot be read")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a_dseg.nii.gz", "c_dseg.nii.gz"} <= found
    assert not any(name.startswith("b") for name in found)
    (table,) = (tmp_path / "out").glob("volumes.?sv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3  # headings, a and c
    assert str(scans[0]) in printed.out and str(scans[2]) in printed.out


def test_two_scans_of_one_name(tmp_path: Path, model: Path, capfd: Capture) -> None:
    (tmp_path / "other").mkdir()
    scans = [phantom.save(tmp_path / name, SCAN) for name in ("a.nii.gz", "b.nii", "other/a.nii")]
    error = command.refused(capfd, tmp_path / "out", "segment", *scans, "--model", model)
    assert f"{scans[0]} and {scans[2]} would both be written to a_dseg.nii.gz; rename one" in error
