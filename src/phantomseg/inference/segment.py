"""The main job on one page: a scan in, labels on its own grid and volumes out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from phantomseg.errors import ScanError
from phantomseg.image.image import Image
from phantomseg.inference.predict import predict
from phantomseg.inference.prepare import Prepared, prepare
from phantomseg.inference.restore import restore
from phantomseg.inference.topology import keep_largest
from phantomseg.inference.volumes import soft_volumes
from phantomseg.labels import LabelSet, has_merge, label_set
from phantomseg.network.model import Model

SMALLEST_MM, LARGEST_MM = 15.0, 400.0  # longest axis


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Label map with the scan's geometry, and the volume of each label in mm³.

    The intracranial volume is that of brain, fluid and dura; None where the model does not tell them apart.
    """

    image: Image
    labels: LabelSet
    volumes_mm3: dict[str, float]
    intracranial_mm3: float | None = None


def segment(scan: Image, model: Model, labels: str = "freesurfer", flip: bool = True) -> Segmentation:
    """Label every voxel of a scan.

    Args:
        scan: any contrast, resolution and orientation.
        model: from `find_model` or `load_model`.
        labels: label set of the result; one that the model's merges into.
        flip: also predict the mirrored scan, and average; half as long again.

    Raises:
        ScanError: the field of view is larger than any head, or smaller than any piece of one.
        LabelError: no such label set.
    """
    size_mm = scan.spacing_mm * scan.shape
    if size_mm.max() > LARGEST_MM or size_mm.max() < SMALLEST_MM:
        raise ScanError(
            f"field of view is {tuple(round(float(s), 1) for s in size_mm)} mm, wanted {SMALLEST_MM:.0f} to "
            f"{LARGEST_MM:.0f} mm; crop the scan to the head, or correct its voxel size"
        )
    chosen = label_set(labels)
    prepared = prepare(scan, model.spacing_mm, model.network.multiple)  # type: ignore[arg-type]
    also = ["intracranial"] if has_merge(model.labels.name, "intracranial") else []
    probabilities, *intracranial = predict(model, prepared.image, [labels, *also], flip)
    seen = (slice(None), *prepared.inside)
    keep_largest(probabilities[seen], chosen)
    volumes = soft_volumes(probabilities[seen], chosen, prepared.voxel_volume_mm3)
    return Segmentation(
        image=restore(probabilities, prepared, chosen),
        labels=chosen,
        volumes_mm3=volumes,
        intracranial_mm3=_inside(intracranial[0][seen], prepared) if also else None,
    )


def _inside(probabilities: torch.Tensor, prepared: Prepared) -> float:
    return soft_volumes(probabilities, label_set("intracranial"), prepared.voxel_volume_mm3)["intracranial"]
