"""The main job on one page: a scan in, labels on its own grid and volumes out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from phantomseg.errors import ScanError
from phantomseg.image.checks import LARGEST_MM, SMALLEST_MM
from phantomseg.image.image import Image
from phantomseg.inference.memory import AROUND_BYTES, REFINE_BYTES, plan_tiles
from phantomseg.inference.predict import predict
from phantomseg.inference.prepare import Prepared, prepare
from phantomseg.inference.quality import Quality, assess, read_signs
from phantomseg.inference.refine import THICK_MM, refine, sets_to_refine
from phantomseg.inference.restore import restore
from phantomseg.inference.tissues import REFINED, tells_around
from phantomseg.inference.topology import keep_largest
from phantomseg.inference.volumes import Structure, hard_volumes, soft_volumes, structures
from phantomseg.labels import LabelSet
from phantomseg.memory import available_bytes, used_bytes
from phantomseg.network.model import Model

INTRACRANIAL = "intracranial"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Label map with the scan's geometry, and the measures of each label.

    The intracranial volume is that of brain, fluid and dura; None where the model does not tell them apart. `quality`
    is None where the model has no calibration for the label set.
    """

    image: Image
    labels: LabelSet
    structures: tuple[Structure, ...]
    intracranial_mm3: float | None = None
    quality: Quality | None = None
    prepared: Prepared | None = field(default=None, repr=False)  # the network's grid
    probabilities: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)  # of each set, (C, I, J, K) there
    tiles: int = 1

    @property
    def volumes_mm3(self) -> dict[str, float]:
        """Sum of probabilities of each label, in mm³."""
        return {structure.name: structure.volume_mm3 for structure in self.structures}


def segment(
    scan: Image,
    model: Model,
    labels: str = "freesurfer",
    flip: bool = True,
    also: tuple[str, ...] = (),
    most_bytes: float | None = None,
) -> Segmentation:
    """Label every voxel of a scan.

    Args:
        scan: any contrast, resolution and orientation.
        model: from `find_model` or `load_model`.
        labels: label set of the result; one that the model's merges into.
        flip: also predict the mirrored scan, and average; half as long again.
        also: more label sets whose probabilities the result shall hold.
        most_bytes: memory that the process may hold; by default, what the machine or its cgroup has left.

    Raises:
        ScanError: the field of view is larger than any head, or smaller than any piece of one.
        LabelError: no such label set.
        MemoryLimitError: not enough memory, even in tiles.
    """
    check_field_of_view(scan)
    chosen = model.label_set(labels)
    prepared = prepare(scan, model, chosen.brain_alone)
    inner = [INTRACRANIAL] if model.reaches(INTRACRANIAL) else []
    refined = model.refines and model.reaches(REFINED)
    wanted = list(dict.fromkeys([labels, *inner, *also]))
    sets = [*wanted, *(sets_to_refine(model, wanted) if refined else ())]
    left = available_bytes(model.device) if most_bytes is None else most_bytes - used_bytes()
    i, j, k = prepared.grid.shape
    channels = sum(len(model.label_set(name)) for name in sets)
    after_bytes = (AROUND_BYTES if tells_around(model, wanted) else REFINE_BYTES) if refined else 0
    tiles = plan_tiles((i, j, k), channels, model.network, left, after_bytes)
    predicted = predict(model, prepared.image, sets, flip, prepared.middle, tiles)
    probabilities = dict(zip(sets, predicted.sets, strict=True))
    seen = (slice(None), *prepared.inside)
    inside = {name: found[seen] for name, found in probabilities.items()}
    if refined:
        image = prepared.image[(0, 0, *prepared.inside)]
        thick = bool(scan.spacing_mm.max() > THICK_MM)
        refine(inside, image, model, thick, prepared.enlarged, prepared.ct)
    kept_share = {name: keep_largest(found, model.label_set(name)) for name, found in inside.items()}[labels]
    quality = None
    if model.calibration:
        signs = read_signs(inside[labels], kept_share, predicted.agreement, prepared.voxel_volume_mm3)
        quality = assess(signs, chosen, model.calibration)
    restored = restore(probabilities[labels], prepared, chosen)
    soft = {
        name: soft_volumes(inside[name], model.label_set(name), prepared.voxel_volume_mm3) for name in [labels, *inner]
    }
    return Segmentation(
        image=restored,
        labels=chosen,
        structures=structures(chosen, soft[labels], hard_volumes(restored, chosen), quality),
        intracranial_mm3=soft[INTRACRANIAL][INTRACRANIAL] if inner else None,
        quality=quality,
        prepared=prepared,
        probabilities={name: probabilities[name] for name in wanted},
        tiles=len(tiles),
    )


def check_field_of_view(scan: Image) -> None:
    """Refuse what can be no head.

    Raises:
        ScanError: its longest axis is too long, or too short.
    """
    size_mm = scan.spacing_mm * scan.shape
    if size_mm.max() > LARGEST_MM or size_mm.max() < SMALLEST_MM:
        raise ScanError(
            f"field of view is {tuple(round(float(s), 1) for s in size_mm)} mm, wanted {SMALLEST_MM:.0f} to "
            f"{LARGEST_MM:.0f} mm; crop the scan to the head, or correct its voxel size"
        )
