"""The cases of the OpenVINO backend, in a process of their own: one that has run OpenVINO may crash when it trains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from phantomseg.network.openvino_import import openvino_available


@pytest.mark.skipif(not openvino_available(), reason="openvino is not installed")
def test_cases_of_openvino() -> None:
    cases = Path(__file__).with_name("openvino_cases.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(cases)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
