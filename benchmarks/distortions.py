"""What may become of a scan on its way to us: other axes, voxels, number formats, views and grey values.

Each condition knows how to write its file, and which label map of the plain scan it should lead to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from phantomseg.image.image import Image
from phantomseg.studies.degrade import inverted

AXES = ("R-L", "A-P", "S-I")
AIR_HU, BRAIN_HU = -1024.0, 80.0


@dataclass(frozen=True, eq=False)
class Condition:
    """One file, and the labels that are right on its grid; `volume` is the one to read of several."""

    name: str
    scan: Image
    reference: np.ndarray
    save: Callable[[Path, Image], None] | None = None
    ending: str = ".nii"
    volume: int | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return "".join(c if c.isalnum() else "-" for c in self.name) + self.ending

    def write(self, path: Path) -> None:
        """Write the scan."""
        (self.save or save_as())(path, self.scan)


def conditions(plain: Image, labels: np.ndarray, quick: bool) -> Iterator[Condition]:
    """Every condition of a scan with `labels`, one at a time, as some are large."""
    head = Image(plain.voxels, plain.affine)
    yield Condition("plain", head, labels)
    yield from every(orientations(head, labels), 8 if quick else 1)
    yield from every(obliques(head, labels), 3 if quick else 1)
    yield from every(spacings(head, labels), 4 if quick else 1)
    yield from every(formats(head, labels), 3 if quick else 1)
    yield from every(views(head, labels), 3 if quick else 1)
    yield from every(values(head, labels), 2 if quick else 1)


def every(found: Iterator[Condition], step: int) -> Iterator[Condition]:
    """Each `step`th of them."""
    return itertools.islice(found, 0, None, step)


def orientations(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """The 48 ways to store the same voxels."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = np.array(list(zip(order, signs, strict=True)))
            affine = head.affine @ nib.orientations.inv_ornt_aff(turn, head.shape)
            stored, reference = (nib.orientations.apply_orientation(v, turn) for v in (head.voxels, labels))
            codes = "".join(nib.aff2axcodes(affine))
            yield Condition(f"axes to {codes}", Image(np.ascontiguousarray(stored), affine), reference)


def obliques(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """The head turned with its grid: the same voxels under another affine; and far from the origin."""
    for degrees in ((25, 0, 0), (0, 18, 0), (10, 15, 20)):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        name = ", ".join(str(n) for n in degrees)
        yield Condition(f"oblique {name} degrees", Image(head.voxels, turn @ head.affine), labels)
    away = head.affine.copy()
    away[:3, 3] += 300
    yield Condition("300 mm away", Image(head.voxels, away), labels)


def spacings(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """Other voxels, as large along each axis, or slices."""
    for mm in (0.5, 0.7):
        yield Condition(f"{mm} mm", *finer(head, labels, mm))
    for mm in (1.5, 2.0, 3.0, 5.0, 7.0):
        yield Condition(f"{mm:g} mm", *coarser(head, labels, (mm, mm, mm)))
    for axis, mm in itertools.product(range(3), (3.0, 5.0, 7.0)):
        steps = [1.0, 1.0, 1.0]
        steps[axis] = mm
        yield Condition(f"slices of {mm:g} mm, {name_of(head, axis)}", *coarser(head, labels, tuple(steps)))


def formats(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """Other files with the same voxels."""
    yield Condition("int16 with slope", head, labels, save_as(np.int16))
    bright = np.percentile(head.voxels, 99.9)
    bytes_only = head.with_voxels(np.rint(255 * (head.voxels / bright).clip(0, 1)).astype(np.uint8))
    yield Condition("uint8", bytes_only, labels, save_as(np.uint8))
    yield Condition("float64", head, labels, save_as(np.float64))
    yield Condition("big-endian", head, labels, save_as(order=">"))
    yield Condition("MGZ", head, labels, save_mgz, ".mgz")
    yield Condition("NIfTI-2", head, labels, save_as(kind=nib.Nifti2Image), ".nii.gz")
    for volume in range(2):
        yield Condition(f"4-D, volume {volume}", head, labels, save_two, ".nii.gz", volume)


def views(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """Part of the head, or more than it."""
    box = np.argwhere(labels > 0)
    low, high = box.min(0), box.max(0) + 1
    middle = (low + high) // 2
    for axis in range(3):
        along = name_of(head, axis)
        yield cut(f"slab of 40 mm, {along}", head, labels, axis, (middle[axis] - 20, middle[axis] + 20))
        yield cut(f"10 slices, {along}", head, labels, axis, (middle[axis] - 5, middle[axis] + 5))
        yield cut(f"first half, {along}", head, labels, axis, (0, middle[axis]))
        yield cut(f"second half, {along}", head, labels, axis, (middle[axis], head.shape[axis]))
    noise = 0.03 * np.percentile(head.voxels, 99.5)
    yield padded("padded with zeros", head, labels, 0.0)
    yield padded("padded with noise", head, labels, float(noise))


def values(head: Image, labels: np.ndarray) -> Iterator[Condition]:
    """The same head in other grey values."""
    voxels, top = head.voxels, float(np.percentile(head.voxels, 99.5))
    tomography = np.where(voxels > 0.02 * top, BRAIN_HU * (voxels / top).clip(0, 1.2), AIR_HU)
    changed = {
        "times 1e-6": voxels * 1e-6,
        "times 1e-12": voxels * 1e-12,  # diffusivities in m²/s, say
        "times 1e6": voxels * 1e6,
        "minus 500": voxels - 500,
        "inverted": inverted(head).voxels,
        "CT-like": tomography,
    }
    for name, value in changed.items():
        yield Condition(name, head.with_voxels(value.astype(np.float32)), labels)


def finer(head: Image, labels: np.ndarray, mm: float) -> tuple[Image, np.ndarray]:
    """Linear between voxels; labels of the nearest one."""
    steps = mm / head.spacing_mm
    places = [(np.arange(round(n / s)) + 0.5) * s - 0.5 for n, s in zip(head.shape, steps, strict=True)]
    weights = [
        np.maximum(1 - np.abs(p.clip(0, n - 1)[:, None] - np.arange(n)), 0)
        for p, n in zip(places, head.shape, strict=True)
    ]
    nearest = [np.floor(p + 0.5).astype(int).clip(0, n - 1) for p, n in zip(places, head.shape, strict=True)]
    return Image(along_axes(head.voxels, weights), stepped(head.affine, steps)), labels[np.ix_(*nearest)]


def coarser(head: Image, labels: np.ndarray, mm: tuple[float, ...]) -> tuple[Image, np.ndarray]:
    """The mean over each new voxel, and the label that fills most of it."""
    steps = np.array(mm) / head.spacing_mm
    shares = [shares_of(n, s) for n, s in zip(head.shape, steps, strict=True)]
    most = np.zeros([len(s) for s in shares], dtype=np.float32)
    winner = np.zeros(most.shape, dtype=labels.dtype)
    for value in np.unique(labels):
        share = along_axes((labels == value).astype(np.float32), shares)
        winner[share > most] = value
        most = np.maximum(most, share)
    return Image(along_axes(head.voxels, shares), stepped(head.affine, steps)), winner


def shares_of(count: int, step: float) -> np.ndarray:
    """Share that each of `count` voxels has in each voxel of `step` times its length, (new, old)."""
    low = np.arange(int(np.ceil(count / step - 1e-6)))[:, None] * step
    old = np.arange(count)
    overlap = (np.minimum(low + step, old + 1) - np.maximum(low, old)).clip(0)
    return np.asarray(overlap / overlap.sum(1, keepdims=True))


def along_axes(volume: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """A matrix (new, old) for each axis, applied."""
    for axis, matrix in enumerate(matrices):
        if len(matrix) != matrix.shape[1]:
            volume = np.moveaxis(np.tensordot(matrix.astype(np.float32), volume, (1, axis)), 0, axis)
    return np.ascontiguousarray(volume, dtype=np.float32)


def stepped(affine: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Affine of voxels `steps` times as long, whose first corner stays where it is."""
    scale = np.diag([*steps, 1.0])
    scale[:3, 3] = (steps - 1) / 2
    return affine @ scale


def cut(name: str, head: Image, labels: np.ndarray, axis: int, ends: tuple[int, int]) -> Condition:
    """Some slices."""
    part: list[slice] = [slice(None)] * 3
    part[axis] = slice(*ends)
    shift = np.eye(4)
    shift[axis, 3] = ends[0]
    return Condition(name, Image(head.voxels[tuple(part)].copy(), head.affine @ shift), labels[tuple(part)])


def padded(name: str, head: Image, labels: np.ndarray, noise: float, margin: int = 40) -> Condition:
    """More field of view on every side."""
    inside = (slice(margin, -margin),) * 3
    shape = np.array(head.shape) + 2 * margin
    voxels = np.abs(noise * np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    voxels[inside] = head.voxels
    shift = np.eye(4)
    shift[:3, 3] = -margin
    return Condition(name, Image(voxels, head.affine @ shift), np.pad(labels, margin))


def name_of(head: Image, axis: int) -> str:
    """The direction that a voxel axis runs along, either way."""
    return next(name for name in AXES if nib.aff2axcodes(head.affine)[axis] in name)


def save_as(dtype: Any = np.float32, kind: Any = nib.Nifti1Image, order: str = "<") -> Callable[[Path, Image], None]:
    """How to write NIfTI of a number format; integers get a slope where values are none."""

    def write(path: Path, image: Image) -> None:
        header = kind.header_class(endianness=order)
        header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
        file = kind(image.voxels, image.affine, header)
        file.set_sform(image.affine, code=4)
        file.set_qform(image.affine, code=1)
        file.header.set_xyzt_units("mm", "sec")
        nib.save(file, path)

    return write


def save_mgz(path: Path, image: Image) -> None:
    """Write MGZ."""
    nib.save(nib.MGHImage(image.voxels, image.affine), path)


def save_two(path: Path, image: Image) -> None:
    """Write the scan, and a brighter one with noise, as volumes of one file."""
    noise = np.random.default_rng(0).normal(0, 0.02 * np.percentile(image.voxels, 99.5), image.shape)
    brighter = np.where(image.voxels > 0, 1.3 * image.voxels + noise, 0)
    nib.save(nib.Nifti1Image(np.stack([image.voxels, brighter.astype(np.float32)], -1), image.affine), path)
