"""The anatomical scans of a BIDS dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

from phantomseg.errors import ScanError
from phantomseg.inference.bids import ANATOMICAL, parse_bids
from phantomseg.inference.names import Found, Names, join_entities

DESCRIPTION = "dataset_description.json"
PLAIN = "T1w"  # scans whose results do not tell the suffix


def is_dataset(folder: Path) -> bool:
    """Whether a folder is the root of a raw BIDS dataset: its description says so, or its subfolders do."""
    kind = _dataset_type(folder)
    if kind is None:
        return any(_anatomical_folders(participant) for participant in _subfolders(folder, "sub-"))
    return kind == "raw"


def is_derivative(folder: Path) -> bool:
    """Whether a folder is the root of a BIDS dataset of results."""
    return _dataset_type(folder) == "derivative"


def find_raw(dataset: Path, output: Path) -> list[Found]:
    """Every anatomical NIfTI file of a dataset, sorted; phase images and face masks are no scans of a head.

    The results go to sub-LABEL/[ses-LABEL/]anat; those of all but T1w scans tell the suffix, whatever else
    is there.

    Raises:
        ScanError: no such file, or results would be mixed with the dataset.
    """
    if os.path.realpath(output) == os.path.realpath(dataset):
        raise ScanError(
            f"results of {dataset} would be mixed with it; write to {dataset}/derivatives/phantomseg instead"
        )
    found = raw_scans(dataset)
    if not found:
        raise ScanError(
            f"{dataset} holds no anatomical scans with BIDS names, wanted files like sub-01/anat/sub-01_T1w.nii.gz; "
            "rename them, or give the files themselves"
        )
    return found


def raw_scans(dataset: Path) -> list[Found]:
    """As `find_raw`; of a dataset without anatomical scans, none."""
    found = []
    for participant in _subfolders(dataset, "sub-"):
        for folder in _anatomical_folders(participant):
            found += [scan for path in sorted(folder.iterdir()) if (scan := _read_name(path, dataset))]
    return found


def read_description(folder: Path) -> dict[str, Any] | None:
    """What a folder says of itself as a dataset: nothing where that is damaged, None where it does not."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _dataset_type(folder: Path) -> str | None:
    """DatasetType in lower case; "raw" where the description does not say, None without a description."""
    description = read_description(folder)
    if description is None:
        return None
    kind = description.get("DatasetType")
    return kind.lower() if isinstance(kind, str) else "raw"


def _subfolders(folder: Path, prefix: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(prefix) and path.is_dir())


def _anatomical_folders(participant: Path) -> list[Path]:
    places = [participant, *_subfolders(participant, "ses-")]
    return [place / name for place in places for name in ("anat", "ct") if (place / name).is_dir()]


def _read_name(path: Path, dataset: Path) -> Found | None:
    if path.name.startswith(".") or not path.name.endswith((".nii.gz", ".nii")):
        return None
    try:
        entities, suffix = parse_bids(path)
    except ScanError:
        return None
    if suffix not in ANATOMICAL or entities.get("part", "mag") != "mag":
        return None
    places = path.relative_to(dataset).parts[:-2]  # the folders tell whose scan it is
    participant, session = places[0].removeprefix("sub-"), places[1].removeprefix("ses-") if places[1:] else ""
    names = Names(PurePath(*places, "anat"), join_entities(entities), suffix=suffix, shared=suffix != PLAIN)
    return Found(path, names, participant=participant, session=session)
