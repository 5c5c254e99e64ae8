"""Label maps made ready once: canonical, isotropic, cropped to the head, checked, dura derived.

Every distance of a recipe counts voxels of its templates: mm, unless they were prepared at another spacing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import torch
from scipy import ndimage

from phantomseg.errors import LabelError, PhantomSegError, TemplateError
from phantomseg.image.files import read_labels, stem, write_atomically
from phantomseg.image.grid import canonical, content_box, crop, resample
from phantomseg.image.image import Image
from phantomseg.image.size import enlargement
from phantomseg.labels import coarse_labels, label_set
from phantomseg.synth.source import TEMPLATES, brain_channels, intracranial_channels
from phantomseg.synth.template_list import list_templates

CSF, DURA, BONES = 24, 520, (515, 516)
VENTRICLES = (4, 43)
DEEP = (10, 12, 49, 51)  # thalamus and putamen
FINER = 1.05  # old voxels over new ones, from which on an axis gets finer
THIN_MM = 1.0  # coarser voxels do not show the dura


@dataclass(frozen=True, eq=False)
class Templates:
    """All label maps in one flat buffer of channels, each with a border of background; real scans come with images."""

    names: tuple[str, ...]
    labels: torch.Tensor  # (sum of voxels,) uint8
    offsets: torch.Tensor  # (T,) first voxel of each template
    shapes: torch.Tensor  # (T, 3)
    brain_low: torch.Tensor  # (T, 3)
    brain_high: torch.Tensor  # (T, 3)
    spacing_mm: float = 1.0
    values: str = ""  # what the label maps of scans held
    weights: tuple[float, ...] = ()  # how often each is drawn, relative to the others; all alike where it is empty
    label_sets: tuple[str, ...] = ()  # what the values of each meant; "generation" where it is empty
    groups: np.ndarray | None = None  # (T, G) as `CoarseLabels.groups`; None where all tell all labels apart
    smallest_head_ml: float | None = None  # volume of brain and fluid; None of real scans
    images: torch.Tensor | None = None  # (sum of voxels,) float16 or float32: real scans, voxel by voxel with `labels`
    source: str = TEMPLATES  # label set whose channels `labels` holds; of real scans, the target's

    def to(self, device: torch.device) -> Templates:
        """The same templates with their buffers on another device."""
        images = None if self.images is None else self.images.to(device)
        return replace(self, labels=self.labels.to(device), images=images)

    def tells_brain_from_fluid(self, index: int) -> bool:
        """Whether a template has ventricles apart from the fluid around the brain, so that the brain alone is known."""
        if self.groups is None:
            return True
        ventricles, fluid = (
            self.groups[index][label_set(TEMPLATES).index_of_ids(np.array(ids))] for ids in (VENTRICLES, CSF)
        )
        return not np.isin(ventricles, fluid).any()

    def tells_cortex(self, index: int) -> bool:
        """Whether what a template calls cortex is at the surface of the brain: no thalamus, no putamen among it."""
        if self.groups is None:
            return True
        cortex, *others = self.groups[index][label_set(TEMPLATES).index_of_ids(np.array([3, *DEEP]))]
        return cortex not in others

    def volume(self, index: int) -> np.ndarray:
        """One template's channels, uint8, shape (I, J, K)."""
        start, shape = int(self.offsets[index]), tuple(self.shapes[index].tolist())
        count = int(np.prod(shape))
        return self.labels[start : start + count].reshape(shape).numpy()


def load_templates(source: Path, spacing_mm: float = 1.0) -> Templates:
    """Templates from a folder of label maps, a list of such folders (see `list_templates`), or a prepared .npz.

    What `save_templates` wrote keeps its spacing.

    Raises:
        TemplateError: nothing there, or a label map that cannot be used.
    """
    source = Path(source)
    if source.suffix == ".npz" and source.is_file():
        return _read_prepared(source)
    files = list_templates(source)
    volumes = [prepare_template(file.path, spacing_mm, file.labels, file.enlarge) for file in files]
    packed = _pack_heads([stem(file.path) for file in files], volumes, spacing_mm)
    return _with_meaning(packed, [file.weight for file in files], [file.labels for file in files])


def save_templates(templates: Templates, path: Path) -> None:
    """Write prepared templates as one compressed .npz."""
    volumes = [templates.volume(i) for i in range(len(templates.names))]
    content: dict[str, Any] = {f"map_{i}": volume for i, volume in enumerate(volumes)}
    content |= {"names": np.array(templates.names), "spacing_mm": templates.spacing_mm, "weights": templates.weights}
    if templates.groups is not None:
        content |= {"groups": templates.groups, "label_sets": np.array(templates.label_sets)}

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **content)

    write_atomically(path, write)


def prepare_template(path: Path, spacing_mm: float = 1.0, labels: str = TEMPLATES, enlarge: bool = False) -> np.ndarray:
    """One label map as generation channels, uint8, with one voxel of background around it.

    Args:
        path: of the label map.
        spacing_mm: of the result's voxels.
        labels: what its values mean, see `coarse_labels`.
        enlarge: show a small head at the size of an adult's.

    Raises:
        TemplateError: unreadable, no brain, or a value that those labels do not have.
    """
    try:
        image = canonical(read_labels(path))
    except PhantomSegError as error:
        raise TemplateError(str(error)) from error
    meaning = coarse_labels(labels)
    try:
        channels = meaning.apply(image.voxels)
    except LabelError as error:
        raise TemplateError(f"{path} {str(error).removeprefix('it ')}") from error
    generation = label_set(TEMPLATES)
    if enlarge:
        inside_ml = float(intracranial_channels()[channels].sum()) * image.voxel_volume_mm3 / 1000
        image = Image(image.voxels, image.affine @ np.diag([*[enlargement(inside_ml)] * 3, 1]))
    image = _resampled(image.with_voxels(generation.ids[channels]), spacing_mm)
    values = keep_head(image.voxels)
    values = derive_dura(values) if spacing_mm <= THIN_MM and labels == TEMPLATES else values
    low, high = content_box(values > 0)
    placed = crop(Image(values, image.affine), low - 1, high + 1)
    channels = generation.index_of_ids(placed.voxels).astype(np.uint8)
    if not brain_channels()[channels].any():
        raise TemplateError(f"{path} holds no brain label; wanted a label map with the values of 'generation'")
    return channels


def _resampled(image: Image, spacing_mm: float) -> Image:
    """Label map at another spacing; a finer one shows surfaces without the steps of its voxels."""
    if image.spacing_mm.max() < FINER * spacing_mm:
        return resample(image, spacing_mm, order=0)
    low, high = content_box(image.voxels > 0)
    image = crop(image, low - 1, high + 1)
    found = resample(image, spacing_mm, order=0)
    largest = np.zeros(found.shape, np.float32)
    for value in np.unique(image.voxels):
        share = resample(image.with_voxels((image.voxels == value).astype(np.float32)), spacing_mm).voxels
        np.copyto(found.voxels, value, where=share > largest)
        np.maximum(largest, share, out=largest)
    return found


def keep_head(values: np.ndarray) -> np.ndarray:
    """Label map without specks of foreground that do not touch the head."""
    return np.where(cc3d.largest_k(values > 0, k=1, connectivity=26) > 0, values, 0)


def derive_dura(values: np.ndarray) -> np.ndarray:
    """Label map with the CSF voxels that touch bone turned into dura, unless dura is drawn already.

    No template draws the dura; this shell of one voxel between CSF and inner bone stands in for it.
    """
    if (values == DURA).any():
        return values
    at_bone = ndimage.binary_dilation(np.isin(values, BONES))
    return np.where(at_bone & (values == CSF), DURA, values)


def pack(names: list[str], volumes: list[np.ndarray], is_brain: np.ndarray, spacing_mm: float) -> Templates:
    """Templates of volumes of channels, uint8; `is_brain` tells which channels the crops are placed about, (C,)."""
    boxes = [content_box(is_brain[volume]) for volume in volumes]
    sizes = np.array([volume.size for volume in volumes])
    return Templates(
        names=tuple(names),
        labels=torch.from_numpy(np.concatenate([volume.ravel() for volume in volumes])),
        offsets=torch.from_numpy(np.cumsum(sizes) - sizes),
        shapes=torch.tensor([volume.shape for volume in volumes]),
        brain_low=torch.from_numpy(np.stack([low for low, _ in boxes])),
        brain_high=torch.from_numpy(np.stack([high for _, high in boxes])),
        spacing_mm=spacing_mm,
    )


def _pack_heads(names: list[str], volumes: list[np.ndarray], spacing_mm: float) -> Templates:
    """Templates of volumes of generation channels, with the size of the smallest head."""
    voxels = min(int(intracranial_channels()[volume].sum()) for volume in volumes)
    packed = pack(names, volumes, brain_channels(), spacing_mm)
    return replace(packed, smallest_head_ml=round(voxels * spacing_mm**3 / 1000, 1))


def no_templates(spacing_mm: float = 1.0) -> Templates:
    """What recipes are given that need no template: shapes come out of nothing."""
    none = torch.zeros((0, 3), dtype=torch.int64)
    return Templates(
        (), torch.zeros(0, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), none, none, none, spacing_mm
    )


def _read_prepared(path: Path) -> Templates:
    try:
        with np.load(path) as archive:
            names = [str(name) for name in archive["names"]]
            volumes = [archive[f"map_{i}"] for i in range(len(names))]
            spacing_mm = float(archive["spacing_mm"]) if "spacing_mm" in archive else 1.0
            weights = archive["weights"].tolist() if "weights" in archive else []
            groups = archive.get("groups")
            label_sets = archive["label_sets"].tolist() if "label_sets" in archive else []
    except Exception as error:
        raise TemplateError(f"{path} is no prepared template file ({error}); prepare it again") from error
    known = len(label_set("generation"))
    if not volumes or any(v.ndim != 3 or v.dtype != np.uint8 or v.max() >= known for v in volumes):
        raise TemplateError(f"{path} is no prepared template file; prepare it again")
    packed = _pack_heads(names, volumes, spacing_mm)
    return replace(packed, weights=tuple(weights), groups=groups, label_sets=tuple(label_sets))


def _with_meaning(templates: Templates, weights: list[float], label_sets: list[str]) -> Templates:
    """The templates with how often each is drawn, and what its map does not tell apart."""
    templates = replace(templates, weights=tuple(weights) if len(set(weights)) > 1 else ())
    if set(label_sets) == {TEMPLATES}:
        return templates
    groups = np.stack([coarse_labels(name).groups for name in label_sets])
    return replace(templates, groups=groups, label_sets=tuple(Path(name).name for name in label_sets))
