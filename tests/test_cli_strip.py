"""Every flag of `phantomseg strip`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import bright
import command
import lively
import numpy as np
import phantom
import pytest

pytestmark = pytest.mark.usefixtures("same_threads")
Capture = pytest.CaptureFixture[str]
PLAIN = ("--no-report", "--device", "cpu", "--threads", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright.model(tmp_path_factory.mktemp("model") / "bright")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return bright.save(tmp_path / "scan.nii.gz", bright.ball(24, 2), 2.0)


def stripped(scan: Path, model: Path, *flags: object) -> Path:
    out = scan.parent / "out"
    assert command.run("strip", scan, "-o", out, "--model", model, *PLAIN, *flags) == 0
    return out


def manifest(out: Path, name: str = "scan") -> dict:
    return json.loads((out / f"{name}_manifest.json").read_text(encoding="utf-8"))


def mask(out: Path, name: str = "scan") -> np.ndarray:
    return bright.voxels(out / f"{name}_mask.nii.gz") > 0


def test_strip_writes_mask_and_brain(scan: Path, model: Path, capfd: Capture) -> None:
    out = scan.parent / "results"
    words = ("--model", model, "--no-report", "--device", "cpu", "--threads", 1)
    assert command.run("strip", scan, "--output", out, *words) == 0 == command.run("strip", scan, "-o", out, *words)
    own = {f"scan_{ending}" for ending in
           ("mask.nii.gz", "brain.nii.gz", "volumes.tsv", "volumes.json", "manifest.json")}  # fmt: skip
    assert own <= {path.name for path in out.iterdir()} and "scan_mask.nii.gz" in capfd.readouterr().out
    voxels, inside = bright.voxels(scan), mask(out)
    assert np.array_equal(bright.voxels(out / "scan_brain.nii.gz"), np.where(inside, voxels, 0))
    with open(out / "volumes.tsv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert float(row["brain"]) == pytest.approx(8 * inside.sum(), abs=0.1)
    assert manifest(out)["structures"][0]["name"] == "brain"


def test_strip_model(scan: Path, model: Path, capfd: Capture) -> None:
    assert stripped(scan, model).is_dir()
    labels = lively.model(scan.parent / "labels")
    assert command.run("strip", scan, "-o", scan.parent / "b", "--model", labels, *PLAIN) == 0
    assert "nothing" in command.refused(capfd, scan.parent / "c", "strip", scan, "--model", "nothing", *PLAIN)


def test_strip_species(scan: Path, model: Path, capfd: Capture) -> None:
    out = stripped(scan, model, "--species", "macaque")
    assert manifest(out)["options"]["species"] == "macaque"
    error = command.refused(capfd, scan.parent / "b", "strip", scan, "--model", model, "--species", "elf", *PLAIN)
    assert "species is 'elf', wanted auto, human" in error


def test_strip_keep_stripped(tmp_path: Path, model: Path) -> None:
    away = np.sqrt((((np.indices((40,) * 3) - 19.5) * 4.0) ** 2).sum(0))
    voxels = np.select([away < 60, away < 64], [200.0, 60.0], 0.0).astype(np.float32)
    scan = bright.save(tmp_path / "scan.nii.gz", voxels, 4.0)
    assert np.array_equal(mask(stripped(scan, model)), voxels > 0)
    assert np.array_equal(mask(stripped(scan, model, "--keep-stripped")), voxels > 0)
    assert mask(stripped(scan, model, "--no-keep-stripped")).sum() < 1.05 * (voxels > 100).sum()


def test_strip_border(scan: Path, model: Path, capfd: Capture) -> None:
    at_surface = mask(stripped(scan, model)).sum()
    assert mask(stripped(scan, model, "--border", 2)).sum() > at_surface
    assert mask(stripped(scan, model, "--border", -2)).sum() < at_surface
    error = command.refused(capfd, scan.parent / "b", "strip", scan, "--model", model, "--border", "nan", *PLAIN)
    assert "border is nan mm" in error
    words = ("strip", scan, "-o", scan.parent / "far", "--model", model, "--border", 99, *PLAIN)
    assert command.run(*words) == 2 and "border is 99 mm" in capfd.readouterr().err


def test_strip_distance(scan: Path, model: Path) -> None:
    out = stripped(scan, model, "--distance")
    distance = bright.voxels(out / "scan_distance.nii.gz")
    assert distance.dtype == np.float32 and np.array_equal(distance < 0, mask(out))
    assert not (stripped(scan, model, "--no-distance") / "scan_distance.nii.gz").exists()


def test_strip_report_and_overlay(scan: Path, model: Path) -> None:
    out = scan.parent / "pages"
    words = ("--model", model, "--device", "cpu", "--threads", 1)
    assert command.run("strip", scan, "-o", out, "--report", "--overlay", *words) == 0
    assert (out / "scan_overlay.png").is_file()
    assert "brain" in (out / "scan_report.html").read_text(encoding="utf-8") and (out / "report.html").is_file()
    assert not (stripped(scan, model, "--no-overlay", "--no-report") / "report.html").exists()


def test_strip_participant_and_session(tmp_path: Path, model: Path) -> None:
    dataset = tmp_path / "study"
    for sub, ses in (("1", "a"), ("1", "b"), ("2", "a")):
        folder = dataset / f"sub-{sub}" / f"ses-{ses}" / "anat"
        folder.mkdir(parents=True)
        bright.save(folder / f"sub-{sub}_ses-{ses}_T1w.nii.gz", bright.ball(24, 2), 2.0)
    (dataset / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}', encoding="utf-8")
    out = tmp_path / "out"
    words = ("--participant", "1", "--session", "b", "--distance")
    assert command.run("strip", dataset, "-o", out, "--model", model, *PLAIN, *words) == 0
    anat = out / "sub-1" / "ses-b" / "anat"
    images = sorted(path.name for path in anat.glob("*.nii.gz"))
    assert images == ["sub-1_ses-b_desc-brain_T1w.nii.gz", "sub-1_ses-b_label-brain_distance.nii.gz",
                      "sub-1_ses-b_label-brain_mask.nii.gz"]  # fmt: skip
    sidecar = json.loads((anat / "sub-1_ses-b_label-brain_distance.json").read_text(encoding="utf-8"))
    assert sidecar["Units"] == "mm" and sidecar["Sources"] == ["bids:raw:sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz"]
    assert sorted(path.name for path in out.glob("sub-*")) == ["sub-1"]


def test_strip_volume(tmp_path: Path, model: Path) -> None:
    one = bright.ball(24, 2)
    scan = bright.save(tmp_path / "scan.nii.gz", np.stack([one, one, one], axis=-1), 2.0)
    out = stripped(scan, model, "--volume", 2)
    assert (out / "scan_volume-2_mask.nii.gz").is_file() and not (out / "scan_volume-1_mask.nii.gz").exists()


def test_strip_ct_and_reorient(scan: Path, model: Path) -> None:
    assert mask(stripped(scan, model, "--no-ct")).any()
    out = stripped(scan, model, "--ct", "--reorient", "RAS")
    assert manifest(out)["options"]["ct"] is True and manifest(out)["options"]["axcodes"] == "RAS"


def test_strip_resume(scan: Path, model: Path, capfd: Capture) -> None:
    out = stripped(scan, model, "--resume")
    before = manifest(out)["finished"]
    stripped(scan, model)
    assert "1 of 1 finished before" in capfd.readouterr().out and manifest(out)["finished"] == before
    stripped(scan, model, "--no-resume")
    assert "finished before" not in capfd.readouterr().out
    stripped(scan, model, "--border", 1)
    assert "finished before" not in capfd.readouterr().out


def test_strip_max_memory(scan: Path, model: Path, capfd: Capture) -> None:
    words = ("strip", scan, "-o", scan.parent / "small", "--model", model, "--max-memory", 0.1, *PLAIN)
    assert command.run(*words) == 2 and "--max-memory" in capfd.readouterr().err


def test_strip_device_and_threads(scan: Path, model: Path, capfd: Capture) -> None:
    words = ("strip", scan, "--model", model, "--no-report", "--device", "toaster", "--threads", 1)
    assert "device 'toaster' is not available" in command.refused(capfd, scan.parent / "b", *words)


def test_masks_and_label_maps_never_replace_each_other(scan: Path, model: Path, capfd: Capture) -> None:
    out = stripped(scan, model)
    labels = lively.model(scan.parent / "labels")
    words = ("--model", labels, "--no-report", "--device", "cpu", "--threads", 1)
    assert command.run("segment", scan, "-o", out, *words) == 2
    assert "holds results of label set 'mask', wanted 'freesurfer'; choose another folder" in capfd.readouterr().err
    assert command.run("segment", scan, "-o", scan.parent / "d", "--model", model, "--no-report") == 2
    assert "no merge from 'mask' to 'freesurfer'" in capfd.readouterr().err


def test_one_bad_scan_does_not_stop_the_others(tmp_path: Path, model: Path, capfd: Capture) -> None:
    ward = tmp_path / "ward"
    ward.mkdir()
    bright.save(ward / "a.nii.gz", bright.ball(24, 2), 2.0)
    (ward / "b.nii.gz").write_bytes(b"no scan")
    phantom.save(ward / "c.nii.gz", np.zeros((30, 30, 30), np.float32))
    assert command.run("strip", ward, "-o", tmp_path / "out", "--model", model, *PLAIN) == 1
    errors = capfd.readouterr().err
    assert "b.nii.gz" in errors and "Traceback" not in errors
    assert (tmp_path / "out" / "a_mask.nii.gz").is_file()


def test_strip_csf(tmp_path: Path, model: Path, capfd: Capture) -> None:
    away = np.sqrt((((np.indices((40,) * 3) - 19.5) * 4.0) ** 2).sum(0))
    voxels = np.select([away < 52, away < 64], [200.0, 100.0], 0.0).astype(np.float32)
    scan, fluid = bright.save(tmp_path / "scan.nii.gz", voxels, 4.0), bright.fluid_model(tmp_path / "fluid")
    whole = mask(stripped(scan, fluid, "--csf"))
    assert np.array_equal(whole, voxels > 0)
    tissue = mask(stripped(scan, fluid, "--no-csf"))
    assert 2 * (tissue & (voxels > 150)).sum() / (tissue.sum() + (voxels > 150).sum()) > 0.95
    error = command.refused(capfd, tmp_path / "b", "strip", scan, "--model", model, "--no-csf", *PLAIN)
    assert "does not tell fluid from the brain; choose --model universal, or keep the fluid" in error


def test_every_flag_is_tested() -> None:
    tests = dict.fromkeys(("scans", "output"), test_strip_writes_mask_and_brain)
    tests |= {"species": test_strip_species, "border": test_strip_border, "distance": test_strip_distance}
    tests |= dict.fromkeys(("report", "overlay"), test_strip_report_and_overlay)
    tests |= dict.fromkeys(("participant", "session"), test_strip_participant_and_session)
    tests |= {"model": test_strip_model, "volume": test_strip_volume, "resume": test_strip_resume}
    tests |= dict.fromkeys(("ct", "reorient"), test_strip_ct_and_reorient)
    tests |= {"max_memory": test_strip_max_memory, "keep_stripped": test_strip_keep_stripped}
    tests |= {"csf": test_strip_csf}
    tests |= dict.fromkeys(("device", "threads"), test_strip_device_and_threads)
    command.check_every_flag_is_tested("strip", tests)
