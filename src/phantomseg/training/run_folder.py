"""Lock and clean-up of a run's folder."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from phantomseg.errors import TrainingError

LOCK = ".lock"
HALF_WRITTEN = re.compile(r"\.[a-z0-9_]{8}\.(safetensors|csv|json|png)")  # names of `write_atomically`


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock a run's folder, and remove partial files of a killed run.

    Raises:
        TrainingError: another process has locked it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(f"another process trains in {folder}; wait for it, or choose another folder") from error
    try:
        for place in (folder, folder / "model"):
            for path in place.iterdir() if place.is_dir() else ():
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()
        yield
    finally:
        with contextlib.suppress(OSError):  # some systems keep a file that is open
            os.unlink(folder / LOCK)  # while it is held
            if is_new and not any(folder.iterdir()):
                folder.rmdir()  # the run could not begin
        lock.release()
