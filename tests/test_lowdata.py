"""Networks trained on a few scans, rotation by rotation; every flag of `phantomseg study`."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import command
import numpy as np
import pytest
import study
import test_studies

from phantomseg.errors import ScanError
from phantomseg.studies import lowdata, trained
from phantomseg.studies.plan import read_plan
from phantomseg.studies.study import Settings
from phantomseg.studies.tools import build_tools
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.training.loop import Run

Capture = pytest.CaptureFixture[str]
SCANS = ("a", "b", "c", "d")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    for name in SCANS:
        study.pair(tmp_path / "scans", name)

    def small(name: str) -> Recipe:
        recipe = load_recipe(name)
        assert recipe.pose is not None
        return replace(recipe, pose=replace(recipe.pose, crop_voxels=(64, 32, 32)))

    monkeypatch.setattr(trained, "load_recipe", small)
    return tmp_path


def test_every_rotation_trains_on_three_and_tests_on_the_rest(folder: Path, capfd: Capture) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    flags = ("--minutes", "0.01", "--device", "cpu", "--threads", "1")
    assert study.study("lowdata", path, *flags) == 0
    out = folder / "out" / "lowdata"
    rows = study.chosen(study.table(out / "rows.csv"), view="foreground")
    assert {(row["scan"], row["trained_on"]) for row in rows if row["tool"] != "copy"} == {
        ("d", "a b c"), ("a", "b c d"), ("b", "c d a"), ("c", "d a b")
    }  # fmt: skip
    tools = ["copy", "supervised", "supervised, naive flips"]
    assert list(dict.fromkeys(row["tool"] for row in rows)) == tools and len(rows) == 12
    assert {row["dice"] for row in study.chosen(rows, tool="copy")} == {"1.0"}
    said = capfd.readouterr().out
    assert said.count("training supervised on") == 4 and "training supervised, naive flips on b, c, d" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "symmetry trap" in page and "0.01" in page
    # what is finished is neither trained nor asked again; where a result is lost, the weights are not
    (out / "work" / "supervised" / "d_without_a.json").unlink()
    assert study.study("lowdata", path, *flags) == 0
    said = capfd.readouterr().out
    assert "training" not in said and said.count("d_without_a") == 1
    # another reference is another lesson for all who learn from it
    study.pair(folder / "scans", "a", np.roll(study.VALUES, 1, axis=1))
    assert study.study("lowdata", path, *flags) == 0
    assert capfd.readouterr().out.count("training supervised on") == 3


def test_training_that_was_stopped_goes_on(folder: Path, capfd: Capture) -> None:
    plan = read_plan(study.data(folder))
    said: list[str] = []
    lesson = trained.Lesson(plan.datasets[0].scans[:3], "freesurfer", 0.2, folder / "x", plan, say=said.append)

    def stop(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    tool = trained.SupervisedTool("supervised", lesson)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trained, "Run", lambda folder, resume: Run(folder, resume, report=stop))
        _ = tool.model
    place = lesson.place("supervised")
    assert (place / "checkpoint.safetensors").is_file() and len(said) == 1
    short = replace(lesson, minutes=0.2)
    assert short.place("supervised") == place
    model = trained.SupervisedTool("supervised", short).model
    assert not (place / "checkpoint.safetensors").exists() and model.record["minutes"] >= 0.1 and len(said) == 2


def test_flips_swap_sides_unless_they_are_naive(folder: Path) -> None:
    plan = read_plan(study.data(folder))
    lesson = trained.Lesson(plan.datasets[0].scans[:3], "freesurfer", 1.0, folder / "x", plan)
    tools = lowdata.trained_tools(lesson, ())
    swaps = [tool._recipe.pose.flip_swaps_sides for tool in tools]  # type: ignore[attr-defined]
    assert [tool.name for tool in tools] == ["supervised", "supervised, naive flips"] and swaps == [True, False]
    peers = lowdata.trained_tools(lesson, ("nnunet",))[2:]
    assert [(tool.name, tool.budget.mirror) for tool in peers] == [  # type: ignore[attr-defined]
        ("nnU-Net", True), ("nnU-Net, no mirroring", False)
    ]  # fmt: skip
    assert [tool.folder_name for tool in tools] == ["supervised", "naive"]  # type: ignore[attr-defined]


def test_peers_that_are_not_there(folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("lowdata", path, "--with", "magic") == 2
    assert "there is no peer 'magic'; --with takes nnunet" in capfd.readouterr().err
    monkeypatch.setattr(lowdata, "nnunet_available", lambda: False)
    assert study.study("lowdata", path, "--with", "nnunet") == 2
    assert "nnU-Net is not installed; pip install 'phantomseg[nnunet]'" in capfd.readouterr().err


def test_too_few_scans_and_lumped_labels(folder: Path, capfd: Capture) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("lowdata", path, "--most", "3") == 2
    assert "has nothing for the study 'lowdata'" in capfd.readouterr().err
    plan = read_plan(path)
    lesson = trained.Lesson(plan.datasets[0].scans[:3], "siam", 1.0, folder / "x", plan)
    with pytest.raises(ScanError, match="lumps structures|no place"):
        (folder / "scans" / "a_dseg.nii.gz").unlink()
        study.pair(folder / "scans", "a", np.where(study.VALUES > 0, 2, 0).astype(np.int16))
        lesson.pairs()


def test_a_model_by_folder_is_a_tool(folder: Path) -> None:
    plan = read_plan(study.data(folder))
    run = folder / "myrun" / "model"
    command.tiny_model(run)
    (tool,) = build_tools(plan, [str(run)])
    assert tool.name == "myrun" and 12 in tool.ids and tool.told["flip"] is True
    (tool,) = build_tools(plan, [])
    assert tool.name == "head"


def test_name_data_and_output(folder: Path) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    for number, flag in enumerate(("--output", "-o")):
        out = folder / str(number)
        assert command.run("study", "accuracy", "--data", path, flag, out, "--most", "1") == 0
        assert (out / "accuracy" / "report.html").is_file()


def test_settings_have_defaults() -> None:
    assert Settings(Path("x")).minutes == 3.0 and not Settings(Path("x")).peers


def test_every_flag_is_tested() -> None:
    tests = dict.fromkeys(("minutes", "device", "threads"), test_every_rotation_trains_on_three_and_tests_on_the_rest)
    tests |= dict.fromkeys(("name", "data", "output"), test_name_data_and_output)
    tests |= {"tool": test_studies.test_only_the_tools_that_are_named, "peer": test_peers_that_are_not_there}
    tests |= {"most": test_too_few_scans_and_lumped_labels}
    tests |= {"resume": test_studies.test_what_is_finished_is_kept_until_it_changes}
    command.check_every_flag_is_tested("study", tests)
