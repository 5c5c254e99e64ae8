"""The script that trains on a lent GPU, on the CPU: the very commands, from a run and back to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import command

from phantomseg.training.state import CHECKPOINT, read_checkpoint

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_on_gpu"


def script(*words: object) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_goes_there_and_comes_back(tmp_path: Path, template_folder: Path) -> None:
    recipe = command.small_recipe(tmp_path / "recipe.toml", crop=16)
    start = command.tiny_model(tmp_path / "tiny")
    flags = ("--templates", template_folder, "--recipe", recipe, "--device", "cpu", "--threads", 1)
    trunk = tmp_path / "trunk"
    assert command.run("train", "-o", trunk, *flags, "--start", start, "--steps", 3) == 0
    before = read_checkpoint(trunk / CHECKPOINT)

    packed = tmp_path / "gpu"
    assert "MiB" in script("pack", template_folder, trunk, "-o", packed, "--no-wheels")
    assert {path.name for path in packed.iterdir()} == {"templates.npz", "log.csv", CHECKPOINT}
    assert set(read_checkpoint(packed / CHECKPOINT).tensors) == {"network"}

    flags = ("--seconds", 2, "--batch", 2, "--device", "cpu", "--no-compile", "--relative-step", 0.003)
    said = script("run", packed, "-o", tmp_path / "out", *flags)
    assert "samples/s in the second half" in said and "% drawing" in said
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert names == {"checkpoint.00", "log.csv", "model.json", "weights.safetensors"}
    assert max(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 16 * 2**20

    assert "resumes at step" in script("merge", tmp_path / "out", trunk)
    after = read_checkpoint(trunk / CHECKPOINT)
    steps = after.counts["step"]
    assert steps > 3 and after.counts["samples"] == 3 + 2 * (steps - 3)
    assert [stage["steps"] for stage in after.earlier if "steps" in stage][-1] == 3
    assert after.settings["config"]["batch"] == 2 and after.settings["config"]["relative_step"] == 0.003
    assert before.settings["recipe"] == after.settings["recipe"]
    rows = (trunk / "log.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, steps + 1))
    words = [sys.executable, SCRIPT, "merge", tmp_path / "out", trunk]
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 1 and f"is at step {steps}, but step 3 was packed" in again.stderr


def test_merge_without_parts_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "merge", tmp_path, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "holds no checkpoint.00" in done.stderr and "Traceback" not in done.stderr
