"""The folder that results go to: what may be replaced there, and which BIDS dataset it is derived from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from phantomseg import __version__
from phantomseg.errors import ScanError
from phantomseg.inference import bids
from phantomseg.inference.rawdata import DESCRIPTION, read_description
from phantomseg.inference.tables import STRUCTURES, WIDE, write_json, write_text

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
        if path.is_file() and mark not in _begins(path):
            raise ScanError(f"{path} would be replaced, and is no result of PhantomSeg; choose another folder")


def check_dataset(folder: Path, datasets: Collection[Path]) -> None:
    """Refuse to derive one folder of results from several BIDS datasets, as its sidecars can name only one.

    Raises:
        ScanError: names two of them.
    """
    if not datasets:
        return
    first, *others = sorted({dataset.resolve(): dataset for dataset in datasets}.values())
    if others:
        raise ScanError(f"{first} and {others[0]} are two BIDS datasets; give one at a time, each a folder of its own")
    description = read_description(folder)
    if description is not None:
        links = description.get("DatasetLinks")
        found = links.get("raw") if isinstance(links, dict) else "that is not known"
        wanted = bids.dataset_description(__version__, first, folder)["DatasetLinks"]["raw"]
        if found != wanted:
            raise ScanError(
                f"{folder} holds results of the dataset {found}, and these would be of {wanted}; choose another "
                f"folder, or remove {DESCRIPTION} if the dataset has moved"
            )


def is_structures(path: Path) -> bool:
    """Whether a file is a table of the structures of a scan, by its first line."""
    return path.is_file() and _begins(path).split("\n", 1)[0] == "\t".join(STRUCTURES)


def write_description(folder: Path, dataset: Path) -> None:
    """Make a folder that of a BIDS dataset of results, unless it is one already."""
    if not (folder / DESCRIPTION).is_file():
        write_text(folder / ".bidsignore", bids.bidsignore())
        write_json(folder / DESCRIPTION, bids.dataset_description(__version__, dataset, folder))


def _begins(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(FIRST)
