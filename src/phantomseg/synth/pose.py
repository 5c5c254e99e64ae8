"""Where a sample looks: which template, which crop, turned, scaled, sheared, warped, mirrored.

The crop is sampled directly: the map from crop to template is worked out on a coarse grid, interpolated
linearly to the voxels, and used once to look labels up, nearest neighbour, and images of real scans, linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.errors import TemplateError
from phantomseg.image.separable import apply_along_axes, interpolation_matrix
from phantomseg.rng import Distribution, Uniform, check_positive, draw_seed
from phantomseg.synth.channels import replaced
from phantomseg.synth.templates import Templates

FIELD_SPACING_MM = 4.0  # grid on which velocities are integrated; they vary over 25 mm
SQUARING_STEPS = 6
NECK_SLICE = 2  # from the bottom of a template; some end above the foramen magnum
BELOW = {16: 512, 7: 24, 8: 24, 46: 24, 47: 24}  # what goes on as spinal cord and fluid where the brain was cut


@dataclass(frozen=True)
class PoseSettings:
    """Affine and elastic deformation, crop and mirroring."""

    crop_voxels: tuple[int, int, int] = (160, 160, 160)
    rotation_deg: Distribution = Uniform(-20, 20)
    scaling: Distribution = Uniform(0.8, 1.2)
    shear: Distribution = Uniform(-0.015, 0.015)
    translation_mm: Distribution = Uniform(-30, 30)
    anywhere_probability: float = 0.0  # crop of a whole head placed anywhere, not around the brain
    warp_std_mm: Distribution = Uniform(0, 4)
    warp_nodes_mm: float = 25.0
    flip_probability: float = 0.5
    flip_swaps_sides: bool = True  # left is right in a mirror; without, a network cannot learn which is which
    neck_probability: float = 0.0  # what lies below a template goes on as its lowest slices do

    def __post_init__(self) -> None:
        check_positive(self.scaling, "recipe key pose.scaling")


@dataclass(frozen=True)
class Pose:
    """One draw of PoseSettings. World axes are right, anterior, superior."""

    template: int
    crop_voxels: tuple[int, int, int]
    rotation_deg: tuple[float, ...]
    scaling: tuple[float, ...]
    shear: tuple[float, ...]
    centre_voxel: tuple[float, ...]  # centre of the crop, in voxels of the template
    warp_std_mm: float
    warp_nodes_mm: float
    warp_seed: int
    flip: bool
    neck: bool = False
    swaps_sides: bool = True

    @property
    def swapped(self) -> bool:
        """Whether left labels become right ones."""
        return self.flip and self.swaps_sides


def draw_pose(
    settings: PoseSettings, templates: Templates, rng: np.random.Generator, brain_alone: bool = False
) -> Pose:
    """Draw where the next sample looks; a sample of the brain alone is never looked for elsewhere.

    Raises:
        TemplateError: there is no template to look at.
    """
    if not templates.names:
        raise TemplateError("this recipe poses templates, and there are none; give --templates a folder of label maps")
    template = _draw_template(templates, rng)
    shape = templates.shapes[template].numpy()
    brain_low, brain_high = (box[template].numpy() for box in (templates.brain_low, templates.brain_high))
    centre = (brain_low + brain_high) / 2 + np.array(settings.translation_mm.draw(rng, 3))
    if rng.uniform() < settings.anywhere_probability and not brain_alone:
        margin = np.minimum(np.array(settings.crop_voxels), shape) / 2
        centre = rng.uniform(margin, shape - margin)
    return Pose(
        template=template,
        crop_voxels=settings.crop_voxels,
        rotation_deg=settings.rotation_deg.draw(rng, 3),
        scaling=settings.scaling.draw(rng, 3),
        shear=settings.shear.draw(rng, 3),
        centre_voxel=tuple(centre.tolist()),
        warp_std_mm=settings.warp_std_mm.draw(rng, 1)[0],
        warp_nodes_mm=settings.warp_nodes_mm,
        warp_seed=draw_seed(rng),
        flip=bool(rng.uniform() < settings.flip_probability),
        neck=bool(rng.uniform() < settings.neck_probability),
        swaps_sides=settings.flip_swaps_sides,
    )


def _draw_template(templates: Templates, rng: np.random.Generator) -> int:
    if not templates.weights:
        return int(rng.integers(len(templates.names)))
    weights = np.array(templates.weights)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def affine_matrix(pose: Pose) -> np.ndarray:
    """Linear part of the map from crop to template, shape (3, 3).

    >>> pose = Pose(0, (8, 8, 8), (0, 0, 90), (1, 1, 1), (0, 0, 0), (0, 0, 0), 0, 25, 0, False)
    >>> affine_matrix(pose).round(6).tolist()[0]
    [0.0, -1.0, 0.0]
    """
    cos, sin = np.cos(np.radians(pose.rotation_deg)), np.sin(np.radians(pose.rotation_deg))
    about_r = np.array([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_a = np.array([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_s = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = pose.shear
    mirror = np.diag([-1.0 if pose.flip else 1.0, 1.0, 1.0])
    # the crop shows the template scaled up where the map shrinks distances
    return np.asarray(np.diag(1 / np.array(pose.scaling)) @ shear @ about_r @ about_a @ about_s @ mirror)


def look_up(poses: list[Pose], templates: Templates, per_mm: int = 1) -> torch.Tensor:
    """Labels (channels) seen by each pose, uint8, shape (B, I, J, K), `per_mm` times the crop's."""
    return _nearest(_places(poses, templates, per_mm), poses, templates)


def look_up_scans(poses: list[Pose], templates: Templates) -> tuple[torch.Tensor, torch.Tensor]:
    """Intensities (B, 1, I, J, K), float32, and labels (B, I, J, K), uint8, of real scans as each pose sees them."""
    where = _places(poses, templates)
    return _between(where, poses, templates), _nearest(where, poses, templates)


def _places(poses: list[Pose], templates: Templates, per_mm: int = 1) -> torch.Tensor:
    """Where each voxel of the samples looks, in voxels of its template, (B, 3, I, J, K)."""
    device = templates.labels.device
    size = poses[0].crop_voxels
    field, positions = _coarse_map(poses, size, device)  # (B, 3, i, j, k) in template voxels
    to_voxels = [
        interpolation_matrix((torch.arange(n * per_mm) - (n * per_mm - 1) / 2) / per_mm, p).to(device)[None]
        for n, p in zip(size, positions, strict=True)
    ]
    return apply_along_axes(field, to_voxels)


def _nearest(where: torch.Tensor, poses: list[Pose], templates: Templates) -> torch.Tensor:
    """Labels (B, I, J, K) of the voxels nearest to `where`, which is rounded in place."""
    where = where.round_().to(torch.int32)
    below = _extend_necks(where, poses)
    flat = _flat_index(where, poses, templates)
    labels = templates.labels.index_select(0, flat.view(-1)).view(flat.shape)
    for volume, lower in zip(labels, below, strict=True):
        if lower is not None:
            volume.copy_(torch.where(lower, replaced(volume, BELOW), volume))
    return labels


def _between(where: torch.Tensor, poses: list[Pose], templates: Templates) -> torch.Tensor:
    """Intensities (B, 1, I, J, K), linear between the eight voxels around `where`."""
    assert templates.images is not None
    images, low = templates.images, where.floor().to(torch.int32)
    flat = _flat_index(low, poses, templates, beyond=1)
    weight = (where - low).clamp_(0, 1)  # beyond the template, that of its border
    columns = templates.shapes[[pose.template for pose in poses], 1:].to(flat.device, flat.dtype)[..., None, None, None]
    row, plane = columns[:, 1], columns[:, 0] * columns[:, 1]  # voxels from one to the next

    def along_k(first: torch.Tensor) -> torch.Tensor:
        ends = (images.index_select(0, (first + k).view(-1)).view(flat.shape).float() for k in (0, 1))
        return next(ends).lerp_(next(ends), weight[:, 2])

    near, far = (along_k(first).lerp_(along_k(first + row), weight[:, 1]) for first in (flat, flat + plane))
    return near.lerp_(far, weight[:, 0])[:, None]


def _flat_index(voxels: torch.Tensor, poses: list[Pose], templates: Templates, beyond: int = 0) -> torch.Tensor:
    """Place in the templates' buffers of voxels (B, 3, I, J, K), int32, which are brought inside, in place.

    Templates carry a border of background, so what is brought inside reads background; `beyond` voxels are left free
    above each.
    """
    device = voxels.device
    index = torch.tensor([pose.template for pose in poses])
    last = (templates.shapes[index] - 1).to(device)
    wide = torch.int64 if templates.labels.numel() >= 2**31 else torch.int32
    flat = templates.offsets[index].to(device, wide)[:, None, None, None]
    voxels_apart = [(last[:, axis + 1 :] + 1).prod(1) for axis in range(3)]  # from one to the next along an axis
    for axis, apart in enumerate(voxels_apart):
        inside = voxels[:, axis].clamp_(min=0)
        torch.minimum(inside, last[:, axis, None, None, None].int() - beyond, out=inside)
        flat = torch.addcmul(flat, inside.to(wide), apart[:, None, None, None].to(wide))
    return flat


def _extend_necks(where: torch.Tensor, poses: list[Pose]) -> list[torch.Tensor | None]:
    """Look no lower than NECK_SLICE for poses with a neck, in place; returns which voxels (I, J, K) would have."""
    below: list[torch.Tensor | None] = []
    for place, pose in zip(where, poses, strict=True):
        below.append(place[2] < NECK_SLICE if pose.neck else None)
        if pose.neck:
            place[2].clamp_(min=NECK_SLICE)
    return below


def _coarse_map(
    poses: list[Pose], size: tuple[int, int, int], device: torch.device
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    counts = [math.ceil(n / FIELD_SPACING_MM) + 1 for n in size]
    positions = [(torch.arange(m) - (m - 1) / 2) * FIELD_SPACING_MM for m in counts]  # mm from crop centre
    here = torch.stack(torch.meshgrid(*positions, indexing="ij")).to(device)  # (3, i, j, k)
    there = here + integrate(_velocity(poses, positions, device))
    linear = torch.tensor(np.stack([affine_matrix(p) for p in poses]), dtype=torch.float32, device=device)
    centre = torch.tensor([p.centre_voxel for p in poses], dtype=torch.float32, device=device)
    return torch.einsum("bxy,byijk->bxijk", linear, there) + centre[..., None, None, None], positions


def _velocity(poses: list[Pose], positions: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    nodes = [(len(pos) - 1) * FIELD_SPACING_MM / poses[0].warp_nodes_mm for pos in positions]
    shape = [3, *(math.ceil(n) + 1 for n in nodes)]
    noise = np.stack([p.warp_std_mm * np.random.default_rng(p.warp_seed).standard_normal(shape) for p in poses])
    at = [(torch.arange(n) - (n - 1) / 2) * poses[0].warp_nodes_mm for n in shape[1:]]
    matrices = [interpolation_matrix(p, a).to(device)[None] for p, a in zip(positions, at, strict=True)]
    return apply_along_axes(torch.tensor(noise, dtype=torch.float32, device=device), matrices)


def integrate(velocity_mm: torch.Tensor) -> torch.Tensor:
    """Displacement in mm after unit time along a stationary velocity, both (B, 3, i, j, k) at FIELD_SPACING_MM.

    Scaling and squaring (Arsigny 2006, doi:10.1007/11866565_113).
    """
    sizes = velocity_mm.shape[2:]
    device = velocity_mm.device
    axes = [torch.linspace(-1, 1, n, device=device) for n in sizes]
    identity = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]  # (1, i, j, k, 3)
    to_unit = torch.tensor([2 / (FIELD_SPACING_MM * (n - 1)) for n in sizes], device=device)
    field = velocity_mm / 2**SQUARING_STEPS
    for _ in range(SQUARING_STEPS):
        grid = identity + field.movedim(1, -1) * to_unit
        # grid_sample wants the fastest axis first
        field = field + F.grid_sample(field, grid.flip(-1), padding_mode="border", align_corners=True)
    return field
