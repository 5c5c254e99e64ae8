"""Every flag of `phantomseg segment`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import command
import lively
import nibabel as nib
import numpy as np
import phantom
import pytest
import torch

from phantomseg.image.image import Image
from phantomseg.inference import segment as segmenting
from phantomseg.inference.memory import REFINE_BYTES
from phantomseg.labels import label_set, merge
from phantomseg.network.model import load_model
from phantomseg.network.openvino_import import openvino_available

pytestmark = pytest.mark.usefixtures("same_threads")
# volumes this small are slower on several threads, and not worth a graph of their own
QUICK = ("--backend", "torch", "--device", "cpu", "--threads", 1)
PLAIN = ("--no-report", *QUICK)
Capture = pytest.CaptureFixture[str]
LEFT_POSTERIOR = np.array([[-1.0, 0, 0, 9], [0, -1.2, 0.1, 8], [0, 0.1, 1.4, -11], [0, 0, 0, 1]])
COLOURS = ["colours_freesurfer.txt", "colours_itksnap.txt", "colours_slicer.ctbl"]
SHARED = [*COLOURS, "volumes.json", "volumes.tsv"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively.model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def dull(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which no structure falls to pieces, so that none are cut off."""
    return command.tiny_model(tmp_path_factory.mktemp("model") / "dull")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return phantom.save(tmp_path / "scan.nii.gz", command.head_scan(), LEFT_POSTERIOR)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def of_one(*endings: str, name: str = "scan") -> list[str]:
    """What is written of one scan, and of all."""
    usual = ("dseg.nii.gz", "manifest.json", "volumes.json", "volumes.tsv")
    return sorted([*SHARED, *(f"{name}_{ending}" for ending in (*usual, *endings))])


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def volumes(folder: Path, labels: str = "freesurfer") -> np.ndarray:
    (row,) = table(folder / "volumes.tsv")
    return np.array([float(row[name]) for name in label_set(labels).names[1:]])


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def options(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["options"])


def test_segment_writes_label_maps_on_the_grid_of_each_scan(tmp_path: Path, model: Path, capfd: Capture) -> None:
    scans = [phantom.save(tmp_path / "a.nii.gz", command.head_scan(), LEFT_POSTERIOR)]
    nib.save(nib.MGHImage(command.head_scan((17, 20, 19)), np.eye(4)), tmp_path / "b.mgz")
    scans.append(tmp_path / "b.mgz")
    for number, flag in enumerate(("--output", "-o")):
        out = tmp_path / str(number) / "new"
        assert command.run("segment", *scans, flag, out, "--model", model, *PLAIN) == 0
        assert files(out) == sorted({*of_one(name="a"), *of_one(name="b")})
        for path, name in zip(scans, "ab", strict=True):
            result = nib.load(out / f"{name}_dseg.nii.gz")
            assert result.shape == nib.load(path).shape
            np.testing.assert_allclose(result.affine, nib.load(path).affine, atol=1e-6)
            assert len(np.unique(voxels(out / f"{name}_dseg.nii.gz"))) > 5
        assert (nib.load(out / "a_dseg.nii.gz").affine == nib.load(scans[0]).affine).all()
        rows = table(out / "volumes.tsv")
        assert [(row["name"], row["scan"]) for row in rows] == [("a", str(scans[0])), ("b", str(scans[1]))]
        shared = ["name", "scan", "volume", "total intracranial volume", "quality"]
        assert list(rows[0]) == [*shared, *label_set("freesurfer").names[1:]]
        printed = capfd.readouterr().out
        written = [f"{name}_{end}" for name in "ab" for end in ("dseg.nii.gz", "volumes.tsv", "manifest.json")]
        assert all(str(path) in printed for path in (*scans, *(out / name for name in written)))


@pytest.mark.parametrize("labels", ["freesurfer", "siam", "tissue", "brain", "head"])
def test_segment_labels(tmp_path: Path, dull: Path, scan: Path, labels: str) -> None:
    arguments = ("segment", scan, "--model", dull, *PLAIN)
    assert command.run(*arguments, "-o", tmp_path / "out", "--labels", labels) == 0
    values = np.unique(voxels(tmp_path / "out" / "scan_dseg.nii.gz"))
    assert set(values.tolist()) <= set(label_set(labels).ids.tolist())
    # probabilities are added before a label is chosen, so the volumes of the finest set add up to those of any other
    assert command.run(*arguments, "-o", tmp_path / "fine", "--labels", "head") == 0
    expected = np.zeros(len(label_set(labels)))
    np.add.at(expected, merge("head", labels).channels[1:], volumes(tmp_path / "fine", "head"))
    np.testing.assert_allclose(volumes(tmp_path / "out", labels), expected[1:], rtol=0.02, atol=1)


def test_segment_model(tmp_path: Path, model: Path, scan: Path) -> None:
    other = lively.model(tmp_path / "other", seed=1)
    for folder, out in ((model, "a"), (model, "b"), (other, "c")):
        assert command.run("segment", scan, "-o", tmp_path / out, "--model", folder, *PLAIN) == 0
    assert (volumes(tmp_path / "a") == volumes(tmp_path / "b")).all()
    assert (volumes(tmp_path / "a") != volumes(tmp_path / "c")).any()


def test_segment_refine(tmp_path: Path, dull: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("phantomseg.inference.segment.refine", lambda *given: called.append(given))
    path = phantom.save(
        tmp_path / "scan.nii.gz", np.random.default_rng(0).uniform(1, 2, (32, 32, 32)).astype(np.float32)
    )
    for flag in ("--refine", "--no-refine"):
        assert command.run("segment", path, "-o", tmp_path / flag, "--model", dull, flag, *PLAIN) == 0
    options = [json.loads((tmp_path / flag / "scan_manifest.json").read_text())["options"]["refine"]
               for flag in ("--refine", "--no-refine")]  # fmt: skip
    assert options == [True, False] and len(called) == 1


@pytest.mark.parametrize("thick", [False, True])
def test_refining_is_told_of_slices_size_and_memory(dull: Path, monkeypatch: pytest.MonkeyPatch, thick: bool) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr("phantomseg.inference.segment.refine", lambda *given: told.update(refine=given[3:]))
    plan = segmenting.plan_tiles
    monkeypatch.setattr(segmenting, "plan_tiles", lambda *given: told.update(bytes=given[4]) or plan(*given))
    voxels = np.random.default_rng(0).uniform(1, 2, (64, 64, 24 if thick else 64)).astype(np.float32)
    segmenting.segment(Image(voxels, np.diag([1.0, 1.0, 3.0 if thick else 1.0, 1.0])), load_model(dull))
    assert told == {"refine": (thick, 1.0, False), "bytes": REFINE_BYTES}


def test_segment_flip(tmp_path: Path, dull: Path) -> None:
    # 24 voxels and a rim of 4 a side are a multiple of what the network wants, so nothing is padded on one side
    noise = np.zeros((40, 32, 32), dtype=np.float32)
    noise[8:32, 4:28, 4:28] = np.random.default_rng(0).uniform(1, 2, (24, 24, 24))
    for name, image in (("left", noise), ("right", noise[::-1])):
        path = phantom.save(tmp_path / f"{name}.nii.gz", image)
        for flag in ("--flip", "--no-flip"):
            assert command.run("segment", path, "-o", tmp_path / (name + flag), "--model", dull, flag, *PLAIN) == 0
    mirror = label_set("freesurfer").mirror[1:] - 1
    flipped = volumes(tmp_path / "right--flip")[mirror]
    np.testing.assert_allclose(volumes(tmp_path / "left--flip"), flipped, rtol=0.02, atol=1)
    plain = volumes(tmp_path / "right--no-flip")[mirror]
    assert not np.allclose(volumes(tmp_path / "left--no-flip"), plain, rtol=0.02, atol=1)


@pytest.mark.parametrize(
    ("space", "written"),
    [
        ("scan", ["dseg.nii.gz"]),
        ("1mm", ["space-1mm_dseg.nii.gz", "space-1mm_image.nii.gz"]),
        ("both", ["dseg.nii.gz", "space-1mm_dseg.nii.gz", "space-1mm_image.nii.gz"]),
    ],
)
def test_segment_space(tmp_path: Path, model: Path, scan: Path, space: str, written: list[str]) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, *PLAIN)
    assert command.run(*arguments, "--space", space) == 0
    assert [name for name in files(tmp_path / "out") if ".nii" in name] == [f"scan_{ending}" for ending in written]
    assert len(table(tmp_path / "out" / "volumes.tsv")) == 1
    assert command.run(*arguments, "--space", "2mm") == 2


def test_segment_probabilities(tmp_path: Path, model: Path, scan: Path, capfd: Capture) -> None:
    out, arguments = tmp_path / "out", ("segment", scan, "--model", model, *PLAIN)
    assert command.run(*arguments, "-o", out, "--probabilities", "left putamen, 3rd ventricle") == 0
    assert files(out) == of_one("prob.json", "prob.nii.gz")
    assert voxels(out / "scan_prob.nii.gz").shape == (20, 22, 18, 2)
    names = json.loads((out / "scan_prob.json").read_text(encoding="utf-8"))["LabelMap"]
    assert names == ["left putamen", "3rd ventricle"]
    assert command.run(*arguments, "-o", out, "--probabilities", "all") == 0
    assert voxels(out / "scan_prob.nii.gz").shape == (20, 22, 18, 33)
    unknown = (*arguments, "--probabilities", "left putamen,toe")
    assert "label set freesurfer has no 'toe'; choose of" in command.refused(capfd, tmp_path / "new", *unknown)


def test_segment_brain(tmp_path: Path, model: Path, scan: Path) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, *PLAIN)
    assert command.run(*arguments, "--no-brain") == 0
    assert files(tmp_path / "out") == of_one()
    assert command.run(*arguments, "--brain") == 0
    assert files(tmp_path / "out") == of_one("brain.nii.gz", "mask.nii.gz")


def test_segment_report(tmp_path: Path, model: Path, scan: Path) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, *QUICK)
    assert command.run(*arguments, "--no-report") == 0
    assert files(tmp_path / "out") == of_one()
    assert command.run(*arguments, "--report") == 0
    assert files(tmp_path / "out") == sorted([*of_one("report.html"), "report.html"])
    for name in ("report.html", "scan_report.html"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>") and "scan" in page and "left putamen" in page


def test_segment_overlay(tmp_path: Path, model: Path, scan: Path) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, *PLAIN)
    assert command.run(*arguments, "--no-overlay") == 0
    assert files(tmp_path / "out") == of_one()
    assert command.run(*arguments, "--overlay") == 0
    assert (tmp_path / "out" / "scan_overlay.png").read_bytes()[:4] == b"\x89PNG"


def test_segment_participant_and_session(tmp_path: Path, model: Path) -> None:
    for place in ("sub-1/ses-a", "sub-1/ses-b", "sub-2/ses-b"):
        (tmp_path / "data" / place / "anat").mkdir(parents=True)
        name = f"{place.replace('/', '_')}_T1w.nii.gz"
        phantom.save(tmp_path / "data" / place / "anat" / name, command.head_scan())
    both, one = ("--participant", "sub-1", "--participant", "2"), ("--participant", "1", "--session", "ses-a")
    chosen = ((("--participant", "1"), 2), (both, 3), (("--session", "b"), 2), (one, 1))
    for number, (flags, count) in enumerate(chosen):
        out = tmp_path / str(number)
        assert command.run("segment", tmp_path / "data", "-o", out, "--model", model, *flags, *PLAIN) == 0
        assert len(table(out / "volumes.tsv")) == len(list(out.rglob("*_dseg.nii.gz"))) == count
    (row,) = table(out / "volumes.tsv")
    assert row["name"] == "sub-1_ses-a_T1w"


def test_segment_volume(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "many.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([command.head_scan() + n for n in range(3)], -1), np.eye(4)), path)
    arguments = ("segment", path, "-o", tmp_path / "out", "--model", model, *PLAIN)
    assert command.run(*arguments, "--volume", 1) == 0
    assert files(tmp_path / "out") == of_one(name="many_volume-1")
    assert command.run(*arguments) == 0
    rows = table(tmp_path / "out" / "volumes.tsv")
    assert [(row["name"], row["volume"]) for row in rows] == [(f"many_volume-{n}", str(n)) for n in range(3)]
    assert command.run(*arguments, "--volume", 3) == 2


def test_segment_ct(tmp_path: Path, model: Path) -> None:
    hounsfield = 40 * np.sqrt(command.head_scan()) - 700  # no air around, whose value would tell that it is CT
    window = hounsfield.clip(-150, 250)
    for name, image in (("plain", hounsfield), ("window", window)):
        phantom.save(tmp_path / f"{name}.nii.gz", image)
    for name, flags in (("plain", ()), ("plain", ("--ct",)), ("window", ())):
        out = tmp_path / f"{name}{len(flags)}"
        source = tmp_path / f"{name}.nii.gz"
        assert command.run("segment", source, "-o", out, "--model", model, *flags, *PLAIN) == 0
    assert (volumes(tmp_path / "plain1") == volumes(tmp_path / "window0")).all()
    assert (volumes(tmp_path / "plain1") != volumes(tmp_path / "plain0")).any()
    assert options(tmp_path / "plain1" / "plain_manifest.json")["ct"] is True
    # and MR whose values look like those of CT is taken for what the user says it is
    grey = np.pad((60 * np.sqrt(command.head_scan()) - 100).astype(np.float32), 3, constant_values=-1000)
    for name, image, flags in (("mr", grey + 1000, ()), ("like", grey, ()), ("told", grey, ("--no-ct",))):
        path = phantom.save(tmp_path / f"{name}.nii.gz", image)
        assert command.run("segment", path, "-o", tmp_path / name, "--model", model, *flags, *PLAIN) == 0
    assert (volumes(tmp_path / "told") == volumes(tmp_path / "mr")).all()
    assert (volumes(tmp_path / "like") != volumes(tmp_path / "mr")).any()


def test_segment_reorient(tmp_path: Path, model: Path, capfd: Capture) -> None:
    image = np.random.default_rng(0).uniform(1, 2, (20, 22, 18)).astype(np.float32)
    right, wrong = np.diag([-1.0, 1, 2, 1]), np.diag([1.0, 1, 2, 1])
    right[:3, 3], wrong[:3, 3] = (9.5, -10.5, -17), (-9.5, -10.5, -17)
    for name, affine in (("right", right), ("wrong", wrong)):
        path = phantom.save(tmp_path / f"{name}.nii.gz", image, affine)
        flags = ("--reorient", "LAS") if name == "wrong" else ()
        assert command.run("segment", path, "-o", tmp_path / name, "--model", model, *flags, *PLAIN) == 0
    results = [nib.load(tmp_path / name / f"{name}_dseg.nii.gz") for name in ("right", "wrong")]
    assert (results[0].affine == right).all() and (results[1].affine == right).all()
    assert (np.asarray(results[0].dataobj) == np.asarray(results[1].dataobj)).all()
    assert (volumes(tmp_path / "right") == volumes(tmp_path / "wrong")).all()
    nonsense = ("segment", path, "--model", model, "--reorient", "LRS", *PLAIN)
    assert "axes are declared as 'LRS', wanted" in command.refused(capfd, tmp_path / "new", *nonsense)


def test_segment_resume(tmp_path: Path, model: Path, scan: Path, capfd: Capture) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, *PLAIN)
    assert command.run(*arguments) == 0
    first = (tmp_path / "out" / "scan_manifest.json").stat().st_ino
    assert f"{scan} (" in capfd.readouterr().out
    for flag, said in (("--resume", "1 of 1 finished before"), ("--no-resume", f"{scan} (")):
        assert command.run(*arguments, flag) == 0
        assert said in capfd.readouterr().out
        assert ((tmp_path / "out" / "scan_manifest.json").stat().st_ino == first) == (flag == "--resume")


def test_segment_max_memory(tmp_path: Path, model: Path, scan: Path, capfd: Capture) -> None:
    arguments = ("segment", scan, "--model", model, *PLAIN)
    message = command.refused(capfd, tmp_path / "out", *arguments, "--max-memory", 0.1)
    assert "in use already, even in tiles, and may use 0.0 GB; raise --max-memory" in message
    assert command.run(*arguments, "-o", tmp_path / "out", "--max-memory", 100) == 0


def test_segment_backend(tmp_path: Path, model: Path, scan: Path, capfd: Capture) -> None:
    arguments = ("segment", scan, "--model", model, *PLAIN)
    for backend in ("torch", "openvino") if openvino_available() else ("torch",):
        assert command.run(*arguments, "-o", tmp_path / backend, "--backend", backend) == 0
        manifest = json.loads((tmp_path / backend / "scan_manifest.json").read_text(encoding="utf-8"))
        assert manifest["backend"].startswith(f"{backend} ")
        np.testing.assert_allclose(volumes(tmp_path / backend), volumes(tmp_path / "torch"), rtol=0.1, atol=20)
    message = command.refused(capfd, tmp_path / "new", *arguments, "--backend", "abacus")
    assert "no backend 'abacus'; choose auto or one of torch, openvino" in message


def test_segment_device_and_threads(tmp_path: Path, model: Path, scan: Path) -> None:
    arguments = ("segment", scan, "-o", tmp_path / "out", "--model", model, "--no-report", "--backend", "torch")
    for count in (2, 1):
        assert command.run(*arguments, "--device", "cpu", "--threads", count) == 0
        assert torch.get_num_threads() == count
    assert (tmp_path / "out" / "scan_dseg.nii.gz").is_file()


def test_every_flag_is_tested() -> None:
    tests = dict.fromkeys(("scans", "output"), test_segment_writes_label_maps_on_the_grid_of_each_scan)
    tests |= {"labels": test_segment_labels, "model": test_segment_model, "flip": test_segment_flip}
    tests |= {"refine": test_segment_refine}
    tests |= {"space": test_segment_space, "probabilities": test_segment_probabilities, "brain": test_segment_brain}
    tests |= {"report": test_segment_report, "overlay": test_segment_overlay, "volume": test_segment_volume}
    tests |= dict.fromkeys(("participant", "session"), test_segment_participant_and_session)
    tests |= {"ct": test_segment_ct, "reorient": test_segment_reorient, "resume": test_segment_resume}
    tests |= {"max_memory": test_segment_max_memory, "backend": test_segment_backend}
    tests |= dict.fromkeys(("device", "threads"), test_segment_device_and_threads)
    command.check_every_flag_is_tested("segment", tests)
