"""Memory: what there is for this process, and what it holds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import torch

from phantomseg.cgroups import groups

UNLIMITED_BYTES = 1e15  # some systems write the largest number there is
FILES = {  # by controller: limit, use, and the part of it that is cached files
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 tells."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def available_bytes(device: torch.device | None = None) -> float:
    """Memory that this process may still take: what the machine has free, or what its cgroup leaves (Linux).

    Args:
        device: where it computes; of a GPU with memory of its own, what is free there counts too.
    """
    found = [_free_bytes()]
    for place, controller in groups("memory"):
        limit, used, cached = FILES[controller]
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or its limit is "max"
            rows = (place / "memory.stat").read_text().splitlines()
            files = float(dict(row.split() for row in rows).get(cached, 0))
            found.append(float((place / limit).read_text()) - float((place / used).read_text()) + files)
    left = max(0.0, min(found)) + kept_bytes()
    return min(left, float(torch.cuda.mem_get_info(device)[0])) if device and device.type == "cuda" else left


def limit_bytes() -> float | None:
    """What the cgroup of this process may hold in all, None where it has no limit (Linux)."""
    found = []
    for place, controller in groups("memory"):
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or its limit is "max"
            found.append(float((place / FILES[controller][0]).read_text()))
    return min((limit for limit in found if limit < UNLIMITED_BYTES), default=None)


def _free_bytes() -> float:
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    free = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    if free:
        return free[0]
    return 0.6 * float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if hasattr(os, "sysconf") else 4e9


def used_bytes() -> float:
    """Memory that this process holds and uses now; on systems other than Linux, the most it ever held."""
    status = Path("/proc/self/statm")
    if status.is_file():
        return float(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") - kept_bytes()
    return peak_bytes()


def kept_bytes() -> float:
    """Memory that the C library keeps for this process after it was freed (glibc): it is taken again first."""
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return 0.0
    mallinfo.restype = MallInfo
    return float(mallinfo().fordblks)


def peak_bytes() -> float:
    """Most memory that this process has held since it began, or since `forget_peak` (Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return float(line.split()[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    most = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else 1024 * most


def forget_peak() -> None:
    """Let `peak_bytes` begin anew (Linux, where the system allows it)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
