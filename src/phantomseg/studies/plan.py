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
from phantomseg.labels import Merge, label_set, merge, read_merge
from phantomseg.studies.matching import Scan, find_scans

EVALUATION = "evaluation"
DATASET_KEYS = ("folder", "image", "images", "sessions", "reference", "labels", "resample", "templates", "participants")
TOP_KEYS = ("datasets", "tools", "structures", "group")


@dataclass(frozen=True)
class Dataset:
    """Scans of one folder, what the values of their label maps mean, and what else the study is told of it."""

    name: str
    scans: tuple[Scan, ...]
    labels: str = "freesurfer"
    resample: bool = False  # labels found are brought to the reference's grid
    referenced: bool = False
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
    tables, tools = (take(path, content, key, dict, {}, "") for key in ("datasets", "tools"))
    if not (tables and all(isinstance(table, dict) for table in tables.values())):
        raise ScanError(f"{path} names no dataset; add a table [datasets.NAME] with folder and image")
    for name in (*tables, *tools):
        if "/" in name or name.startswith(".") or not name:
            raise ScanError(f"{path} has the name {name!r}, wanted one that can be a folder's; leave out slash and dot")
    return Plan(
        path=path,
        datasets=tuple(_dataset(path, name, table) for name, table in tables.items()),
        tools=tools,
        structures=_structures(path, take(path, content, "structures", list, [], "")),
        group=take(path, content, "group", dict, {}, ""),
    )


def to_evaluation(labels: str, plan: Plan) -> Merge:
    """Merge of the values of a shipped table, or of a CSV file of one's own, into the set `evaluation`.

    Raises:
        LabelError: neither.
    """
    if labels.endswith(".csv"):
        return read_merge(plan.where(labels), EVALUATION)
    return merge(labels, EVALUATION)


def _structures(path: Path, names: list[Any]) -> tuple[str, ...]:
    known = {label.structure for label in label_set(EVALUATION).labels[1:]}
    for name in names:
        if name not in known:
            raise ScanError(
                f"{path}: structures has {name!r}, wanted names of the set {EVALUATION} without left or right, as "
                "'hippocampus'; correct it"
            )
    return tuple(names)


def _dataset(path: Path, name: str, table: dict[str, Any]) -> Dataset:
    where = f"datasets.{name}"
    _check_keys(path, table, DATASET_KEYS, where)
    folder = path.parent / take(path, table, "folder", str, ".", where)
    if not folder.is_dir():
        raise ScanError(f"{path}: {folder} of dataset {name} is no folder; correct {where}.folder")
    kept = {
        key: folder / take(path, table, key, str, "", where) for key in ("templates", "participants") if key in table
    }
    if "templates" in kept and not kept["templates"].is_dir():
        raise ScanError(f"{path}: {kept['templates']} is no folder of label maps; correct {where}.templates")
    several, patterns = _patterns(path, where, table)
    reference = take(path, table, "reference", str, "", where)
    for pattern in (*patterns.values(), *([reference] if reference else [])):
        if not isinstance(pattern, str) or pattern.count("*") != 1 or "/" in pattern:
            raise ScanError(f"{path}: dataset {name} has the pattern {pattern!r}, wanted a file name with one * in it")
    scans, missing = find_scans(name, folder, patterns, reference or None)
    if patterns and not scans and not missing:
        wanted = " or ".join(patterns.values())
        raise ScanError(f"{folder} of dataset {name} holds no file like {wanted}; correct the pattern, or add scans")
    return Dataset(
        name=name,
        scans=tuple(scans),
        labels=take(path, table, "labels", str, "freesurfer", where),
        resample=take(path, table, "resample", bool, False, where),
        referenced=bool(reference),
        several=several,
        missing=tuple(missing),
        **kept,
    )


def _patterns(path: Path, where: str, table: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a subject has several of, and the pattern of each part."""
    given = [key for key in ("image", "images", "sessions") if key in table]
    if len(given) > 1:
        raise ScanError(f"{path}: {where} has {' and '.join(given)}, wanted one of them; make two datasets of it")
    if given in ([], ["image"]):
        alone = "templates" in table and not given
        return "", {} if alone else {"": take(path, table, "image", str, "*.nii.gz", where)}
    return given[0], take(path, table, given[0], dict, {}, where)


def take(path: Path, table: dict[str, Any], key: str, kind: type, usual: Any, where: str) -> Any:
    """Value of a key, which must be of its kind.

    Raises:
        ScanError: it is not.
    """
    value = table.get(key, usual)
    if not isinstance(value, kind):
        place = f"{where}.{key}" if where else key
        words = {str: "text in quotes", bool: "true or false", list: "a list", dict: "a table"}
        raise ScanError(f"{path}: {place} is {value!r}, wanted {words[kind]}; correct it")
    return value


def _check_keys(path: Path, table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        place = f"{where}.{unknown[0]}" if where else unknown[0]
        raise ScanError(f"{path} has an unknown key {place!r}; known here are {', '.join(known)}")
