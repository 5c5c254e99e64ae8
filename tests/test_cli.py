from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import command
import nibabel as nib
import numpy as np
import phantom
import pytest
import torch

from phantomseg.cli.main import main
from phantomseg.labels import label_set
from phantomseg.synth.templates import load_templates

pytestmark = pytest.mark.usefixtures("same_threads")
QUICK = ("--device", "cpu", "--threads", 1)  # volumes this small are slower on several threads
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return command.small_recipe(tmp_path / "recipe.toml")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def synthesize(template_folder: Path, output: Path, recipe: Path, *flags: object) -> list[np.ndarray]:
    arguments = ("--templates", template_folder, "--output", output, "--recipe", recipe)
    assert command.run("synthesize", *arguments, *QUICK, *flags) == 0
    return [voxels(path) for path in sorted(output.glob("*.nii.gz")) if "dseg" not in path.name]


def test_synthesize_number_seed_and_first(template_folder: Path, tmp_path: Path, recipe: Path, capfd: Capture) -> None:
    samples = synthesize(template_folder, tmp_path / "a", recipe, "--number", 2)
    names = [f"sample-0-{n}{suffix}" for n in (0, 1) for suffix in (".json", ".nii.gz", "_dseg.nii.gz")]
    assert files(tmp_path / "a") == sorted(["contact_sheet.png", *names])
    assert f"2 samples in {tmp_path / 'a'}" in capfd.readouterr().out
    assert [sample.shape for sample in samples] == [(32, 32, 32)] * 2
    assert (samples[0] != samples[1]).any()
    (second,) = synthesize(template_folder, tmp_path / "b", recipe, "-n", 1, "--first", 1)
    assert "sample-0-1.nii.gz" in files(tmp_path / "b") and (second == samples[1]).all()
    (other,) = synthesize(template_folder, tmp_path / "c", recipe, "-n", 1, "--seed", 5)
    assert "sample-5-0.nii.gz" in files(tmp_path / "c") and (other != samples[0]).any()
    values = np.unique(voxels(tmp_path / "a" / "sample-0-0_dseg.nii.gz"))
    assert set(values.tolist()) <= set(label_set("head").ids.tolist())
    assert (tmp_path / "a" / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_synthesize_templates_recipe_and_output(template_folder: Path, tmp_path: Path, capfd: Capture) -> None:
    small = command.small_recipe(tmp_path / "small.toml", crop=16, replace=('"head"', '"tissue"'))
    packed = tmp_path / "deep" / "packed.npz"
    for flag in ("--output", "-o"):
        assert command.run("prepare", "--templates", template_folder, flag, packed) == 0
        assert packed.is_file() and files(packed.parent) == ["packed.npz"]
        assert f"2 label maps in {packed}" in capfd.readouterr().out
        packed.unlink()
    assert command.run("prepare", "--templates", template_folder, "-o", packed.with_suffix("")) == 0
    for name, source in (("a", template_folder), ("b", packed)):
        arguments = ("--templates", source, "-o", tmp_path / name, "--recipe", small, "--number", 1)
        assert command.run("synthesize", *arguments, *QUICK) == 0
    for name in ("sample-0-0.nii.gz", "sample-0-0_dseg.nii.gz"):
        assert voxels(tmp_path / "a" / name).shape == (16, 16, 16)
        assert (voxels(tmp_path / "a" / name) == voxels(tmp_path / "b" / name)).all()
    values = np.unique(voxels(tmp_path / "a" / "sample-0-0_dseg.nii.gz"))
    assert set(values.tolist()) <= set(label_set("tissue").ids.tolist())
    assert synthesize(template_folder, tmp_path / "c", small, "-n", 1)[0].shape == (16, 16, 16)


def test_prepare_tells_what_each_map_means(
    template_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, again = tmp_path / "labels.toml", tmp_path / "again"
    again.mkdir()
    for path in template_folder.glob("*.nii.gz"):
        shutil.copy(path, again / f"again_{path.name}")
    listed.write_text(f'[[templates]]\nfolder = "{template_folder}"\n[[templates]]\nfolder = "again"\nweight = 0.5\n')
    number = len(list(again.glob("*.nii.gz")))
    assert command.run("prepare", "--templates", listed, "-o", tmp_path / "t.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{number} of label set generation, each with weight {weight}" for weight in ("1", "0.5")]


def test_prepare_spacing(template_folder: Path, tmp_path: Path, recipe: Path) -> None:
    heads = {}
    for flags, spacing in (((), 1.0), (("--spacing", 2), 2.0)):
        packed = tmp_path / f"{spacing}.npz"
        assert command.run("prepare", "--templates", template_folder, "-o", packed, *flags) == 0
        loaded = load_templates(packed)
        assert loaded.spacing_mm == spacing and loaded.names == ("one", "two")
        heads[spacing] = np.count_nonzero(loaded.volume(0)) * spacing**3
    assert heads[1.0] == np.count_nonzero(phantom.head()) and heads[2.0] == pytest.approx(heads[1.0], rel=0.02)
    (sample,) = synthesize(packed, tmp_path / "samples", recipe, "-n", 1)
    assert sample.shape == (32, 32, 32)


def test_synthesize_device_and_threads(template_folder: Path, tmp_path: Path, recipe: Path) -> None:
    for count in (2, 1):
        flags = ("-n", 1, "--device", "cpu", "--threads", count)
        assert len(synthesize(template_folder, tmp_path / str(count), recipe, *flags)) == 1
        assert torch.get_num_threads() == count


def label_map(path: Path, *values: int) -> Path:
    labels = np.zeros((len(values), 2, 2), dtype=np.int16)
    labels[:, 0, 0] = values
    return phantom.save(path, labels)


def test_evaluate(tmp_path: Path, capfd: Capture) -> None:
    predicted = label_map(tmp_path / "p.nii.gz", 12, 51, 51, 16)
    reference = label_map(tmp_path / "r.nii.gz", 12, 51, 12, 16)
    for flag in ("--output", "-o"):
        assert command.run("evaluate", predicted, reference, flag, tmp_path / f"{flag}.csv") == 0
        rows = {row["structure"]: row for row in table(tmp_path / f"{flag}.csv")}
        assert tuple(rows) == label_set("freesurfer").names[1:]
        assert float(rows["left putamen"]["dice"]) == pytest.approx(2 / 3)
        assert rows["left putamen"]["predicted_mm3"] == "1.0" and rows["left putamen"]["reference_mm3"] == "2.0"
        assert rows["left caudate"]["dice"] == ""
    printed = capfd.readouterr()
    assert "mean Dice 0.778, wrong side 33.33 %" in printed.out and printed.err == ""
    assert command.run("evaluate", predicted, reference) == 0
    assert files(tmp_path) == ["--output.csv", "-o.csv", "p.nii.gz", "r.nii.gz"]


def test_evaluate_merge_sides(tmp_path: Path, capfd: Capture) -> None:
    paths = [label_map(tmp_path / "p.nii.gz", 12, 51, 51, 16), label_map(tmp_path / "r.nii.gz", 51, 51, 12, 16)]
    assert command.run("evaluate", *paths, "--merge-sides", "-o", tmp_path / "rows.csv") == 0
    rows = {row["structure"]: row for row in table(tmp_path / "rows.csv")}
    assert len(rows) == 18 and not any(name.startswith(("left ", "right ")) for name in rows)
    assert rows["putamen"]["dice"] == "1.0" and rows["brain-stem"]["dice"] == "1.0"
    assert "mean Dice 1.000, wrong side 66.67 %" in capfd.readouterr().out


def test_evaluate_tolerance(tmp_path: Path, capfd: Capture) -> None:
    paths = [label_map(tmp_path / "p.nii.gz", 16, 0, 0), label_map(tmp_path / "r.nii.gz", 0, 0, 16)]
    for mm, share in (("0.5", "0.0"), ("1", "0.5"), ("2", "1.0")):
        assert command.run("evaluate", *paths, "--tolerance", mm, "-o", tmp_path / "rows.csv") == 0
        rows = {row["structure"]: row for row in table(tmp_path / "rows.csv")}
        assert rows["brain-stem"]["nsd"] == share and f"NSD {mm} mm" in " ".join(capfd.readouterr().out.split())


def test_evaluate_labels(tmp_path: Path) -> None:
    paths = [label_map(tmp_path / f"{name}.nii.gz", 1, 2, 2, 0) for name in "pr"]
    assert command.run("evaluate", *paths, "--labels", "brain", "-o", tmp_path / "rows.csv") == 0
    rows = [(row["structure"], row["dice"]) for row in table(tmp_path / "rows.csv")]
    assert rows == [("brain", "1.0"), ("cerebrospinal fluid around the brain", "1.0")]


def test_every_flag_is_tested() -> None:
    samples = dict.fromkeys(("templates", "output", "recipe"), test_synthesize_templates_recipe_and_output)
    samples |= dict.fromkeys(("number", "seed", "first"), test_synthesize_number_seed_and_first)
    samples |= dict.fromkeys(("device", "threads"), test_synthesize_device_and_threads)
    command.check_every_flag_is_tested("synthesize", samples)
    prepared = dict.fromkeys(("templates", "output"), test_synthesize_templates_recipe_and_output)
    prepared |= {"spacing": test_prepare_spacing}
    command.check_every_flag_is_tested("prepare", prepared)
    scored = dict.fromkeys(("prediction", "reference", "output"), test_evaluate)
    scored |= {"merge_sides": test_evaluate_merge_sides, "labels": test_evaluate_labels}
    scored |= {"tolerance": test_evaluate_tolerance}
    command.check_every_flag_is_tested("evaluate", scored)


def test_version_and_help(capfd: Capture) -> None:
    assert command.run("--version") == 0
    assert capfd.readouterr().out.strip() == version("phantomseg")
    assert command.run("--help") == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "For research use; not for diagnosis." in printed
    assert all(name in printed for name in ("segment", "synthesize", "prepare", "train", "evaluate"))
    (script,) = entry_points(group="console_scripts", name="phantomseg")
    assert script.load() is main


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_does_not_import_torch(words: list[str]) -> None:
    code = f"from phantomseg.cli.main import main; main({words})"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in modules and not modules & {"torch", "scipy", "nibabel", "matplotlib"}
