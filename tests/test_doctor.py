"""`phantomseg doctor`: what it says of this machine, and that it notices what is broken."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import command
import numpy as np
import pytest
import torch
import typer

import phantomseg.inference.selftest as selftest
import phantomseg.models
from phantomseg import __version__
from phantomseg.cli import doctor
from phantomseg.errors import ModelError
from phantomseg.inference.segment import Segmentation
from phantomseg.labels import label_set
from phantomseg.models import find_model, model_names
from phantomseg.network.openvino import choose_backend
from phantomseg.runtime import choose_device

Capture = pytest.CaptureFixture[str]
app = typer.Typer(pretty_exceptions_enable=False)
app.callback()(lambda: None)
app.command("doctor")(doctor.run)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr("phantomseg.runtime.physical_cores", lambda: 1)
    monkeypatch.setattr(
        "phantomseg.runtime._processor", lambda: "a processor"
    )  # whatever it is called, its row is one line
    yield
    torch.set_num_threads(before)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        app(args=["doctor", *arguments])
    return int(stop.value.code or 0)


def rows(text: str) -> dict[str, str]:
    """What stands beside each name."""
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ")]
    return {pair[0]: pair[1].strip() for pair in pairs}


def found(labels: np.ndarray) -> Segmentation:
    scan, _ = selftest.made_head()
    return Segmentation(scan.with_voxels(labels.astype(np.float32)), label_set("freesurfer"), ())


def test_says_what_is_installed_and_used(capfd: Capture) -> None:
    assert run("--no-self-test") == 0
    printed = capfd.readouterr()
    said = rows(printed.out)
    assert printed.err == "" and "\x1b" not in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80
    assert said["phantomseg"] == __version__ and said["torch"] == version("torch")
    assert said["python"].startswith(platform.python_version())
    assert said["auto"].split() == ["uses", choose_backend("auto", choose_device())]
    assert {name for name in model_names() if said[name].endswith("checksum of weights ok")} == set(model_names())
    assert "result" not in said


def test_self_test_finds_the_shipped_model_in_order(capfd: Capture) -> None:
    assert run("--self-test") == 0
    printed = capfd.readouterr()
    assert rows(printed.out)["result"].startswith("ok: ") and printed.err == ""


def test_self_test_is_the_default_and_its_problems_end_in_code_1(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr(selftest, "self_test", lambda model: ("nothing was found",))
    assert run() == 1
    printed = capfd.readouterr()
    assert rows(printed.out)["result"] == "failed"
    assert printed.err == "error: self-test: nothing was found\n"


def test_self_test(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    tested = []
    monkeypatch.setattr(selftest, "self_test", lambda model: tested.append(model) or ())
    assert [run(*flags) for flags in ((), ("--self-test",), ("--no-self-test",))] == [0, 0, 0]
    assert len(tested) == 2
    assert capfd.readouterr().out.count("result") == 2


def test_every_flag_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "app", app)
    command.check_every_flag_is_tested("doctor", {"self_test": test_self_test})


def test_what_stops_the_self_test_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def stop(model: object) -> tuple[str, ...]:
        raise RuntimeError("no memory\nmore")

    monkeypatch.setattr(selftest, "self_test", stop)
    assert run() == 1
    assert capfd.readouterr().err == "error: self-test: no memory\n"


def test_damaged_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    shutil.copytree(phantomseg.models._folder() / "head", tmp_path / "head")
    with open(tmp_path / "head" / "weights.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    monkeypatch.setattr(phantomseg.models, "_folder", lambda: tmp_path)
    with pytest.raises(ModelError):
        find_model("head")
    assert run() == 1
    printed = capfd.readouterr()
    assert rows(printed.out)["head"] == "damaged" and "result" not in rows(printed.out)
    assert printed.err.count("\n") == 1 and "is not the file that model.json describes" in printed.err


def test_missing_default_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr(phantomseg.models, "_folder", lambda: tmp_path)
    assert run("--no-self-test") == 1
    assert capfd.readouterr().err == "error: the shipped model 'head' is missing; install phantomseg again\n"


def test_missing_extras_come_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gdcm" else there(name))
    assert run("--no-self-test") == 0
    assert rows(capfd.readouterr().out)["dicom"] == "missing: pip install 'phantomseg[dicom]'"


def test_made_head_has_its_tissue_about_the_origin() -> None:
    scan, tissue = selftest.made_head()
    assert scan.shape == tissue.shape == (52, 66, 58)
    assert 0.2 < tissue.mean() < 0.5
    assert np.array_equal(np.linalg.inv(scan.affine)[:3, 3], (np.array(scan.shape) - 1) / 2)
    again, _ = selftest.made_head()
    assert np.array_equal(scan.voxels, again.voxels)


def test_labels_on_their_sides_are_no_problem_and_others_are() -> None:
    scan, tissue = selftest.made_head()
    left = np.zeros(scan.shape, dtype=bool)
    left[26:] = True  # the first axis runs to the left
    good = np.where(tissue, np.where(left, 2, 41), 0)
    assert selftest.problems_of(found(good), scan, tissue) == []
    swapped = np.where(tissue, np.where(left, 41, 2), 0)
    assert selftest.problems_of(found(swapped), scan, tissue) == [
        "0% of the voxels of the left lie there, wanted at least 75%",
        "0% of the voxels of the right lie there, wanted at least 75%",
    ]
    assert len(selftest.problems_of(found(np.zeros(scan.shape)), scan, tissue)) == 3
    assert len(selftest.problems_of(found(np.where(left, 2, 41)), scan, tissue)) == 1  # labels everywhere


def test_other_grid_is_a_problem() -> None:
    scan, tissue = selftest.made_head()
    moved = found(np.zeros(scan.shape))
    moved.image.affine[0, 3] += 1
    assert selftest.problems_of(moved, scan, tissue) == ["the label map is not on the grid of the scan"]


def test_other_labels_the_second_time_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, tissue = selftest.made_head()
    labels = np.where(tissue, 2, 0)
    results = iter([found(labels), found(labels * 0)])
    monkeypatch.setattr(selftest, "segment", lambda *_, **__: next(results))
    assert "the same scan got other labels when it was segmented again" in selftest.self_test(find_model())
