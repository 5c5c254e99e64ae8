"""Brain extraction on one page: a scan of any head in; a mask, and distances to its surface, on its own grid out.

The network knows brains of about one size. So a first look at all of the scan finds how large the brain is, and
others at its surroundings, with voxels that bring it to that size, find where it ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
import torch
from scipy import ndimage

from phantomseg.errors import ScanError
from phantomseg.image.finding import Finding
from phantomseg.image.grid import canonical
from phantomseg.image.image import Image
from phantomseg.image.intensity import windowed
from phantomseg.inference.bare import on_look, stripped_before
from phantomseg.inference.look import MASK, PROBABLE, Look, content_of, look_at
from phantomseg.inference.restore import restored
from phantomseg.inference.segment import Segmentation, segment
from phantomseg.inference.species import AUTO, HUMAN, check_species, spacing_for, species_ml
from phantomseg.inference.topology import closed
from phantomseg.inference.volumes import hard_volumes, structures
from phantomseg.labels import has_merge, label_set
from phantomseg.memory import available_bytes, used_bytes
from phantomseg.network.losses import SOFT_VOXELS
from phantomseg.network.model import Model

BRAIN = "brain"  # label set
FIRST_VOXELS = 96  # of the longest axis of the content, in the first look
SCALES = (1.0, 0.7, 0.5)  # of the first look's voxels, one after the other until a brain is found
LOOKS = 3  # closer ones
SAME_SIZE = 0.1  # change of the spacing, in its logarithm, at which another look tells nothing new
MARGIN = 0.25  # of the brain's longest diameter, around it
REACH_MM = 12.0  # of distances that the network does not predict
AT_EDGE = np.float32(0.01)  # mm from the surface of a brain that lies bare to the voxels beside it
SULCI_MM = 4.0  # half-width of what lies between labels of the brain and is yet within its mask
DOUBTFUL, NO_BRAIN = 0.8, 0.6  # sureness of a look below which a brain is doubtful, and below which there is none


@dataclass(frozen=True, eq=False)
class Stripped(Segmentation):
    """Mask of the brain as a label map, with the distances that it was cut from.

    Distances in mm on the scan's grid are negative within, and cut off at `reach_mm`. `spacing_mm` is that of the
    voxels which the network saw last.
    """

    field_mm: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1), np.float32), repr=False)
    reach_mm: float = 0.0
    spacing_mm: float = 0.0
    sureness: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def brain_ml(self) -> float:
        """Volume of the mask."""
        return self.structures[0].hard_mm3 / 1000

    @property
    def distance_mm(self) -> Image:
        """Distance to the brain's surface in mm, float32."""
        return self.image.with_voxels(self.field_mm)


def strip(
    scan: Image,
    model: Model,
    species: str = AUTO,
    border_mm: float = 0.0,
    keep_stripped: bool = True,
    most_bytes: float | None = None,
) -> Stripped:
    """Find the brain in a scan.

    Args:
        scan: any contrast, resolution, orientation and species, with a skull or without.
        model: from `find_model("strip")`, or another one of masks.
        species: sets the scale at which the network works; `auto` finds it.
        border_mm: how far outside the brain's surface the mask ends; negative is inside.
        keep_stripped: whether all of a scan is brain that was stripped before; a model of labels never keeps it.
        most_bytes: memory that the process may hold; by default, what the machine or its cgroup has left.

    Raises:
        ScanError: no such species, not one of the model's, or a border farther away than the network sees.
        LabelError: the model makes no masks.
        MemoryLimitError: not enough memory.
    """
    check_species(species)
    if has_merge(model.labels.name, BRAIN):
        look = labelled_brain(scan, model, species, most_bytes)
    else:
        left = available_bytes(model.device) if most_bytes is None else most_bytes - used_bytes()
        look = find_brain(scan, model, species, left)
    whole = stripped_before(scan, look) if keep_stripped and look.judged and is_brain(look) else None
    if whole is not None:
        look = replace(look, piece=on_look(whole, look), judged=False)
    reach = model.distance_voxels or REACH_MM / look.spacing_mm
    reach_mm = reach * look.spacing_mm
    if abs(border_mm) > reach_mm:
        raise ScanError(
            f"border is {border_mm:g} mm, and the network sees {reach_mm:.3g} mm around the surface of this brain; "
            "choose one nearer to 0"
        )
    voxels = _distance_voxels(look, whole is None and model.distance_voxels is not None).clip(-reach, reach)
    distance = restored(torch.from_numpy(voxels * np.float32(look.spacing_mm)), look.prepared, reach_mm)
    if whole is not None:  # the scan's own voxels know its edge better than those of the network
        np.copysign(np.maximum(np.abs(distance), AT_EDGE), np.where(whole, -1, 1), out=distance)
    mask = scan.with_voxels((distance < border_mm).astype(np.uint8))
    labels = label_set(MASK)
    volumes = hard_volumes(mask, labels)
    return Stripped(
        image=mask,
        labels=labels,
        structures=structures(labels, volumes, volumes, None),
        prepared=look.prepared,
        field_mm=distance,
        reach_mm=reach_mm,
        spacing_mm=look.spacing_mm,
        sureness=look.sureness,
        findings=_findings(look, whole is not None),
    )


def find_brain(scan: Image, model: Model, species: str, most_bytes: float) -> Look:
    """The last look at a scan: where the brain has the size that the network knows, or where there is none."""
    image = canonical(scan)
    voxels = windowed(image.voxels)
    image = image.with_voxels(np.subtract(voxels, voxels.min(), dtype=np.float32))
    content = content_of(image)

    def look(spacing_mm: float, near: Look | None = None) -> Look:
        box = content if near is None else near.box.grown(MARGIN * near.diameter_mm)
        return look_at(image, scan, model, spacing_mm, box, most_bytes)

    def closer(now: Look, known_mm: float | None = None) -> Look:
        for _ in range(LOOKS if now.found else 0):
            before = now.spacing_mm
            now = look(known_mm or spacing_for(now.brain_ml, model.spacing_mm), now)
            if not now.found or abs(math.log(before / now.spacing_mm)) < SAME_SIZE:
                break
        return now

    if species != AUTO:
        known_mm = spacing_for(species_ml()[species], model.spacing_mm)
        return closer(look(known_mm), known_mm)
    low, high = content.voxels(image.affine, 0.0)
    longest_mm = float(((high - low) * image.spacing_mm).max())
    looks: list[Look] = []
    for scale in SCALES:
        looks.append(closer(look(scale * longest_mm / FIRST_VOXELS)))
        if is_brain(looks[-1]):
            break
    return max(looks, key=lambda one: one.sureness)


def labelled_brain(scan: Image, model: Model, species: str, most_bytes: float | None) -> Look:
    """What a model labels as brain, with the sulci and holes between, at its own scale."""
    if species not in (AUTO, HUMAN):
        raise ScanError(f"species is {species!r}, and this model knows the human head alone; choose --model strip")
    result = segment(scan, model, BRAIN, most_bytes=most_bytes)
    assert result.prepared is not None
    probability = result.probabilities[BRAIN][1].float()
    probable = (probability > PROBABLE).numpy()
    if result.prepared.middle is None:
        probable[:] = False
    spacing_mm = np.full(3, model.spacing_mm)
    piece = cc3d.largest_k(closed(probable, spacing_mm, SULCI_MM), k=1, connectivity=6) > 0
    return Look(result.prepared, probability, piece, model.spacing_mm, judged=False)


def is_brain(look: Look) -> bool:
    """Whether what was found is a brain, as far as the network is sure."""
    return look.found and (look.sureness >= NO_BRAIN or not look.judged)


def _distance_voxels(look: Look, predicted: bool) -> np.ndarray:
    """Signed distance to the surface of the piece in voxels, float32 (I, J, K); what it encloses is inside."""
    solid = ndimage.binary_fill_holes(look.piece) if is_brain(look) else np.zeros_like(look.piece)
    if not predicted:
        return signed_distance(solid)
    logit = torch.logit(look.probability.clamp(1e-4, 1 - 1e-4))
    distance = logit.mul_(-SOFT_VOXELS).numpy()
    inside = look.probability.numpy() > PROBABLE
    return np.where(solid & ~inside, np.float32(-0.5), np.where(inside & ~solid, np.float32(np.inf), distance))


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in voxels to the surface of a mask, negative within, float32, infinite where there is none.

    >>> signed_distance(np.array([True, True, False]).reshape(1, 1, 3)).ravel().tolist()
    [-1.5, -0.5, 0.5]
    """
    if not mask.any() or mask.all():
        return np.full(mask.shape, -np.inf if mask.any() else np.inf, dtype=np.float32)
    outside, within = (ndimage.distance_transform_edt(part) for part in (~mask, mask))
    return np.where(mask, 0.5 - within, outside - 0.5).astype(np.float32)


def _findings(look: Look, bare: bool) -> tuple[Finding, ...]:
    if not is_brain(look):
        return (Finding("warning", "no brain was found; the mask is empty", "give --species, or crop to the head"),)
    what = f"brain of {look.brain_ml:.3g} ml, seen with voxels of {look.spacing_mm:.2g} mm"
    if look.judged and look.sureness < DOUBTFUL:
        return (Finding("warning", f"{what}: doubtful, {look.sureness:.2f} sure", "look at the mask before any use"),)
    return (Finding("ok", f"{what}; it was stripped before, and keeps all that the scan shows" if bare else what),)
