"""The Brain Imaging Data Structure (https://bids-specification.readthedocs.io): names in, metadata out."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Any

from phantomseg.errors import ScanError
from phantomseg.labels import LabelSet

VERSION = "1.10.0"
# suffixes of anatomical images; CT is not yet in the specification
ANATOMICAL = {
    "T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio", "T2star", "FLASH", "PD",
    "T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap", "PDmap", "PDT2map", "MTRmap", "MTsat", "UNIT1",
    "T1rho", "MWFmap", "MTVmap", "Chimap", "S0map", "M0map", "MESE", "MEGRE", "VFA", "IRT1", "MP2RAGE", "MPM",
    "MTS", "MTR", "ct", "CT",
}  # fmt: skip
# values of the common image-derived labels, by name of a label or else by its tissue
_COMMON = {
    "background": 0, "grey matter": 1, "white matter": 2, "csf": 3, "bone": 4, "skin": 5, "soft tissue": 5, "dura": 6,
    "vessel": 6, "lesion": 7, "cortical grey matter": 8, "subcortical grey matter": 9, "brain-stem": 10,
    "cerebellum": 11,
}  # fmt: skip
_PART = re.compile(r"([A-Za-z0-9]+)-([A-Za-z0-9+]+)")


def parse_bids(path: PurePath) -> tuple[dict[str, str], str]:
    """Entities and suffix of a file name.

    Raises:
        ScanError: the name is not made of entities and a suffix.

    >>> parse_bids(PurePath("sub-01_run-2_T1w.nii.gz"))
    ({'sub': '01', 'run': '2'}, 'T1w')
    """
    *parts, suffix = path.name.split(".", 1)[0].split("_")
    matches = [_PART.fullmatch(part) for part in parts]
    entities = {match[1]: match[2] for match in matches if match}
    if not parts or parts[0][:4] != "sub-" or len(entities) < len(parts) or not suffix.isalnum():
        raise ScanError(
            f"{path} has no BIDS name, wanted entities and a suffix like sub-01_T1w.nii.gz; rename it, "
            "or give the file itself instead of the dataset"
        )
    return entities, suffix


def dataset_description(version: str, source: Path, output: Path) -> dict[str, Any]:
    """Content of dataset_description.json for results in `output` of the dataset in `source`.

    Args:
        version: of PhantomSeg.
        source: root of the raw dataset; `bids:raw:` stands for it in sidecars.
        output: root of the results; where it lies inside `source`, the link between them is relative.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    link = source.as_uri()
    if source in output.parents:
        link = "/".join([".."] * len(output.relative_to(source).parts))
    return {
        "Name": "PhantomSeg: segmentation of head scans",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "PhantomSeg", "Version": version}],
        "SourceDatasets": [{"URL": source.as_uri()}],
        "DatasetLinks": {"raw": link},
    }


def bidsignore() -> str:
    """Content of .bidsignore: results that the specification has no name for."""
    return "\n".join(
        [
            *("*_morph.*", "*_distance.*", "*_report.html", "*_overlay.png", "*_manifest.json"),
            *("*_ct.*", "*_CT.*", "*_flip-*", "*_inv-*", "*_mt-*"),  # raw data only, or not even that
            *("*.html", "volumes.*", "colours_*", ""),
        ]
    )


def source_uri(scan: Path, dataset: Path) -> str:
    """A scan of the raw dataset, as sidecars name it.

    >>> source_uri(Path("data/sub-01/anat/sub-01_T1w.nii.gz"), Path("data"))
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    return f"bids:raw:{Path(scan).relative_to(dataset).as_posix()}"


def label_sidecar(source: str, labels: LabelSet, resolution: str = "") -> dict[str, Any]:
    """Sidecar of a label map; `resolution` says what a grid other than the scan's is."""
    description = f"Labels of the PhantomSeg set {labels.name!r}; their names are in the _dseg.tsv file"
    return _segmentation(description, source, resolution)


def probability_sidecar(source: str, labels: LabelSet, resolution: str = "") -> dict[str, Any]:
    """Sidecar of probabilities, whose volumes are the labels of the set in order."""
    description = f"Probability of each label of the PhantomSeg set {labels.name!r}"
    return {**_segmentation(description, source, resolution), "LabelMap": list(labels.names)}


def mask_sidecar(source: str, resolution: str = "") -> dict[str, Any]:
    """Sidecar of a brain mask."""
    return {**_segmentation("Brain mask, by PhantomSeg", source, resolution), "Type": "Brain"}


def distance_sidecar(source: str, reach_mm: float, resolution: str = "") -> dict[str, Any]:
    """Sidecar of a map of distances to the brain's surface, cut off at `reach_mm`."""
    description = f"Distance to the surface of the brain, negative within, cut off at {reach_mm:.3g} mm, by PhantomSeg"
    return {**_common(description, source, resolution), "Units": "mm"}


def image_sidecar(source: str, stripped: bool, resolution: str = "") -> dict[str, Any]:
    """Sidecar of the scan itself, without what is outside the brain (`stripped`) or on another grid."""
    description = "Scan without what is outside the brain mask" if stripped else "Scan on another grid"
    return {**_common(description, source, resolution), "SkullStripped": stripped}


def _segmentation(description: str, source: str, resolution: str) -> dict[str, Any]:
    content = {**_common(description, source, resolution), "Manual": False}
    return {**content, "SpatialReference": source} if source else content


def _common(description: str, source: str, resolution: str) -> dict[str, Any]:
    content: dict[str, Any] = {"Description": description}
    content |= {"Sources": [source]} if source else {}  # scans of no dataset have no address in one
    return {**content, "Resolution": resolution} if resolution else content


def dseg_table(labels: LabelSet) -> str:
    r"""Tab-separated meaning of the values of a label map; `mapping` is the value of the common image-derived labels.

    >>> from phantomseg.labels import label_set
    >>> dseg_table(label_set("siam")).splitlines()[5].split("\t")
    ['4', 'ventricles', '#781286', '3']
    """
    rows = ["index\tname\tcolor\tmapping"]
    for label in labels.labels:
        mapping = _COMMON.get(label.name, _COMMON.get(label.tissue, "n/a"))
        rows.append(f"{label.id}\t{label.name}\t{label.color}\t{mapping}")
    return "\n".join(rows) + "\n"
