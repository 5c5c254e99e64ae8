"""Limits that containers and batch systems set through Linux control groups, versions 1 and 2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP = "/sys/fs/cgroup/"
PROCESS = "/proc/self/cgroup"
VERSION_2 = ""  # which does not name controllers


def groups(controller: str) -> Iterator[tuple[Path, str]]:
    """Folders of the control groups of this process, from its own up to the root of each hierarchy.

    Each comes with its controller: the one asked for, or VERSION_2.
    """
    own = Path(PROCESS)
    lines = own.read_text().splitlines() if own.is_file() else []
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for name in (VERSION_2, controller):
        group = PurePosixPath(next((path for names, path in paths.items() if name in names.split(",")), "/"))
        for path in (group, *group.parents):
            yield Path(f"{CGROUP}{name}{path}"), name


def quota_cores() -> float | None:
    """CPU quota of this process in cores, or None."""
    found = []
    for place, controller in groups("cpu"):
        with contextlib.suppress(OSError, ValueError):  # no such group, or its quota is "max"
            if controller == VERSION_2:
                quota, period = (place / "cpu.max").read_text().split()
            else:
                quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            found.append(float(quota) / float(period))
    return min((cores for cores in found if cores > 0), default=None)  # −1 is no limit
