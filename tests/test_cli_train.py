from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import command
import numpy as np
import phantom
import pytest
import torch
from safetensors.torch import load_file

import phantomseg.cli.train
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model, save_model
from phantomseg.training import validate

pytestmark = pytest.mark.usefixtures("same_threads")
Capture = pytest.CaptureFixture[str]
QUICK = ("--device", "cpu", "--threads", 1)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return command.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def basics(tmp_path: Path, template_folder: Path, model: Path) -> list[object]:
    """A run on crops of 16 voxels that begins with the tiny model, on one thread."""
    recipe = command.small_recipe(tmp_path / "recipe.toml", crop=16)
    return ["--templates", template_folder, "--recipe", recipe, "--start", model, *QUICK]


def train(folder: Path, *flags: object) -> Rows:
    assert command.run("train", "-o", folder, *flags) == 0
    return read_rows(folder)


def read_rows(folder: Path) -> Rows:
    with open(folder / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(rows: Rows) -> list[float]:
    return [float(row["loss"]) for row in rows]


def record(folder: Path) -> dict:
    return json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))["record"]


def weights(folder: Path) -> np.ndarray:
    tensors = load_file(folder / "weights.safetensors")
    return np.concatenate([tensors[name].float().numpy().ravel() for name in sorted(tensors)])


def test_files_of_a_run(tmp_path: Path, basics: list[object], capfd: Capture) -> None:
    for flag in ("--output", "-o"):
        run = tmp_path / flag
        assert command.run("train", flag, run, *basics, "--steps", 3) == 0
        names = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
        wanted = [
            "checkpoint.safetensors",
            "log.csv",
            "loss.png",
            "model",
            "model/model.json",
            "model/weights.safetensors",
        ]
        assert names == wanted
        assert load_model(run / "model").labels.name == "head"
        printed = capfd.readouterr()
        assert printed.err == "" and printed.out.splitlines()[-1] == str(run / "model")
    assert (tmp_path / "-o" / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_steps(tmp_path: Path, basics: list[object]) -> None:
    rows = train(tmp_path / "run", *basics, "--steps", 3)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["dice_held_out"] != "" for row in rows] == [False, False, True]
    assert np.isfinite(losses(rows)).all()
    assert record(tmp_path / "run")["steps"] == 3


def test_minutes(tmp_path: Path, basics: list[object]) -> None:
    rows = train(tmp_path / "run", *basics, "--minutes", 0.01)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds[-1] >= 0.6 and max(seconds[:-1], default=0.0) <= 0.6  # the log rounds to a millisecond


def test_templates_and_recipe(tmp_path: Path, basics: list[object], template_folder: Path) -> None:
    packed = tmp_path / "packed.npz"
    assert command.run("prepare", "--templates", template_folder, "-o", packed) == 0
    folder = losses(train(tmp_path / "a", *basics, "--steps", 1))
    assert losses(train(tmp_path / "b", *basics, "--templates", packed, "--steps", 1)) == folder
    other = command.small_recipe(tmp_path / "other.toml", crop=16, replace=("[0.8, 1.25]", "[1.3, 1.4]"))
    assert losses(train(tmp_path / "c", *basics, "--recipe", other, "--steps", 1)) != folder
    assert record(tmp_path / "b")["templates"] == ["one", "two"]
    assert record(tmp_path / "c")["recipe"]["pose"]["scaling"] == {"uniform": [1.3, 1.4]}


def test_seed_and_batch(tmp_path: Path, basics: list[object]) -> None:
    flags = {"a": (), "b": ("--seed", 0, "--batch", 1), "c": ("--seed", 7), "d": ("--batch", 2)}
    found = {name: losses(train(tmp_path / name, *basics, "--steps", 2, *flags[name])) for name in flags}
    assert found["a"] == found["b"]
    assert len({values[0] for values in found.values()}) == 3
    assert record(tmp_path / "c")["config"]["seed"] == 7
    assert record(tmp_path / "d")["config"]["batch"] == 2


def test_workers(tmp_path: Path, basics: list[object]) -> None:
    alone = losses(train(tmp_path / "a", *basics, "--steps", 3))
    # in a process of its own: workers are forked, which a process that has run OpenVINO does not survive
    flags = [str(flag) for flag in ("-o", tmp_path / "b", *basics, "--steps", 3, "--workers", 1)]
    subprocess.run([sys.executable, "-m", "phantomseg", "train", *flags], check=True, stdout=subprocess.DEVNULL)
    ahead = losses(read_rows(tmp_path / "b"))
    assert ahead == pytest.approx(alone, rel=1e-3)


def test_features(tmp_path: Path, template_folder: Path, capfd: Capture) -> None:
    recipe = command.small_recipe(tmp_path / "recipe.toml", crop=16)
    words = ("--templates", template_folder, "--recipe", recipe, "--steps", 1, *QUICK)
    train(tmp_path / "run", *words, "--features", "4, 6")
    config = load_model(tmp_path / "run" / "model").network.config
    assert config.features == (4, 6) and config.convolutions == (2, 2)
    error = command.refused(capfd, tmp_path / "bad", "train", *words, "--features", "4;6")
    assert "features are '4;6', wanted two or more whole numbers above 0, as 24,48,96" in error


def test_optimiser(tmp_path: Path, basics: list[object]) -> None:
    # with a relative step, muon would first scale all filters to one norm, which rounds the first loss differently
    muon = losses(train(tmp_path / "a", *basics, "--steps", 2, "--optimiser", "muon", "--relative-step", 0))
    adam = losses(train(tmp_path / "b", *basics, "--steps", 2, "--optimiser", "adam"))
    assert muon[0] == adam[0] and muon[1] != adam[1]
    assert record(tmp_path / "b")["config"]["optimiser"] == "adam"


def test_start_and_learning_rate(tmp_path: Path, basics: list[object], model: Path) -> None:
    rows = train(tmp_path / "a", *basics, "--steps", 2, "--start", model, "--learning-rate", 0, "--relative-step", 0)
    assert [float(row["learning_rate"]) for row in rows] == [0, 0]
    np.testing.assert_array_equal(weights(tmp_path / "a" / "model"), weights(model))
    rows = train(tmp_path / "b", *basics, "--steps", 2, "--learning-rate", 0.01)
    assert record(tmp_path / "b")["config"]["relative_step"] == 0.001  # basics start from a model
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.01 / 50)  # the first of 50 steps of warm-up
    assert (weights(tmp_path / "b" / "model") != weights(model)).any()


@pytest.mark.parametrize("name", ["fast", "unet"])
def test_network(tmp_path: Path, template_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(validate, "held_out_dice", lambda *arguments: {"dice_held_out": 0.5})
    recipe = command.small_recipe(tmp_path / "recipe.toml", replace=("[32, 32, 32]", "[32, 16, 16]"))
    flags = ("--templates", template_folder, "--recipe", recipe, "--steps", 1, "--network", name, *QUICK)
    (row,) = train(tmp_path / "run", *flags)
    assert np.isfinite(losses([row])).all() and row["dice_held_out"] == "0.5"
    description = json.loads((tmp_path / "run" / "model" / "model.json").read_text(encoding="utf-8"))
    assert description["network"] == description["record"]["config"]["network"] == name


def test_validate(tmp_path: Path, basics: list[object]) -> None:
    folder = tmp_path / "labelled"
    folder.mkdir()
    labels = np.where(phantom.head((20, 22, 18)) < 100, phantom.head((20, 22, 18)), 0).astype(np.int16)
    phantom.save(folder / "a.nii.gz", command.head_scan())
    phantom.save(folder / "a_dseg.nii.gz", labels)
    rows = train(tmp_path / "run", *basics, "--steps", 3, "--validate", folder, "--validate-every", 2)
    for key in ("dice_scans", "dice_held_out"):
        assert rows[0][key] == ""
        assert all(0 <= float(row[key]) <= 1 for row in rows[1:])
    assert set(record(tmp_path / "run")["scores"]) == {"dice_scans", "dice_held_out"}


def test_resume(tmp_path: Path, basics: list[object], monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    straight = train(tmp_path / "straight", *basics, "--steps", 4)

    def interrupt(state: object, progress: float) -> None:
        if progress == 0.5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(phantomseg.cli.train, "_report", interrupt)
        assert len(train(tmp_path / "run", *basics, "--steps", 4)) == 2
    assert load_model(tmp_path / "run" / "model").labels.name == "head"
    capfd.readouterr()
    assert command.run("train", "-o", tmp_path / "run", *basics, "--steps", 4) == 2
    assert "holds a run already; add --resume, or choose another folder" in capfd.readouterr().err
    assert command.run("train", "-o", tmp_path / "run", *basics, "--steps", 4, "--seed", 5, "--resume") == 2
    assert "was made with other settings (config.seed); resume with the same" in capfd.readouterr().err
    assert command.run("train", "-o", tmp_path / "run", *basics, "--resume", "--branch", tmp_path) == 2
    assert "leave one of them out" in capfd.readouterr().err
    rows = train(tmp_path / "run", *basics[:2], *QUICK, "--resume")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert losses(rows) == losses(straight)
    np.testing.assert_array_equal(weights(tmp_path / "run" / "model"), weights(tmp_path / "straight" / "model"))
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"junk")
    capfd.readouterr()
    assert command.run("train", "-o", tmp_path / "run", *basics, "--steps", 4, "--resume") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "checkpoint.safetensors is damaged" in line and "start anew" in line


def interrupt_after(step: int) -> object:
    def report(state: object, progress: float) -> None:
        if state.step == step:  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGTERM)

    return report


def test_endless_stage_and_branch(tmp_path: Path, basics: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = tmp_path / "trunk"
    where = ["--templates", basics[basics.index("--templates") + 1], *QUICK]
    monkeypatch.setattr(phantomseg.cli.train, "_report", interrupt_after(2))
    assert len(train(trunk, *basics, "--endless", "--relative-step", 0.002)) == 2
    monkeypatch.setattr(phantomseg.cli.train, "_report", interrupt_after(3))
    assert len(train(trunk, *where, "--relative-step", 0.004, "--seed", 3, "--new-stage")) == 3
    assert [stage["config"]["relative_step"] for stage in record(trunk)["earlier"]] == [0.002]
    assert record(trunk)["config"]["ema_decay"] == 0.999
    rows = train(tmp_path / "branch", *where, "--branch", trunk, "--steps", 2, "--batch", 2)
    assert len(rows) == 5 and record(tmp_path / "branch")["steps"] == 2
    assert record(tmp_path / "branch")["recipe"] == record(trunk)["recipe"]
    config = record(tmp_path / "branch")["config"]
    assert (config["batch"], config["seed"], config["relative_step"]) == (2, 3, 0.004)
    assert command.run("train", "-o", tmp_path / "other", *where, "--branch", trunk, "--endless") == 2
    assert len(train(tmp_path / "short", *where, "--branch", trunk)) == 4


def test_compile(tmp_path: Path, basics: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: compiled.append((f.__name__, dynamic)) or f)
    plain = train(tmp_path / "a", *basics, "--steps", 1)
    assert compiled == []
    assert losses(train(tmp_path / "b", *basics, "--steps", 1, "--compile")) == losses(plain)
    assert compiled == [("encode", False)]


def test_device_and_threads(tmp_path: Path, basics: list[object]) -> None:
    for count in (2, 1):
        flags = ("--steps", 1, "--device", "cpu", "--threads", count)
        assert len(train(tmp_path / str(count), *basics, *flags)) == 1
        assert torch.get_num_threads() == count


@pytest.fixture
def scans(tmp_path: Path) -> list[object]:
    """Flags of a supervised run on two scans, which begins with a tiny model."""
    torch.manual_seed(0)
    network = build_network("fast", {**command.TINY, "classes": len(label_set("manual"))})
    save_model(tmp_path / "start", Model(network, label_set("manual")))
    for name in ("one", "two"):
        labels = np.where(phantom.head((20, 22, 18)) < 100, phantom.head((20, 22, 18)), 0).astype(np.int16)
        phantom.save(tmp_path / f"{name}_T1w.nii.gz", command.head_scan())
        phantom.save(tmp_path / f"{name}_dseg.nii.gz", labels)
    where = ("--images", tmp_path / "*_T1w.nii.gz", "--labels", tmp_path / "*_dseg.nii.gz")
    return ["--supervised", *where, "--start", tmp_path / "start", *QUICK]


def scan_recipe(path: Path) -> Path:
    text = (resources.files("phantomseg") / "recipes" / "supervised.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("[96, 112, 96]", "[16, 16, 16]"), encoding="utf-8")
    return path


def test_supervised(tmp_path: Path, scans: list[object]) -> None:
    images, labels = (scans[scans.index(flag) + 1] for flag in ("--images", "--labels"))
    flags = ["--supervised", "--images", images, "--labels", labels, "--start", tmp_path / "start", *QUICK]
    flags += ["--recipe", scan_recipe(tmp_path / "recipe.toml"), "--steps", 2]
    plain = train(tmp_path / "a", *flags)
    assert len(plain) == 2 and np.isfinite(losses(plain)).all() and 0 <= float(plain[1]["dice_learnt_scans"]) <= 1
    assert losses(train(tmp_path / "b", *flags, "--values", "freesurfer")) == losses(plain)
    naive = losses(train(tmp_path / "c", *flags, "--naive-flips", "--seed", 1))
    assert naive != losses(train(tmp_path / "d", *flags, "--seed", 1))
    for name, swaps in (("a", True), ("c", False)):
        made = record(tmp_path / name)
        assert made["supervised"] is True and made["templates"] == ["one", "two"]
        assert made["recipe"]["pose"]["flip_swaps_sides"] is swaps
    found = tmp_path / "found"
    scan = tmp_path / "one_T1w.nii.gz"
    model = ("--model", tmp_path / "a" / "model", "--labels", "manual", "--no-report", *QUICK)
    assert command.run("segment", scan, *model, "--output", found) == 0
    assert (found / "one_T1w_dseg.nii.gz").is_file()
    assert command.run("card", tmp_path / "a" / "model", "-o", tmp_path / "card.md") == 0
    assert "Trained on 2 real scans with their label maps." in (tmp_path / "card.md").read_text(encoding="utf-8")


def test_values(tmp_path: Path, scans: list[object], capfd: Capture) -> None:
    flags = ["train", *scans, "--recipe", scan_recipe(tmp_path / "recipe.toml"), "--steps", 1]
    error = command.refused(capfd, tmp_path / "bad", *flags, "--values", "siam")
    assert "one_dseg.nii.gz: label map holds value 24 (256 voxels), which has no place" in error
    error = command.refused(capfd, tmp_path / "bad", *flags, "--values", "nothing")
    assert "there is no merge from 'nothing' to 'evaluation'" in error
    assert command.run(*flags, "--values", "aseg", "-o", tmp_path / "run") == 0


def test_supervised_run_has_its_recipe_and_is_validated(
    tmp_path: Path, scans: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "held_out_dice", lambda *arguments: {})
    folder = tmp_path / "labelled"
    folder.mkdir()
    for kind, name in (("T1w", "a"), ("dseg", "a_dseg")):
        (folder / f"{name}.nii.gz").write_bytes((tmp_path / f"one_{kind}.nii.gz").read_bytes())
    (row,) = train(tmp_path / "run", *scans, "--steps", 1, "--validate", folder)
    assert 0 <= float(row["dice_scans"]) <= 1
    assert record(tmp_path / "run")["recipe"]["pose"]["crop_voxels"] == [96, 112, 96]


def test_flags_of_supervised_runs_go_together(
    tmp_path: Path, scans: list[object], template_folder: Path, capfd: Capture
) -> None:
    synthetic = ("--templates", template_folder, "--steps", 1)
    images, labels = scans[1:3], scans[3:5]
    alone = "is given without --supervised; add --supervised, or leave"
    for flags, message in (
        ((*synthetic, *images), f"--images {alone} --images out"),
        ((*synthetic, *labels), f"--labels {alone} --labels out"),
        ((*synthetic, "--values", "aseg"), f"--values {alone} --values out"),
        ((*synthetic, "--naive-flips"), f"--naive-flips {alone} --naive-flips out"),
        (("--supervised", *labels, "--steps", 1), "--supervised is given without --images; add --images with a folder"),
        (("--supervised", *images, "--steps", 1), "--supervised is given without --labels; add --labels with a folder"),
        ((*scans, *synthetic), "--templates is given with --supervised, which needs none; leave one of the two out"),
        ((*scans, "--steps", 1, "--recipe", "head"), "recipe has shape, findings, strip, view, slab, fine_voxels_per"),
        (
            (*synthetic, "--recipe", "supervised"),
            "there is no merge from 'head' to 'manual' for label maps of templates",
        ),
        (
            ("--recipe", "supervised", "--steps", 1),
            "choose another recipe",
        ),
    ):
        assert message in command.refused(capfd, tmp_path / "out", "train", *flags), flags


def test_every_flag_is_tested() -> None:
    tests = {
        "output": test_files_of_a_run,
        "steps": test_steps,
        "minutes": test_minutes,
        "network": test_network,
        "features": test_features,
        "optimiser": test_optimiser,
        "resume": test_resume,
        "compiled": test_compile,
        "relative_step": test_start_and_learning_rate,
        "workers": test_workers,
        "values": test_values,
    }
    tests |= dict.fromkeys(("supervised", "images", "labels", "naive_flips"), test_supervised)
    tests |= dict.fromkeys(("templates", "recipe"), test_templates_and_recipe)
    tests |= dict.fromkeys(("seed", "batch"), test_seed_and_batch)
    tests |= dict.fromkeys(("start", "learning_rate"), test_start_and_learning_rate)
    tests |= dict.fromkeys(("endless", "new_stage", "branch"), test_endless_stage_and_branch)
    tests |= dict.fromkeys(("validate", "validate_every"), test_validate)
    tests |= dict.fromkeys(("device", "threads"), test_device_and_threads)
    command.check_every_flag_is_tested("train", tests)
