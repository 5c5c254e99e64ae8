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

from phantomseg.errors import PhantomSegError, TemplateError
from phantomseg.image.files import read_labels, scan_paths, stem, write_atomically
from phantomseg.image.grid import canonical, content_box, crop, resample
from phantomseg.image.image import Image
from phantomseg.labels import label_set
from phantomseg.synth.source import TEMPLATES, brain_channels

CSF, DURA, BONES = 24, 520, (515, 516)
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
    images: torch.Tensor | None = None  # (sum of voxels,) float16 or float32: real scans, voxel by voxel with `labels`
    source: str = TEMPLATES  # label set whose channels `labels` holds; of real scans, the target's

    def to(self, device: torch.device) -> Templates:
        """The same templates with their buffers on another device."""
        images = None if self.images is None else self.images.to(device)
        return replace(self, labels=self.labels.to(device), images=images)

    def volume(self, index: int) -> np.ndarray:
        """One template's channels, uint8, shape (I, J, K)."""
        start, shape = int(self.offsets[index]), tuple(self.shapes[index].tolist())
        count = int(np.prod(shape))
        return self.labels[start : start + count].reshape(shape).numpy()


def load_templates(source: Path, spacing_mm: float = 1.0) -> Templates:
    """Templates from a folder of label maps, or from a file that `save_templates` wrote, which keeps its spacing.

    Raises:
        TemplateError: nothing there, or a label map that cannot be used.
    """
    source = Path(source)
    if source.suffix == ".npz" and source.is_file():
        return _read_prepared(source)
    if not source.is_dir():
        raise TemplateError(
            f"{source} is no folder of label maps and no prepared .npz; give --templates one of the two"
        )
    paths = scan_paths(source)
    if not paths:
        raise TemplateError(f"{source} holds no .nii, .nii.gz or .mgz file; put label maps there")
    names = [stem(path) for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise TemplateError(f"{source} holds two label maps named {twice}; rename one")
    return pack(names, [prepare_template(path, spacing_mm) for path in paths], brain_channels(), spacing_mm)


def save_templates(templates: Templates, path: Path) -> None:
    """Write prepared templates as one compressed .npz."""
    volumes = [templates.volume(i) for i in range(len(templates.names))]
    maps: dict[str, Any] = {f"map_{i}": volume for i, volume in enumerate(volumes)}

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, names=np.array(templates.names), spacing_mm=templates.spacing_mm, **maps)

    write_atomically(path, write)


def prepare_template(path: Path, spacing_mm: float = 1.0) -> np.ndarray:
    """One label map as generation channels, uint8, with one voxel of background around it.

    Raises:
        TemplateError: unreadable, no brain, or a value that the generation set does not know.
    """
    try:
        image = canonical(read_labels(path))
    except PhantomSegError as error:
        raise TemplateError(str(error)) from error
    generation = label_set("generation")
    channels = generation.index_of_ids(image.voxels)
    if (channels < 0).any():
        value = int(image.voxels[channels < 0].min())
        count = int((image.voxels == value).sum())
        raise TemplateError(
            f"{path} holds value {value} in {count} voxels, which the label set 'generation' does not know; "
            "map it to one of its values first"
        )
    image = resample(image, spacing_mm, order=0)
    values = keep_head(image.voxels)
    values = derive_dura(values) if spacing_mm <= THIN_MM else values
    low, high = content_box(values > 0)
    placed = crop(Image(values, image.affine), low - 1, high + 1)
    channels = generation.index_of_ids(placed.voxels).astype(np.uint8)
    if not brain_channels()[channels].any():
        raise TemplateError(f"{path} holds no brain label; wanted a label map with the values of 'generation'")
    return channels


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
    except Exception as error:
        raise TemplateError(f"{path} is no prepared template file ({error}); prepare it again") from error
    known = len(label_set("generation"))
    if not volumes or any(v.ndim != 3 or v.dtype != np.uint8 or v.max() >= known for v in volumes):
        raise TemplateError(f"{path} is no prepared template file; prepare it again")
    return pack(names, volumes, brain_channels(), spacing_mm)
