"""Real scans with their label maps made ready once: canonical, isotropic, cropped to what is labelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from phantomseg.errors import GeometryError, LabelError, ScanError, TemplateError
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.grid import canonical, content_box, resample
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescaled, windowed
from phantomseg.labels import LabelSet, has_merge, label_set, merge
from phantomseg.synth.pairs import pair_files
from phantomseg.synth.templates import Templates, pack

MARGIN_VOXELS = 12  # around the labels, for what a network looks at beside them
COMMON = "evaluation"  # set that the values of other tools become

Pair = tuple[Image, Image]  # scan and label map


def load_scans(
    images: Path, labels: Path, values: str = "freesurfer", target: str = "manual", spacing_mm: float = 1.0
) -> Templates:
    """Scans and label maps of two folders, or patterns, paired by name as `pair_files` tells.

    Args:
        images: folder of the scans, or a pattern with one * such as `data/*_T1w.nii.gz`.
        labels: the same for the label maps.
        values: what the label maps hold, see `pack_scans`.
        target: label set that is learnt.
        spacing_mm: of the network's voxels.

    Raises:
        TemplateError: a file without its partner or with several, or a pair that cannot be used.
        LabelError: no such set, or a label map holds a value that the target has no place for.
    """
    files = pair_files(Path(images), Path(labels))
    pairs = ((f"label map {label}", _read(image, label)) for _, image, label in files)
    return _packed([name for name, _, _ in files], pairs, values, label_set(target), spacing_mm)


def pack_scans(
    names: list[str], pairs: list[Pair], values: str, target: str = "manual", spacing_mm: float = 1.0
) -> Templates:
    """The same of scans and label maps at hand.

    Args:
        names: of the scans.
        pairs: each scan with its label map, on one grid.
        values: what the label maps hold: a label set, or a tool whose values have a place in the set `evaluation`,
            such as "neuromorphometrics" and "aseg".
        target: label set that is learnt.
        spacing_mm: of the network's voxels.

    Raises:
        TemplateError: no pair, or one that cannot be used.
        LabelError: no such set, or a label map holds a value that the target has no place for.
    """
    called = (f"label map of {name}" for name in names)
    return _packed(names, zip(called, pairs, strict=True), values, label_set(target), spacing_mm)


def _read(image: Path, labels: Path) -> Pair:
    try:
        return read_image(image), read_labels(labels)
    except (ScanError, GeometryError) as error:
        raise TemplateError(str(error)) from error


def _packed(
    names: list[str], pairs: Iterable[tuple[str, Pair]], values: str, target: LabelSet, spacing_mm: float
) -> Templates:
    images, labels = [], []
    for called, (image, label_map) in pairs:
        try:
            ready = _prepare(image, label_map, values, target, spacing_mm)
        except (TemplateError, LabelError) as error:
            raise type(error)(f"{called}: {error}") from error
        images.append(ready[0])
        labels.append(ready[1])
    if not labels:
        raise TemplateError("there is no scan to learn from; give at least one with its label map")
    packed = pack(names, labels, np.arange(len(target)) > 0, spacing_mm)
    flat = np.concatenate([image.ravel() for image in images])
    return replace(packed, images=torch.from_numpy(flat), source=target.name, values=values)


def _prepare(
    image: Image, labels: Image, values: str, target: LabelSet, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intensities between 0 and 1, float16, and channels of the target, uint8, with a border of background."""
    image, labels = canonical(image), canonical(labels)
    if image.shape != labels.shape or not np.allclose(image.affine, labels.affine, atol=1e-3):
        raise TemplateError(
            f"it has shape {labels.shape} and the scan {image.shape}, or their affines differ; bring both to one grid"
        )
    labels = Image(labels.voxels, image.affine)  # the very same, or rounding could resample one of them alone
    image = image.with_voxels(windowed(image.voxels))  # as in use
    image, labels = resample(image, spacing_mm), resample(labels, spacing_mm, order=0)
    channels = _channels(labels.voxels, values, target)
    if not channels.any():
        raise TemplateError("it holds background alone; give a label map of the brain")
    low, high = content_box(channels > 0)
    box = tuple(slice(max(a - MARGIN_VOXELS, 0), b + MARGIN_VOXELS) for a, b in zip(low, high, strict=True))
    seen = rescaled(image.voxels[box])
    return np.pad(seen.astype(np.float16), 1), np.pad(channels[box], 1)


def _channels(voxels: np.ndarray, values: str, target: LabelSet) -> np.ndarray:
    """Channel in the target of each voxel, uint8."""
    found = merge(values, target.name if has_merge(values, target.name) else COMMON).apply(voxels)
    channels = target.index_of_ids(found)
    if (channels < 0).any():
        value = int(found[channels < 0].min())
        name = next(label.name for label in label_set(COMMON).labels if label.id == value)
        raise LabelError(
            f"{int((found == value).sum())} voxels hold {name!r} ({value} in the set {COMMON!r}), which the set "
            f"{target.name!r} has no place for; choose another target, or map them to one of its values"
        )
    return channels.astype(np.uint8)
