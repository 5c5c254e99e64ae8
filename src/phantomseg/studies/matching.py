"""Scans of a folder by pattern, and what is missing of some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phantomseg.image.files import scan_paths


@dataclass(frozen=True)
class Scan:
    """One scan of a subject; `part` is its contrast or session where a subject has several."""

    dataset: str
    subject: str
    image: Path
    part: str = ""
    reference: Path | None = None


def find_scans(
    dataset: str, folder: Path, patterns: dict[str, str], reference: str | None
) -> tuple[list[Scan], list[tuple[str, str]]]:
    """Scans in order of subject and part, and what is missing of others, each with a sentence."""
    files = [file.name for file in scan_paths(folder)]
    others = [reference] if reference else []
    parts = {part: _matching(pattern, files, _narrower(pattern, [*patterns.values(), *others]))
             for part, pattern in patterns.items()}  # fmt: skip
    subjects = sorted(set().union(*map(set, parts.values())) if parts else ())
    truths = _matching(reference, files, []) if reference else {}
    scans, missing = [], []
    for subject in subjects:
        if reference and subject not in truths:
            scan = folder / next(found[subject] for found in parts.values() if subject in found)
            lacking = reference.replace("*", subject)
            missing.append((subject, f"scan {scan} has no label map {lacking}; add it, or take the scan away"))
            continue
        for part, found in parts.items():
            if subject in found:
                truth = folder / truths[subject] if reference else None
                scans.append(Scan(dataset, subject, folder / found[subject], part, truth))
            else:
                lacking = patterns[part].replace("*", subject)
                missing.append(
                    (f"{subject} {part}", f"{folder / lacking} does not exist; add it, or leave {subject} out")
                )
    for subject in sorted(set(truths) - set(subjects)) if patterns else ():
        missing.append((subject, f"label map {folder / truths[subject]} has no scan; add it, or take the map away"))
    return scans, missing


def _matching(pattern: str, files: list[str], narrower: list[str]) -> dict[str, str]:
    """File of each name that stands for the star; files that a narrower pattern claims are another's."""
    before, after = pattern.split("*")
    claimed = {file for other in narrower for file in _matching(other, files, []).values()}
    return {
        file[len(before) : len(file) - len(after)]: file
        for file in files
        if file.startswith(before)
        and file.endswith(after)
        and len(file) > len(before) + len(after)
        and file not in claimed
    }


def _narrower(pattern: str, patterns: list[str]) -> list[str]:
    """Patterns that match only files which this one matches too.

    >>> _narrower("*.nii.gz", ["*.nii.gz", "*_dseg.nii.gz", "a*_T1w.nii"])
    ['*_dseg.nii.gz']
    """
    before, after = pattern.split("*")
    return [
        other
        for other in patterns
        if other != pattern and other.split("*")[0].startswith(before) and other.split("*")[1].endswith(after)
    ]
