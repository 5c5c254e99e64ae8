"""Work that one process of several does, in a folder that nobody else sees and that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

HIDDEN = ".phantomseg"  # locks, and files that are being written


@contextlib.contextmanager
def claimed(folder: Path, key: str, wait: bool) -> Iterator[Path]:
    """An empty place for results on their way into `folder`, this process's alone, and gone afterwards.

    The lock ends with its process, so what a killed one left is taken over.

    Args:
        folder: of results.
        key: names the work, as a file name.
        wait: for a process that is at the same work.

    Raises:
        Timeout: another process is at it, and `wait` is not set.
    """
    stage, lock = folder / HIDDEN / key, _lock(folder, key)
    while not lock.is_locked:
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # another process has removed the empty folder
            stage.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
    try:
        shutil.rmtree(stage, ignore_errors=True)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with contextlib.suppress(OSError):  # some systems keep a file that is open
            os.unlink(lock.lock_file)  # while it is held: who waits sees that it is gone, and makes a new one
        lock.release()
        remove_if_empty(folder / HIDDEN)


def is_claimed(folder: Path, key: str) -> bool:
    """Whether another process is at some work now."""
    if not Path(_lock(folder, key).lock_file).exists():
        return False
    try:
        with _lock(folder, key).acquire(timeout=0):
            return False
    except (Timeout, FileNotFoundError):
        return True


def move(stage: Path, folder: Path, paths: Iterable[PurePath]) -> list[Path]:
    """Bring files into place, each in one step, in this order; returns where they are."""
    placed = []
    for path in paths:
        placed.append(folder / path)
        placed[-1].parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / path, placed[-1])
    return placed


def sweep(folder: Path) -> None:
    """Remove what killed processes left; what others are at stays."""
    left: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        left = {path.name.removesuffix(".lock") for path in (folder / HIDDEN).iterdir()}
    for key in sorted(left):
        with contextlib.suppress(OSError), claimed(folder, key, wait=False):
            pass


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""
    with contextlib.suppress(OSError):  # another process is at work, or has cleaned up
        folder.rmdir()


def _lock(folder: Path, key: str) -> FileLock:
    return FileLock(folder / HIDDEN / f"{key}.lock")
