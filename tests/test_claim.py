"""Work that one process of several does: a place of its own, which goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import Timeout

from phantomseg.inference.claim import HIDDEN, claimed, is_claimed, sweep


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_place_of_a_claim_is_empty_and_goes_with_it(tmp_path: Path) -> None:
    with claimed(tmp_path, "work", wait=False) as stage:
        assert not stage.exists() and is_claimed(tmp_path, "work") and not is_claimed(tmp_path, "other")
        stage.mkdir()
        (stage / "half").touch()
        with pytest.raises(Timeout), claimed(tmp_path, "work", wait=False):
            pass
        assert files(stage) == ["half"]
        with claimed(tmp_path, "other", wait=False):
            pass
    assert not is_claimed(tmp_path, "work") and files(tmp_path) == []


def test_sweep_removes_what_nobody_is_at(tmp_path: Path) -> None:
    for name in ("dead", "dead too", "alive"):
        (tmp_path / HIDDEN / name).mkdir(parents=True)
        (tmp_path / HIDDEN / name / "half").touch()
    (tmp_path / HIDDEN / "dead.lock").touch()
    with claimed(tmp_path, "alive", wait=False) as stage:
        stage.mkdir()
        sweep(tmp_path)
        assert files(tmp_path / HIDDEN) == ["alive", "alive.lock"]
    sweep(tmp_path)
    assert files(tmp_path) == []
