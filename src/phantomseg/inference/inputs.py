"""Which scans to segment: files, folders, lists and BIDS datasets become jobs, each with names of its own."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from phantomseg.errors import PhantomSegError, ScanError, one_sentence
from phantomseg.image.dicom import is_dicom_folder
from phantomseg.image.files import volume_count
from phantomseg.image.stream import SUFFIXES
from phantomseg.inference import lists
from phantomseg.inference.claim import being_moved
from phantomseg.inference.manifest import ENDING, read_manifest
from phantomseg.inference.names import Found, Names, plain_names
from phantomseg.inference.rawdata import find_raw, is_dataset, is_derivative, raw_scans


@dataclass(frozen=True)
class Job:
    """One volume to segment."""

    scan: Path  # a file, or the folder of a DICOM series
    volume: int | None  # of a file of several; None for a file of one
    names: Names  # what its results are called

    @property
    def dataset(self) -> Path | None:
        """Root of the BIDS dataset that the scan is of, None for other scans."""
        return self.scan.parents[len(self.names.folder.parts)] if self.names.bids else None


@dataclass(frozen=True)
class Selection:
    """What to take of BIDS datasets and of files with several volumes; everything, unless said otherwise."""

    participants: tuple[str, ...] = ()  # labels, with or without "sub-"
    sessions: tuple[str, ...] = ()  # labels, with or without "ses-"
    volume: int | None = None  # counted from 0


def find_jobs(sources: Sequence[Path], output: Path, selection: Selection) -> list[Job]:
    """Every volume to segment, each once, in the order of the sources.

    Args:
        sources: image files; folders, searched to the bottom, where a DICOM series counts as one scan; lists as in
            `read_list`; BIDS datasets. What PhantomSeg wrote, results of BIDS datasets and hidden files are left out
            of folders.
        output: folder of the results; left out too, where it lies in a source.
        selection: participants, sessions and volume wanted.

    A file that is missing or cannot be read becomes a job, so that reading it fails and the rest is done.

    Raises:
        ScanError: a folder or list without scans, a selection that nothing matches, or two scans whose results would
            have the same names, or would replace a scan.
    """
    if selection.volume is not None and selection.volume < 0:
        raise ScanError(f"volume {selection.volume} was asked for, wanted a number from 0")
    try:
        found = [scan for source in sources for scan in _find(Path(source), Path(output))]
    except OSError as error:
        raise ScanError(one_sentence(error)) from error
    jobs = _once([(job, scan.named) for scan in _select(found, selection) for job in _volumes(scan, selection.volume)])
    _check_names(jobs, Path(output))
    return jobs


def _find(source: Path, output: Path) -> list[Found]:
    if source.is_dir():
        return find_raw(source, output) if is_dataset(source) else _find_in_folder(source, output)
    if source.suffix.lower() in lists.SUFFIXES and source.is_file():
        return lists.read_list(source)
    return [Found(source, plain_names(source))]


def _find_in_folder(source: Path, output: Path) -> list[Found]:
    if any(is_derivative(folder) for folder in (source, *source.resolve().parents)):
        raise ScanError(f"{source} holds results of a BIDS dataset, wanted scans; give its files one by one, or a list")
    here = os.path.realpath(output) == os.path.realpath(source)
    real = source.resolve()
    for parent in real.parents:
        if real.relative_to(parent).parts[0].startswith("sub-") and is_dataset(parent):
            raise ScanError(
                f"{source} is part of the BIDS dataset {parent}; give that, with --participant and --session if need be"
            )
    moving = {_identity(path) for path in being_moved(output)} if here else set()
    found = list(_walk(source, source, moving, set() if here else {os.path.realpath(output)}))
    if not found:
        raise ScanError(f"{source} holds no scans ({', '.join(SUFFIXES)} or a DICOM series); check the folder")
    return found


def _walk(folder: Path, source: Path, moving: set[str], visited: set[str]) -> Iterator[Found]:
    """Scans in a folder, then those in its subfolders; links that lead in a circle are followed once."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    place = folder.relative_to(source)
    try:
        if folder != source and is_dataset(folder):
            yield from raw_scans(folder)
            return
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except PermissionError:
        yield Found(folder, plain_names(folder, place.parent))  # reading it will say why
        return
    folders = {path: path.is_dir() for path in entries}
    files = [path for path in entries if not folders[path]]
    written = {name.casefold() for name in _written(files)}
    for path in files:
        is_image = path.name.lower().endswith(SUFFIXES)
        if is_image and path.name.casefold() not in written and (not moving or _identity(path) not in moving):
            yield Found(path, plain_names(path, place))
    if files and is_dicom_folder(folder):
        yield Found(folder, plain_names(folder, place.parent))
    for path in entries:
        if folders[path] and path.name != "derivatives" and not is_derivative(path):
            yield from _walk(path, source, moving, visited)


def _written(files: list[Path]) -> Iterator[str]:
    """Names of results beside their manifest; a damaged one tells at least what they all begin with."""
    for path in files:
        if path.name.endswith(ENDING):
            manifest = read_manifest(path)
            if manifest is not None:
                yield from (PurePath(entry["path"]).name for entry in manifest["outputs"])
            else:
                yield from (result.name for result in Names(PurePath(), path.name.removesuffix(ENDING)).results)


def _select(found: list[Found], selection: Selection) -> list[Found]:
    for kind, prefix, wanted in (
        ("participant", "sub-", selection.participants),
        ("session", "ses-", selection.sessions),
    ):
        labels = [label.removeprefix(prefix) for label in wanted]
        if not labels:
            continue
        for scan in found:
            if not scan.participant:
                raise ScanError(f"{scan.scan} is of no BIDS dataset, so it has no {kind}; leave out the {kind}")
        known = sorted({getattr(scan, kind) for scan in found} - {""})
        missing = [label for label in labels if label not in known]
        if missing:
            there = ", ".join(known[:10]) + (", …" if known[10:] else "") or "none"
            raise ScanError(f"{kind} {missing[0]} has no anatomical scans; those that have: {there}")
        found = [scan for scan in found if getattr(scan, kind) in labels]
    return found


def _volumes(found: Found, selected: int | None) -> list[Job]:
    count = _count(found.scan)
    one_asked = found.volume if found.volume is not None else selected
    if count < 2 and not found.volume:
        return [Job(found.scan, None, found.names)]
    if found.named and found.volume is not None:
        return [Job(found.scan, found.volume, found.names)]
    numbers = range(count) if one_asked is None else [one_asked]  # one that is not there is reported when read
    return [Job(found.scan, number, found.names.of_volume(number, count)) for number in numbers]


def _count(scan: Path) -> int:
    """Volumes in a file; 1 where that cannot be told, as reading it will say why."""
    if not scan.is_file():
        return 1
    try:
        return volume_count(scan)
    except (PhantomSegError, OSError):
        return 1


def _once(jobs: list[tuple[Job, bool]]) -> list[Job]:
    first: dict[tuple[str, int | None], Job] = {}
    for job, named in jobs:
        other = first.setdefault((_identity(job.scan), job.volume), job)
        if named and other.names != job.names:
            raise ScanError(
                f"{job.scan} is given twice, to be called {other.names.prefix} and {job.names.prefix}; give it once"
            )
    return list(first.values())


def _check_names(jobs: list[Job], output: Path) -> None:
    taken: dict[str, Path] = {}
    scans = {_folded(job.scan.name) for job in jobs}
    places = {_identity(job.scan) for job in jobs}
    for job in jobs:
        for result in job.names.results:
            other = taken.setdefault(_folded(result.as_posix()), job.scan)
            if other is not job.scan:
                raise ScanError(
                    f"{other} and {job.scan} would both be written to {result.as_posix()}; rename one, "
                    "or list them in a table with columns scan and name"
                )
            if _folded(result.name) in scans and _identity(output / result) in places:
                raise ScanError(f"results of {job.scan} may replace {output / result}; choose another output folder")


def _identity(path: Path) -> str:
    """One text for all ways to write a path; the file itself may be a link, as in datasets under version control."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.normcase(os.path.join(os.path.realpath(parent), name))


def _folded(name: str) -> str:
    """Names that some file systems take for the same become the same text."""
    return unicodedata.normalize("NFC", name).casefold()
