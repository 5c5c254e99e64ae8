"""What a folder of results holds of all its scans: one table of volumes, and colour tables."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Any

from phantomseg.inference.claim import claimed, move
from phantomseg.inference.folder import TABLE
from phantomseg.inference.manifest import current
from phantomseg.inference.tables import WIDE, write_table, write_text
from phantomseg.labels import LabelSet
from phantomseg.labels.colours import freesurfer_table, itksnap_table, slicer_table


def write_summary(folder: Path, labels: LabelSet, failed: Collection[str] = ()) -> None:
    """Write volumes.tsv, with a row for each manifest in the folder, and how to show the labels.

    Args:
        folder: of the results.
        labels: what they hold; results of another set have no row.
        failed: names of scans without a row, whatever an earlier run left of them.
    """
    with claimed(folder, "summary", wait=True) as stage:
        rows = [_row(manifest, labels) for manifest in current(folder, labels.name, failed)]
        volume = {
            name: {"Description": f"Volume of the {name}, as volume_mm3", "Units": "mm^3"} for name in labels.names[1:]
        }
        write_table(stage / TABLE, rows, WIDE | volume)
        write_text(stage / "colours_freesurfer.txt", freesurfer_table(labels))
        write_text(stage / "colours_itksnap.txt", itksnap_table(labels))
        write_text(stage / "colours_slicer.ctbl", slicer_table(labels))
        move(stage, folder, [PurePath(path.name) for path in sorted(stage.iterdir())])


def _row(manifest: dict[str, Any], labels: LabelSet) -> list[Any]:
    volumes = {entry["name"]: entry["volume_mm3"] for entry in manifest["structures"]}
    shared = [manifest["name"], manifest["scan"], manifest["volume"], manifest["intracranial_mm3"], manifest["quality"]]
    return [*shared, *(volumes.get(name) for name in labels.names[1:])]
