"""Threads: how many, and that those which wait sleep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from phantomseg import cgroups, runtime
from phantomseg.cgroups import quota_cores
from phantomseg.runtime import set_threads, usual_threads

pytestmark = pytest.mark.usefixtures("same_threads")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of eight cores where nobody asks for threads, and whose groups are files in a folder."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "physical_cores", lambda: 8)
    monkeypatch.setattr(cgroups, "CGROUP", f"{tmp_path}/")
    monkeypatch.setattr(cgroups, "PROCESS", str(tmp_path / "own"))
    (tmp_path / "own").write_text("4:cpu,cpuacct:/job\n0::/slice\n")
    for place in ("cpu/job", "slice"):
        (tmp_path / place).mkdir(parents=True)
    return tmp_path


def test_one_thread_a_core_where_nobody_says_otherwise(clean: Path) -> None:
    assert quota_cores() is None and usual_threads() == 8


@pytest.mark.parametrize(
    ("said", "wanted"),
    [({"OMP_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "2,4"}, 2), ({"SLURM_CPUS_PER_TASK": "5"}, 5)],
)
def test_variables_are_obeyed(clean: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], wanted: int) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert usual_threads() == wanted and set_threads(1) == 1


@pytest.mark.parametrize("said", ["", "0", "many", "-2"])
def test_variables_that_say_nothing_are_passed_over(clean: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert usual_threads() == 8


def test_quotas_of_both_versions_count(clean: Path) -> None:
    (clean / "slice/cpu.max").write_text("max 100000\n")
    assert quota_cores() is None
    (clean / "slice/cpu.max").write_text("350000 100000\n")
    assert quota_cores() == 3.5 and usual_threads() == 4
    for name, value in (("quota", 50_000), ("period", 100_000)):
        (clean / f"cpu/job/cpu.cfs_{name}_us").write_text(f"{value}\n")
    assert quota_cores() == 0.5 and usual_threads() == 1
    (clean / "cpu/job/cpu.cfs_quota_us").write_text("-1\n")
    assert quota_cores() == 3.5


def told(code: str, **variables: str) -> str:
    """What a new process prints, in an environment that says nothing of threads but `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "THP"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_variables_are_set_before_torch_is_loaded() -> None:
    code = "import os, sys, phantomseg; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    assert told(code) == "False PASSIVE"
    assert told(code, OMP_WAIT_POLICY="ACTIVE") == "False ACTIVE"


@pytest.mark.skipif(not sys.platform.startswith("linux") or (os.cpu_count() or 1) < 2, reason="GNU's OpenMP, two cores")
def test_a_pool_is_left_asleep_only_where_torch_came_first() -> None:
    code = "{}; import threading; from phantomseg import runtime; runtime.set_threads(1); runtime.set_threads(1);"
    code += "print([t.name for t in threading.enumerate()][1:], runtime.torch.get_num_threads())"
    assert told(code.format("import torch")) == "['phantomseg-idle'] 1"
    assert told(code.format("import phantomseg")) == "[] 1"
    assert told(code.format("import torch"), OMP_WAIT_POLICY="ACTIVE") == "[] 1"


def test_threads_of_torch_follow() -> None:
    assert set_threads(1) == torch.get_num_threads() == 1
