"""Brain extraction on one page: a scan of any head in; a mask, and distances to its surface, on its own grid out.

The network knows brains of about one size. So a first look at all of the scan finds how large the brain is, and
others at its surroundings, with voxels that bring it to that size, find where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
import torch
from scipy import ndimage

from phantomseg.errors import LabelError, ScanError
from phantomseg.image.distance import signed_distance
from phantomseg.image.finding import Finding
from phantomseg.image.grid import canonical
from phantomseg.image.image import Image, spacing_mm
from phantomseg.image.intensity import windowed
from phantomseg.inference.bare import stripped_before
from phantomseg.inference.find import PROBABLE, Box
from phantomseg.inference.look import MASK, Look, TooLargeError, content_of, look_at, tells_fluid
from phantomseg.inference.restore import restored
from phantomseg.inference.segment import Segmentation, segment
from phantomseg.inference.species import AUTO, HUMAN, check_species, spacing_for, species_ml, species_range_ml
from phantomseg.inference.topology import closed
from phantomseg.inference.volumes import hard_volumes, structures
from phantomseg.labels import label_set
from phantomseg.memory import available_bytes, used_bytes
from phantomseg.network.losses import SOFT_VOXELS
from phantomseg.network.model import Model

BRAIN = "brain"  # label set
FIRST_VOXELS = 96  # of the longest axis of the content at scale 1
SCALES = (0.75, 0.5, 1.0)  # of the first look's voxels, one after the other until a brain is found; coarse ones leak
LOOKS = 3  # closer ones
SAME_SIZE = 0.05  # change of the spacing, in its logarithm, at which another look tells nothing new
MARGIN = 0.25  # of the brain's longest diameter, around it
REACH_VOXELS = 8  # of distances that the network does not predict
FARTHEST = 0.99  # of that reach, to which a border may go
AT_EDGE = 0.01  # voxels of the network, or mm, from a surface at least
SULCI_MM = 4.0  # half-width of what lies between labels of the brain and is yet within its mask
KEPT, SULCI, NO_FLUID = FLUIDS = ("kept", "sulci", "none")  # what of the fluid around the brain is in a mask
DOUBTFUL, NO_BRAIN = 0.8, 0.5  # sureness of a look below which a brain is doubtful, and below which there is none


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
    fluid: str = KEPT,
    most_bytes: float | None = None,
) -> Stripped:
    """Find the brain in a scan.

    Args:
        scan: any contrast, resolution, orientation and species, with a skull or without.
        model: from `find_model("universal")`, or another one of masks or labels of the brain.
        species: sets the scale at which the network works; `auto` finds it.
        border_mm: how far outside the brain's surface the mask ends; negative is inside.
        fluid: "sulci" are within the mask, as far as the pial surface; "kept" is the same, but for scans that were
            stripped before, which keep all that they show (a model of labels never keeps it); "none" is in no mask.
        most_bytes: memory that the process may hold; by default, what the machine or its cgroup has left.

    Raises:
        ScanError: no such species, not one of the model's, or a border farther away than the network sees.
        LabelError: the model makes no masks, or does not tell fluid from the brain.
        MemoryLimitError: not enough memory.
    """
    check_species(species)
    check_fluid(fluid, model)
    if model.reaches(BRAIN):
        look = labelled_brain(scan, model, species, fluid, most_bytes)
    else:
        look = find_brain(scan, model, species, most_bytes)
    if fluid == NO_FLUID and is_brain(look) and look.tissue is not None:
        look = look.without_fluid()
    kept = stripped_before(scan, look) if fluid == KEPT and look.judged and is_brain(look) else None
    final = look if kept is None else replace(look, piece=kept[1], judged=False)
    reach = model.distance_voxels or REACH_VOXELS
    reach_mm = reach * look.spacing_mm
    if not abs(border_mm) <= FARTHEST * reach_mm and is_brain(look):
        raise ScanError(
            f"border is {border_mm:g} mm, wanted at most {FARTHEST * reach_mm:.3g} mm either way, as distances to the "
            "surface of this brain are cut off there; choose one nearer to 0"
        )
    voxels = _distance_voxels(final, kept is None and model.distance_voxels is not None, reach)
    distance = restored(voxels, look.prepared, reach)
    distance *= np.float32(look.spacing_mm)
    if kept is not None:  # the scan's own voxels know its edge better than those of the network
        distance = np.abs(distance, out=distance)
        np.maximum(distance, AT_EDGE, out=distance)
        np.negative(distance, out=distance, where=kept[0])
    brain_ml = float((distance < 0).sum()) * scan.voxel_volume_mm3 / 1000
    mask = scan.with_voxels((distance < (border_mm if is_brain(look) else 0.0)).astype(np.uint8))
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
        findings=_findings(look, brain_ml, species, kept is not None),
    )


def check_fluid(fluid: str, model: Model) -> None:
    """Refuse an unknown word, and masks without fluid of a model that does not know it.

    Raises:
        ScanError: the word.
        LabelError: the model.
    """
    if fluid not in FLUIDS:
        raise ScanError(f"fluid is {fluid!r}, wanted {', '.join(FLUIDS)}; choose one")
    if fluid == NO_FLUID and not (model.reaches(BRAIN) or tells_fluid(model)):
        raise LabelError("this model does not tell fluid from the brain; choose --model universal, or keep the fluid")


def find_brain(scan: Image, model: Model, species: str, most_bytes: float | None) -> Look:
    """The last look at a scan: where the brain has the size that the network knows, or where there is none."""
    image = canonical(scan)
    image = image.with_voxels(windowed(image.voxels))
    left = available_bytes(model.device) if most_bytes is None else most_bytes - used_bytes()
    content = content_of(image)

    def look(spacing_mm: float, box: Box = content) -> Look:
        return look_at(image, scan, model, spacing_mm, box, left)

    if species == AUTO:
        low, high = content.voxels(image.affine, 0.0)
        return _searched(look, float(((high - low) * image.spacing_mm).max()), model.spacing_mm)
    first = look(spacing_for(species_ml()[species], model.spacing_mm))
    return look(first.spacing_mm, _around(first)) if first.found else first


def _searched(look: Callable[..., Look], longest_mm: float, human_mm: float) -> Look:
    """The first look of several scales that shows a brain, or the one that is the surest."""
    looks: list[Look] = []
    for scale in SCALES:
        looks.append(_closer(look, look(scale * longest_mm / FIRST_VOXELS), human_mm))
        if is_brain(looks[-1]):
            break
    return max(looks, key=lambda one: one.sureness)


def _closer(look: Callable[..., Look], now: Look, human_mm: float) -> Look:
    """The look at which the size of the brain no longer changes."""
    for number in range(LOOKS):
        if not now.found:
            break
        spacing_mm = spacing_for(now.brain_ml, human_mm)
        if number and abs(math.log(spacing_mm / now.spacing_mm)) < SAME_SIZE:
            break
        try:
            now = look(spacing_mm, _around(now))
        except TooLargeError:  # a brain is not so long for its volume
            return replace(now, piece=np.zeros_like(now.piece))
    return now


def _around(look: Look) -> Box:
    return look.box.grown(MARGIN * look.diameter_mm)


def labelled_brain(scan: Image, model: Model, species: str, fluid: str, most_bytes: float | None) -> Look:
    """What a model labels as brain, with the sulci and holes between, at its own scale."""
    if species not in (AUTO, HUMAN):
        raise ScanError(f"species is {species!r}, and this model knows the human head alone; choose --model universal")
    result = segment(scan, model, BRAIN, most_bytes=most_bytes)
    assert result.prepared is not None
    probability = result.probabilities[BRAIN][1].float()
    probable = (probability > PROBABLE).numpy()
    if result.prepared.middle is None:
        probable[:] = False
    spacing = spacing_mm(result.prepared.grid.affine)  # the scan's own, where it is about the model's
    filled = probable if fluid == NO_FLUID else closed(probable, spacing, SULCI_MM / result.prepared.enlarged)
    piece = cc3d.largest_k(filled, k=1, connectivity=6) > 0
    return Look(result.prepared, probability, piece, float(spacing.prod() ** (1 / 3)), judged=False)


def is_brain(look: Look) -> bool:
    """Whether what was found is a brain, as far as the network is sure."""
    return look.found and (look.sureness >= NO_BRAIN or not look.judged)


def _distance_voxels(look: Look, predicted: bool, reach: int) -> torch.Tensor:
    """Signed distance to the surface of the piece in voxels, up to `reach`, (I, J, K); what it encloses is inside."""
    if not is_brain(look):
        return torch.full(look.piece.shape, float(reach))
    solid = torch.from_numpy(ndimage.binary_fill_holes(look.piece))
    if not predicted:
        exact = signed_distance(solid, reach)
        faded = PROBABLE - look.probability  # says where between two voxels the surface is
        return torch.where((exact.abs() <= 0.5) & ((faded < 0) == solid), faded, exact)
    distance = torch.logit(look.probability.clamp(1e-4, 1 - 1e-4)).mul_(-SOFT_VOXELS)
    if not torch.equal(distance < 0, solid):
        # what the network says beyond a voxel from the surface is of other pieces, or of holes
        exact = signed_distance(solid, reach + 1)
        distance = torch.clamp(distance, exact - 1, exact + 1)
        distance = torch.where(solid, distance.clamp(max=-AT_EDGE), distance.clamp(min=AT_EDGE))
    return distance.clamp_(-reach, reach)


def _findings(look: Look, brain_ml: float, species: str, kept_whole: bool) -> tuple[Finding, ...]:
    if not is_brain(look):
        return (Finding("warning", "no brain was found; the mask is empty", "give --species, or crop to the head"),)
    sure = f", {look.sureness:.2f} sure" if look.judged else ""
    what = f"brain of {brain_ml:.4g} ml{sure}, seen with voxels of {look.spacing_mm:.2g} mm"
    if kept_whole:
        what = f"{what}; it was stripped before, and keeps all that the scan shows"
    if look.judged and look.sureness < DOUBTFUL:
        return (Finding("warning", f"{what}: doubtful", "look at the mask before any use"),)
    if species != AUTO and not species_range_ml(species)[0] <= brain_ml <= species_range_ml(species)[1]:
        usual = "{:g} to {:g} ml".format(*species_range_ml(species))
        return (Finding("warning", f"{what}; usual in {species}: {usual}", "leave --species out, or look at the mask"),)
    return (Finding("ok", what),)
