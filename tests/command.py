"""The command line run within the test, and the smallest model, recipe and scan it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module, resources
from pathlib import Path

import numpy as np
import phantom
import pytest
import torch
import typer

from phantomseg.cli.main import app, main
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, save_model

TINY = {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def refused(capfd: pytest.CaptureFixture[str], output: Path, *arguments: object) -> str:
    """The one sentence that a command stops with, having written nothing."""
    capfd.readouterr()
    before = sorted(output.parent.rglob("*"))
    assert run(*arguments, "--output", output) == 2
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1, printed.err
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err + printed.out
    assert sorted(output.parent.rglob("*")) == before
    return printed.err


def tiny_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
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


def check_every_flag_is_tested(name: str, tests: dict[str, Callable[..., None]]) -> None:
    """Each parameter of the command has a test, whose text holds every way to write its flag."""
    parameters = inspect.signature(import_module(f"phantomseg.cli.{name}").run).parameters
    assert set(tests) == set(parameters)
    options = typer.main.get_command(app).commands[name].params  # type: ignore[attr-defined]
    for option in options:
        flags = [flag for flag in (*option.opts, *option.secondary_opts) if flag.startswith("-")]
        for flag in flags if option.name in tests else []:
            assert f'"{flag}"' in inspect.getsource(tests[option.name]), f"{name} {flag}"
    assert set(tests) <= {option.name for option in options}
