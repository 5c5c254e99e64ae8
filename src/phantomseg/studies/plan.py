"""What a study works on: datasets and tools, as a TOML file says.

[datasets.miccai2012]
folder = "miccai2012"                # beside the file
image = "*_SS.nii.gz"                # the star is the scan's name
reference = "*_glm.nii.gz"           # where there is one
labels = "neuromorphometrics"        # what its values mean: a shipped table, or a CSV of one's own

[datasets.repeated]
images = { first = "*_ses-1_T1w.nii.gz", second = "*_ses-2_T1w.nii.gz" }

[tools.mine]
command = "mytool {input} {output}"  # or `model = "head"`, or `folder` and `map`
labels = "aseg"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phantomseg import toml
from phantomseg.errors import ScanError
from phantomseg.image.files import scan_paths
from phantomseg.labels import Merge, merge, read_merge

EVALUATION = "evaluation"
DATASET_KEYS = ("folder", "image", "images", "sessions", "reference", "labels", "resample", "templates", "participants")
TOP_KEYS = ("datasets", "tools", "structures", "group")


@dataclass(frozen=True)
class Scan:
    """One scan of a subject; `part` is its contrast or session where a subject has several."""

    dataset: str
    subject: str
    image: Path
    part: str = ""
    reference: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Scans of one folder, what the values of their label maps mean, and what else the study is told of it."""

    name: str
    scans: tuple[Scan, ...]
    labels: str = "freesurfer"
    resample: bool = False  # labels found are brought to the reference's grid
    several: str = ""  # what a subject has several of: images (contrasts) or sessions
    missing: tuple[tuple[str, str], ...] = ()  # name of a scan that lacks something, and a sentence
    templates: Path | None = None
    participants: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a file says."""

    path: Path
    datasets: tuple[Dataset, ...]
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    structures: tuple[str, ...] = ()  # those scored; all where there are none
    group: dict[str, Any] = field(default_factory=dict)

    def where(self, path: str) -> Path:
        """A path of the file, which counts from its folder."""
        return self.path.parent / path


def read_plan(path: Path) -> Plan:
    """Read a description of data and tools.

    Raises:
        ScanError: no such file, a fault in it, or a folder without scans.
    """
    path = Path(path)
    if not path.is_file():
        raise ScanError(f"{path} does not exist; give --data a TOML file with a table [datasets.NAME]")
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScanError(f"{path} is not valid TOML ({error}); correct that line") from error
    _check_keys(path, content, TOP_KEYS, "")
    tables = content.get("datasets") or {}
    if not (isinstance(tables, dict) and tables and all(isinstance(table, dict) for table in tables.values())):
        raise ScanError(f"{path} names no dataset; add a table [datasets.NAME] with folder and image")
    for name in (*tables, *(content.get("tools") or {})):
        if "/" in name or name.startswith("."):
            raise ScanError(f"{path} has the name {name!r}, wanted one that can be a folder's; leave out slash and dot")
    return Plan(
        path=path,
        datasets=tuple(_dataset(path, name, table) for name, table in tables.items()),
        tools=dict(content.get("tools") or {}),
        structures=tuple(content.get("structures") or ()),
        group=dict(content.get("group") or {}),
    )


def to_evaluation(labels: str, plan: Plan) -> Merge:
    """Merge of the values of a shipped table, or of a CSV file of one's own, into the set `evaluation`.

    Raises:
        LabelError: neither.
    """
    if labels.endswith(".csv"):
        return read_merge(plan.where(labels), EVALUATION)
    return merge(labels, EVALUATION)


def _dataset(path: Path, name: str, table: dict[str, Any]) -> Dataset:
    _check_keys(path, table, DATASET_KEYS, f"datasets.{name}")
    folder = path.parent / str(table.get("folder", "."))
    if not folder.is_dir():
        raise ScanError(f"{path}: {folder} of dataset {name} is no folder; correct datasets.{name}.folder")
    kept = {key: folder / str(table[key]) for key in ("templates", "participants") if key in table}
    several = next((key for key in ("images", "sessions") if key in table), "")
    patterns = dict(table.get(several) or {})
    if "image" in table or not (patterns or "templates" in table):
        patterns = {"": table.get("image", "*.nii.gz"), **patterns}
    reference = table.get("reference")
    for pattern in (*patterns.values(), *([reference] if reference else [])):
        if str(pattern).count("*") != 1:
            raise ScanError(f"{path}: dataset {name} has the pattern {pattern!r}, wanted a file name with one * in it")
    scans, missing = _scans(name, folder, patterns, reference)
    if patterns and not scans and not missing:
        wanted = " or ".join(map(str, patterns.values()))
        raise ScanError(f"{folder} of dataset {name} holds no file like {wanted}; correct the pattern, or add scans")
    return Dataset(
        name=name,
        scans=tuple(scans),
        labels=str(table.get("labels", "freesurfer")),
        resample=bool(table.get("resample", False)),
        several=several,
        missing=tuple(missing),
        **kept,
    )


def _scans(
    dataset: str, folder: Path, patterns: dict[str, str], reference: str | None
) -> tuple[list[Scan], list[tuple[str, str]]]:
    """Scans in order of subject and part, and what is missing of others."""
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


def _check_keys(path: Path, table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        place = f"{where}.{unknown[0]}" if where else unknown[0]
        raise ScanError(f"{path} has an unknown key {place!r}; known here are {', '.join(known)}")
