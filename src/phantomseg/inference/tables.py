"""Measures as tab-separated tables, each with a JSON dictionary of its columns beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from phantomseg.image.files import write_atomically

STRUCTURES = {
    "index": {"Description": "Value of the label in the label map"},
    "name": {"Description": "Name of the label"},
    "volume_mm3": {
        "Description": "Sum of the label's probabilities times the voxel volume of the network's grid: partial voxels "
        "count in part",
        "Units": "mm^3",
    },
    "hard_mm3": {"Description": "Voxels of the label map times their volume", "Units": "mm^3"},
    "low_mm3": {"Description": "Lower end of the 90 % interval of the volume", "Units": "mm^3"},
    "high_mm3": {"Description": "Upper end of the 90 % interval of the volume", "Units": "mm^3"},
    "asymmetry_percent": {
        "Description": "Left minus right volume over their mean; the same in both rows",
        "Units": "percent",
    },
    "quality": {"Description": "Predicted Dice with a true segmentation by the protocol of training, 0 to 1"},
}
WIDE = {
    "name": {"Description": "What the results of the scan are called"},
    "scan": {"Description": "File, or folder of a DICOM series"},
    "volume": {"Description": "Number of the volume in a file of several, from 0"},
    "total intracranial volume": {
        "Description": "Sum of the probabilities of brain, the fluid around it, and dura, times the voxel volume",
        "Units": "mm^3",
    },
    "quality": {"Description": "Predicted mean Dice of all structures that are there, 0 to 1"},
}


def write_table(path: Path, rows: Iterable[Sequence[Any]], columns: dict[str, Any]) -> None:
    """Write rows below the names of `columns` as TSV, missing values as n/a, and the dictionary as JSON beside it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["n/a" if value is None else value for value in row] for row in rows])
    write_text(path, text.getvalue())
    write_json(path.with_suffix(".json"), columns)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, in one step; bytes in names of files that are no text are spelt out."""
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))
