"""What a folder of results holds as a whole: one table of all scans, colour tables, the description of a dataset."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from phantomseg import __version__
from phantomseg.inference import bids
from phantomseg.inference.claim import claimed, move
from phantomseg.inference.manifest import read_manifests
from phantomseg.inference.tables import WIDE, write_json, write_table, write_text
from phantomseg.labels import LabelSet
from phantomseg.labels.colours import freesurfer_table, itksnap_table, slicer_table


def write_summary(folder: Path, labels: LabelSet, dataset: Path | None = None) -> None:
    """Write volumes.tsv, with a row for each manifest in the folder, and how to show the labels.

    Args:
        folder: of the results.
        labels: what they hold.
        dataset: BIDS dataset that they are derived from.
    """
    with claimed(folder, "summary", wait=True) as stage:
        rows = [_row(manifest, labels) for manifest in read_manifests(folder)]
        volume = {
            name: {"Description": f"Volume of the {name}, as volume_mm3", "Units": "mm^3"} for name in labels.names[1:]
        }
        write_table(stage / "volumes.tsv", rows, WIDE | volume)
        write_text(stage / "colours_freesurfer.txt", freesurfer_table(labels))
        write_text(stage / "colours_itksnap.txt", itksnap_table(labels))
        write_text(stage / "colours_slicer.ctbl", slicer_table(labels))
        if dataset is not None:
            write_json(stage / "dataset_description.json", bids.dataset_description(__version__, dataset, folder))
            write_text(stage / ".bidsignore", bids.bidsignore())
        move(stage, folder, [PurePath(path.name) for path in sorted(stage.iterdir())])


def _row(manifest: dict[str, Any], labels: LabelSet) -> list[Any]:
    volumes = {entry["name"]: entry["volume_mm3"] for entry in manifest["structures"]}
    shared = [manifest["name"], manifest["scan"], manifest["volume"], manifest["intracranial_mm3"], manifest["quality"]]
    return [*shared, *(volumes.get(name) for name in labels.names[1:])]
