"""Work that one process of several does, in a folder that nobody else sees and that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from phantomseg.errors import ScanError

MOVED = ".moved"  # in a stage, while its results are moved: which these are, the last one last
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
        ScanError: `folder` can be no folder.
    """
    stage, lock = folder / HIDDEN / key, _lock(folder, key)
    while not lock.is_locked:
        try:
            stage.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
        except (FileNotFoundError, FileExistsError):  # another process has removed the empty folder
            _check_places(stage.parent)
    try:
        _clear(stage, folder)
        yield stage
    finally:
        _clear(stage, folder)
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


def move_whole(stage: Path, folder: Path, paths: Sequence[PurePath], before: set[str]) -> list[Path]:
    """Bring results into place of which none counts without the last one; cut short, all of it is taken back.

    Args:
        stage: where they are now.
        folder: where they go.
        paths: of the results, below both.
        before: results that these take the place of; they need not exist.
    """
    names = [path.as_posix() for path in paths]
    (stage / MOVED).write_text(json.dumps([*sorted(before), *names]), encoding="ascii")
    (folder / paths[-1]).unlink(missing_ok=True)
    for name in before - set(names):
        (folder / name).unlink(missing_ok=True)
    placed = move(stage, folder, paths)
    (stage / MOVED).unlink()
    return placed


def being_moved(folder: Path) -> set[Path]:
    """Results in `folder` that some process is moving there, or was when it was killed."""
    stages = (folder / HIDDEN).iterdir() if (folder / HIDDEN).is_dir() else ()
    return {folder / name for stage in stages for name in _moving(stage)}


def sweep(folder: Path) -> None:
    """Remove what killed processes left; what others are at stays."""
    left: set[str] = set()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        left = {path.name.removesuffix(".lock") for path in (folder / HIDDEN).iterdir()}
    for key in sorted(left):
        with contextlib.suppress(OSError), claimed(folder, key, wait=False):
            pass


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless something is in it."""
    with contextlib.suppress(OSError):  # another process is at work, or has cleaned up
        folder.rmdir()


def _moving(stage: Path) -> list[str]:
    """What was being moved out of a stage, unless all of it has been."""
    try:
        names: list[str] = json.loads((stage / MOVED).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []
    return names if (stage / names[-1]).exists() else []


def _clear(stage: Path, folder: Path) -> None:
    for name in _moving(stage):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(stage, ignore_errors=True)


def _check_places(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if os.path.lexists(place) and not place.is_dir():
            raise ScanError(f"{place} is a file, or a link to nothing; wanted a folder, choose another one")


def _lock(folder: Path, key: str) -> FileLock:
    return FileLock(folder / HIDDEN / f"{key}.lock")
