"""The command line run within the test, and the smallest model, recipe and scan it takes."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import phantom
import pytest
import torch

from phantomseg.cli.main import main
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, save_model

TINY = {"classes": 45, "features": [4, 8], "convolutions": [1, 1], "detail": 2}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def tiny_model(folder: Path) -> Path:
    torch.manual_seed(0)
    save_model(folder, Model(build_network("fast", TINY), label_set("head")))
    return folder


def small_recipe(path: Path, crop: int = 32, replace: tuple[str, str] = ("", "")) -> Path:
    text = (resources.files("phantomseg") / "recipes" / "head.toml").read_text(encoding="utf-8")
    text = text.replace("[112, 144, 112]", f"[{crop}, {crop}, {crop}]")
    assert replace[0] in text
    path.write_text(text.replace(*replace) if replace[0] else text, encoding="utf-8")
    return path


def head_scan(shape: tuple[int, int, int] = (20, 22, 18)) -> np.ndarray:
    return phantom.head(shape).astype(np.float32)
