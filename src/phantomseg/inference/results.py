"""What is written of one scan: label map, table of volumes, and whatever else is asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from phantomseg.errors import LabelError, PhantomSegError
from phantomseg.image.files import write_image
from phantomseg.image.grid import canonical, resample, resampled_grid
from phantomseg.image.image import Image
from phantomseg.image.series import write_shares
from phantomseg.inference import bids
from phantomseg.inference.names import Names, sidecar
from phantomseg.inference.prepare import Prepared
from phantomseg.inference.restore import label_values, onto_scan, restored_probability
from phantomseg.inference.segment import Segmentation
from phantomseg.inference.strip import BRAIN, Stripped
from phantomseg.inference.tables import STRUCTURES, write_json, write_table, write_text
from phantomseg.labels import LabelSet, label_set

SPACES = ("scan", "1mm", "both")
FINE_MM = 1.0
RESOLUTION = "Isotropic voxels of 1 mm, axes towards right, anterior, superior"


@dataclass(frozen=True)
class Outputs:
    """What to write of each scan beside its table of volumes."""

    space: str = "scan"  # grid of the label map
    probabilities: tuple[str, ...] = ()  # names of labels, or "all"
    brain: bool = False  # the scan without what is outside the brain, and the mask

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise PhantomSegError(
                f"space is {self.space!r}, wanted {', '.join(SPACES[:-1])} or {SPACES[-1]}; choose one"
            )

    def chosen_labels(self, labels: LabelSet) -> list[int]:
        """Channels whose probabilities are wanted.

        Raises:
            LabelError: the set has no such label.
        """
        if "all" in self.probabilities:
            return list(range(len(labels)))
        unknown = [name for name in self.probabilities if name not in labels.names]
        if unknown:
            raise LabelError(
                f"label set {labels.name} has no {unknown[0]!r}; choose of {', '.join(labels.names[1:])}, or all"
            )
        return [labels.names.index(name) for name in self.probabilities]


@dataclass(frozen=True, eq=False)
class Written:
    """A scan with its result, and where to write: into `folder`, under `names`; `source` is its BIDS URI."""

    folder: Path
    names: Names
    scan: Image
    result: Segmentation
    source: str = ""

    @property
    def prepared(self) -> Prepared:
        """The network's grid."""
        assert self.result.prepared is not None
        return self.result.prepared


def write_results(to: Written, outputs: Outputs) -> list[PurePath]:
    """Write everything asked for; returns paths relative to the folder."""
    labels, names = to.result.labels, to.names
    written = [*_volumes(to)]
    if outputs.space != "1mm":
        write_image(to.folder / names.segmentation, to.result.image)
        written += [names.segmentation, *_side(to, names.segmentation, bids.label_sidecar, labels)]
    if outputs.space != "scan":
        written += _resampled(to)
    if names.bids:
        write_text(to.folder / names.table, bids.dseg_table(labels))
        written.append(names.table)
    if outputs.brain:
        written += _brain(to)
    if outputs.probabilities:
        written += _probabilities(to, outputs.chosen_labels(labels))
    return written


def _volumes(to: Written) -> list[PurePath]:
    rows = [dataclasses.astuple(structure) for structure in to.result.structures]
    write_table(to.folder / to.names.volumes, rows, STRUCTURES)
    return [to.names.volumes, to.names.volumes.with_suffix(".json")]


def _resampled(to: Written) -> list[PurePath]:
    """Scan and label map with voxels of 1 mm, axes towards right, anterior, superior."""
    names, labels = to.names, to.result.labels
    grid = resampled_grid(to.prepared.canonical, FINE_MM, tolerance_mm=1e-6)
    values = label_values(to.result.probabilities[labels.name], to.prepared.grid, grid, labels)
    write_image(to.folder / names.resampled, Image(resample(canonical(to.scan), FINE_MM, 1e-6).voxels, grid.affine))
    write_image(to.folder / names.resampled_segmentation, Image(values, grid.affine))
    return [
        names.resampled,
        names.resampled_segmentation,
        *_side(to, names.resampled, bids.image_sidecar, False, RESOLUTION),
        *_side(to, names.resampled_segmentation, bids.label_sidecar, labels, RESOLUTION),
    ]


def write_stripped(to: Written, distance: bool) -> list[PurePath]:
    """Write mask, brain, its volume, and the distance to its surface; returns paths relative to the folder."""
    assert isinstance(to.result, Stripped)
    written = [*_volumes(to), *_masked(to, to.result.image)]
    if distance:
        path = to.names.distance
        write_image(to.folder / path, to.result.distance_mm)
        written += [path, *_side(to, path, bids.distance_sidecar, to.result.reach_mm)]
    return written


def _brain(to: Written) -> list[PurePath]:
    """Brain mask, and the scan within it."""
    brain = label_values(to.result.probabilities[BRAIN], to.prepared.grid, to.prepared.canonical, label_set(BRAIN))
    return _masked(to, onto_scan((brain == 1).astype(np.uint8), to.scan))


def _masked(to: Written, mask: Image) -> list[PurePath]:
    write_image(to.folder / to.names.mask, mask)
    inside = to.scan.voxels.copy(order="K")  # np.where would turn the order of memory, and writing turn it back
    outside = min(inside.min(), inside.dtype.type(0))  # air of computed tomography is not 0
    np.copyto(inside, outside, where=mask.voxels == 0)
    write_image(to.folder / to.names.brain, to.scan.with_voxels(inside))
    return [
        to.names.mask,
        to.names.brain,
        *_side(to, to.names.mask, bids.mask_sidecar),
        *_side(to, to.names.brain, bids.image_sidecar, True),
    ]


def _probabilities(to: Written, channels: list[int]) -> list[PurePath]:
    labels, path = to.result.labels, to.names.probabilities
    found: torch.Tensor = to.result.probabilities[labels.name]
    # the network is not shown what is surely background
    shares = (restored_probability(found[channel], to.prepared, float(channel == 0)) for channel in channels)
    write_shares(to.folder / path, to.scan, shares, len(channels))
    content = {**bids.probability_sidecar(to.source, labels), "LabelMap": [labels.names[c] for c in channels]}
    write_json(to.folder / sidecar(path), content)
    return [path, sidecar(path)]


def _side(to: Written, image: PurePath, describe: Any, *details: Any) -> list[PurePath]:
    """Sidecar of an image, where the names are those of BIDS."""
    if not to.names.bids:
        return []
    write_json(to.folder / sidecar(image), describe(to.source, *details))
    return [sidecar(image)]
