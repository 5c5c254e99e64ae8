"""The folder that results go to: what may be replaced there, and which BIDS dataset it is derived from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from phantomseg import __version__
from phantomseg.errors import ScanError
from phantomseg.inference import bids
from phantomseg.inference.rawdata import DESCRIPTION
from phantomseg.inference.tables import WIDE, write_json, write_text

TABLE, REPORT = "volumes.tsv", "report.html"
# what the first lines of files hold that are of a folder of results, and may be replaced
MARKS = {TABLE: "\t".join([*WIDE][:4]), REPORT: "PhantomSeg", DESCRIPTION: "PhantomSeg"}
FIRST = 4096


def check_ours(folder: Path) -> None:
    """Refuse a folder in which files of others have the names that those of all scans will have.

    Raises:
        ScanError: names the first one.
    """
    for name, mark in MARKS.items():
        path = folder / name
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                begins = file.read(FIRST)
            if mark not in begins:
                raise ScanError(f"{path} would be replaced, and is no result of PhantomSeg; choose another folder")


def check_dataset(folder: Path, datasets: Sequence[Path]) -> None:
    """Refuse to derive one folder of results from several BIDS datasets, as its sidecars can name only one.

    Raises:
        ScanError: names two of them.
    """
    if not datasets:
        return
    first = datasets[0]
    other = next((dataset for dataset in datasets if dataset.resolve() != first.resolve()), None)
    if other is not None:
        raise ScanError(f"{first} and {other} are two BIDS datasets; give one at a time, each a folder of its own")
    if (folder / DESCRIPTION).is_file():
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get("DatasetLinks", {}).get("raw")
        wanted = bids.dataset_description(__version__, first, folder)["DatasetLinks"]["raw"]
        if found != wanted:
            raise ScanError(
                f"{folder} holds results of the dataset {found}, and these would be of {wanted}; choose another "
                f"folder, or remove {DESCRIPTION} if the dataset has moved"
            )


def write_description(folder: Path, dataset: Path) -> None:
    """Make a folder that of a BIDS dataset of results, unless it is one already."""
    if not (folder / DESCRIPTION).is_file():
        write_text(folder / ".bidsignore", bids.bidsignore())
        write_json(folder / DESCRIPTION, bids.dataset_description(__version__, dataset, folder))
