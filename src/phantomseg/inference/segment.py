"""The main job on one page: a scan in, labels on its own grid and volumes out."""

from __future__ import annotations

from dataclasses import dataclass

from phantomseg.errors import ScanError
from phantomseg.image.image import Image
from phantomseg.inference.predict import predict
from phantomseg.inference.prepare import prepare
from phantomseg.inference.restore import restore
from phantomseg.inference.topology import keep_largest
from phantomseg.inference.volumes import soft_volumes
from phantomseg.labels import LabelSet, label_set
from phantomseg.network.model import Model

SMALLEST_MM, LARGEST_MM = 15.0, 400.0  # longest axis


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Label map with the scan's geometry, and the volume of each label in mm³."""

    image: Image
    labels: LabelSet
    volumes_mm3: dict[str, float]


def segment(scan: Image, model: Model, labels: str = "freesurfer", flip: bool = False) -> Segmentation:
    """Label every voxel of a scan.

    Args:
        scan: any contrast, resolution and orientation.
        model: from `find_model` or `load_model`.
        labels: label set of the result; one that the model's merges into.
        flip: also predict the mirrored scan, and average; twice the time.

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
    probabilities = predict(model, prepared.image, labels, flip)
    seen = probabilities[(slice(None), *prepared.inside)]
    keep_largest(seen, chosen)
    volumes = soft_volumes(seen, chosen, prepared.voxel_volume_mm3)
    return Segmentation(restore(probabilities, prepared, chosen), chosen, volumes)
