"""The script that averages models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import command
import numpy as np
import torch

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model, save_model
from phantomseg.network.scale_invariant import filter_norms

SCRIPT = Path(__file__).parents[1] / "scripts" / "average_models.py"


def script(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)


@torch.no_grad()
def test_norms_of_filters_do_not_weight_the_average(tmp_path: Path) -> None:
    first = load_model(command.tiny_model(tmp_path / "first"))
    kernel, bias = first.network.down[0][0].conv.weight, first.network.coarse.bias
    other = load_model(tmp_path / "first")
    other.network.down[0][0].conv.weight.mul_(3)
    other.network.coarse.bias.add_(1)
    save_model(tmp_path / "second", dataclasses.replace(other, record={"steps": 7}))
    done = script(tmp_path / "second", tmp_path / "first", "-o", tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    mean = load_model(tmp_path / "mean")
    found = mean.network.down[0][0].conv.weight
    assert torch.allclose(found / filter_norms(found), kernel / filter_norms(kernel), atol=1e-3)
    assert torch.allclose(mean.network.coarse.bias, bias + 0.5, atol=1e-3)
    sums = [json.loads((tmp_path / name / "model.json").read_text())["weights_sha256"] for name in ("second", "first")]
    assert mean.record == {"steps": 7, "averaged": sums}


def test_models_of_different_sizes_are_refused(tmp_path: Path) -> None:
    command.tiny_model(tmp_path / "tiny")
    done = script(tmp_path / "tiny", "head", "-o", tmp_path / "mean")
    assert done.returncode != 0 and "differ in label set, size or spacing" in done.stderr
    assert not (tmp_path / "mean").exists()


def test_models_of_different_spacing_are_refused(tmp_path: Path) -> None:
    model = load_model(command.tiny_model(tmp_path / "fine"))
    save_model(tmp_path / "coarse", dataclasses.replace(model, spacing_mm=4.0))
    done = script(tmp_path / "fine", tmp_path / "coarse", "-o", tmp_path / "mean")
    assert done.returncode != 0 and "spacing" in done.stderr


@torch.no_grad()
def test_earlier_model_takes_what_is_new_from_the_first(tmp_path: Path) -> None:
    labels = label_set("head")
    config = {"features": [4, 8], "convolutions": [1, 1], "detail": 2}
    older = labels.only([label.id for label in labels.labels if not label.parent])
    for name, chosen in (("new", labels), ("old", older)):
        network = build_network("fast", {**config, "classes": len(chosen)})
        network.classify.weight.copy_(torch.arange(len(chosen)).view(-1, 1, 1, 1, 1).expand_as(network.classify.weight))
        save_model(tmp_path / name, Model(network, chosen))
    done = script(tmp_path / "new", tmp_path / "old", "-o", tmp_path / "mean")
    assert done.returncode == 0, done.stderr
    rows = load_model(tmp_path / "mean").network.classify.weight.flatten(1)[:, 0]
    (white, lesion), before = (
        labels.index_of_ids(np.array([2, 25])).tolist(),
        older.names.index("left cerebral white matter"),
    )
    assert float(rows[white]) == (white + before) / 2
    assert float(rows[lesion]) == (white + before) / 2 + (lesion - white)
