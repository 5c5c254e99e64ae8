"""What the process is told about its memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
from phantomseg.runtime import forget_peak, peak_bytes
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
