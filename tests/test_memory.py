"""What the process is told about memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from phantomseg import cgroups
from phantomseg.memory import available_bytes, limit_bytes

CODE = """
from phantomseg.memory import forget_peak, peak_bytes
before = peak_bytes()
block = bytearray(b"1") * 300_000_000
held = peak_bytes()
del block
still = peak_bytes()
forget_peak()
after = peak_bytes()
assert min(held, still) > before + 290e6 and after < held - 290e6, (before, held, still, after)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget peaks")
def test_peak_begins_anew() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose process is in group /job/task of memory (version 1), and in /slice of version 2."""
    monkeypatch.setattr(cgroups, "CGROUP", f"{tmp_path}/")
    monkeypatch.setattr(cgroups, "PROCESS", str(tmp_path / "own"))
    (tmp_path / "own").write_text("4:cpu,memory:/job/task\n0::/slice\n")
    for place in ("memory", "memory/job", "memory/job/task", "slice"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    return tmp_path


def limited(place: Path, limit: str, used: int, cached: int) -> None:
    (place / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (place / "memory.usage_in_bytes").write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"rss 5\ntotal_inactive_file {cached}\n")


def test_memory_of_a_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2_000_000, 9_000_000))
    assert available_bytes(torch.device("cuda")) == 2e6 < available_bytes(torch.device("cpu"))


def test_memory_limit_is_the_least_of_its_groups(groups: Path) -> None:
    assert limit_bytes() is None
    limited(groups / "memory", str(2**63 - 4096), 100, 0)
    assert limit_bytes() is None
    limited(groups / "memory/job", "3000000000", 2_000_000_000, 0)
    assert limit_bytes() == 3e9
    (groups / "slice/memory.max").write_text("2000000000\n")
    assert limit_bytes() == 2e9
    (groups / "slice/memory.max").write_text("max\n")
    assert limit_bytes() == 3e9


def test_what_is_left_is_that_of_the_fullest_group(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomseg.memory.kept_bytes", lambda: 0.0)
    monkeypatch.setattr("phantomseg.memory._free_bytes", lambda: 9e9)
    assert available_bytes() == 9e9
    limited(groups / "memory/job", "3000000000", 2_500_000_000, 250_000_000)
    limited(groups / "memory/job/task", "2000000000", 1_000_000_000, 0)
    assert available_bytes() == 750_000_000  # cached files make room
