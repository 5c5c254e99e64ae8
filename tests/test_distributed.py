"""Several processes at one run learn what one process with a larger batch does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command
import pytest
import torch
from safetensors.torch import load_file

from phantomseg.errors import TrainingError
from phantomseg.training import distributed
from phantomseg.training.distributed import ProcessGroup, join_processes
from phantomseg.training.state import CHECKPOINT, read_checkpoint


def weights(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].float().flatten() for name in sorted(tensors)])


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_equal_one_with_a_batch_of_two(tmp_path: Path, template_folder: Path) -> None:
    model = command.tiny_model(tmp_path / "tiny")
    recipe = command.small_recipe(tmp_path / "recipe.toml", crop=8)  # so small that all is float32
    flags = ["--templates", template_folder, "--recipe", recipe, "--start", model, "--device", "cpu", "--threads", 1]
    flags += ["--steps", 8, "--relative-step", 0.05, "--learning-rate", 0.02]
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "--",
        "phantomseg",
    ]
    words += ["train", "-o", tmp_path / "two", *flags]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "two" / "model")
    assert command.run("train", "-o", tmp_path / "one", *flags, "--batch", 2) == 0
    runs = [read_checkpoint(tmp_path / name / CHECKPOINT).tensors["network"] for name in ("two", "one")]
    two, one, before = map(weights, (*runs, load_file(model / "weights.safetensors")))
    apart, moved = (two - one).norm(), (one - before).norm()
    assert moved > 0.1 and apart < 1e-3 * moved
    told = json.loads((tmp_path / "two" / "model" / "model.json").read_text(encoding="utf-8"))["record"]
    assert told["processes"] == 2 and told["steps"] == 8
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join_processes(torch.device("cpu")) == (ProcessGroup(), torch.device("cpu"))
    assert ProcessGroup().maximum(torch.device("cpu"), 2.5, True) == (2.5, True) and ProcessGroup().is_main
    ProcessGroup().check_same_step(torch.device("cpu"), 3)


def test_processes_that_start_at_different_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce(values: torch.Tensor, kind: object) -> None:
        torch.maximum(values, torch.tensor([7.0, -7.0], dtype=values.dtype), out=values)  # what the other one has

    monkeypatch.setattr(distributed.distributed, "all_reduce", reduce)
    ProcessGroup(0, 2).check_same_step(torch.device("cpu"), 7)
    with pytest.raises(TrainingError, match="processes start at steps 4 to 7, wanted one; start them again"):
        ProcessGroup(0, 2).check_same_step(torch.device("cpu"), 4)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "torchrun_ranks", lambda: (3, 4, 3))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TrainingError, match="local rank 3 has no GPU: this machine has 2; start fewer processes"):
        join_processes(torch.device("cuda"))
