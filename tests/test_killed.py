"""Runs that end before their time, and runs beside each other: whoever comes next finds everything in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import command
import lively
import numpy as np
import phantom
import pytest

from phantomseg.inference import options

Capture = pytest.CaptureFixture[str]
QUICK = ("--no-report", "--backend", "torch", "--device", "cpu", "--threads", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively.model(tmp_path_factory.mktemp("model") / "lively")


def scans(folder: Path, names: str) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        phantom.save(folder / f"{name}.nii.gz", command.head_scan() + (np.arange(18) % (number + 2)) * 20)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_run_that_dies_at_any_step_is_made_good_by_the_next(model: Path, tmp_path: Path) -> None:
    ward, script = scans(tmp_path / "ward", "a"), Path(__file__).with_name("dying.py")
    command_line = [sys.executable, script, ward, model, tmp_path / "out"]
    ran = subprocess.run(command_line, capture_output=True, text=True, timeout=300, check=True)
    steps = [line.split() for line in ran.stdout.splitlines() if re.fullmatch(r"\d+ -?\d+", line)]
    assert len(steps) > 15 and [code for _, code in steps] == ["0"] * len(steps)
    *killed, (last, _) = steps
    undisturbed = lively.contents(tmp_path / "out" / last)
    assert "volumes.tsv" in undisturbed and not [name for name in undisturbed if name.startswith(".")]
    for step, _ in killed:
        assert lively.contents(tmp_path / "out" / step) == undisturbed, step


def test_two_processes_share_a_folder(model: Path, tmp_path: Path) -> None:
    ward = scans(tmp_path / "ward", "abcdefgh")
    arguments = ["segment", ward, "-o", tmp_path / "out", "--model", model, *QUICK]
    words = [sys.executable, "-m", "phantomseg", *map(str, arguments)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert not [line for _, err in said for line in err.splitlines() if not line.startswith("  warning: ")]
    segmented_ones = [found[1] for out, _ in said for found in re.finditer(r"(\w)\.nii\.gz \(\d", out)]
    assert sorted(segmented_ones) == list("abcdefgh")
    assert len((tmp_path / "out" / "volumes.tsv").read_text(encoding="utf-8").splitlines()) == 1 + 8
    assert not [name for name in files(tmp_path / "out") if name.startswith(".")]


def test_interrupted_run_still_writes_the_tables(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    ward, seen = scans(tmp_path / "ward", "abc"), []

    def segment_first(*arguments: object) -> object:
        seen.append(arguments)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return whole(*arguments)

    whole = options.segment
    monkeypatch.setattr(options, "segment", segment_first)
    arguments = ("segment", ward, "-o", tmp_path / "out", "--model", model, *QUICK)
    assert command.run(*arguments) not in (0, 2)
    assert "Traceback" not in capfd.readouterr().err
    assert len((tmp_path / "out" / "volumes.tsv").read_text(encoding="utf-8").splitlines()) == 1 + 1
    assert not [name for name in files(tmp_path / "out") if name.startswith(("b", "."))]
    monkeypatch.setattr(options, "segment", whole)
    assert command.run(*arguments) == 0
    assert "1 of 3 finished before" in capfd.readouterr().out
