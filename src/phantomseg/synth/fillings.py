"""Drawn shapes as label maps: channels of the set `shapes`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.image.separable import apply_along_axes, interpolation_matrix, smooth_noise
from phantomseg.labels import label_set
from phantomseg.synth.shapes import LABELS, Inside, Outside, Shapes
from phantomseg.synth.solids import ENDLESS, Solid, distance_to, joined, places, straightened

SPACING = 2.0  # voxels between the nodes at which distances to solids are worked out; they are linear in between
FILLET = 0.08  # of the brain's radius, where its solids meet
HEAD_FILLET = 0.15
OUTSIDE_PARTS = 40
# parts of the brain that have a place of their own among its 16
INNER, CORTEX, LOBE, LOBE_CORTEX, VENTRICLE, BLOB, TUBE = 1, 8, 9, 10, 11, 12, 13
CORD, PHANTOM, PHANTOM_BALLS, PHANTOM_TUBES = 39, 20, 21, 22  # and of those outside
OPENING = 0.3  # of smooth noise, over which shells thin out to nothing
THINNEST = 0.7  # voxels of skin
SLOPE_OF_NOISE = 1.3  # mean slope of smooth noise, per distance between its nodes


def channel(name: str) -> int:
    """Channel of a label of the set `shapes`.

    >>> channel("background")
    0
    """
    return label_set(LABELS).names.index(name)


def inner(part: int) -> int:
    """Channel of a part of the brain, counted from 1."""
    return channel("brain part 1") + part - 1


def outer(part: int) -> int:
    """Channel of a part outside the brain, counted from 0; parts repeat beyond OUTSIDE_PARTS."""
    return channel("outside part 1") + part % OUTSIDE_PARTS


def draw_labels(shapes: list[Shapes], device: torch.device) -> torch.Tensor:
    """Label maps of drawn shapes, uint8, (B, I, J, K)."""
    return torch.stack([_Painter(one, device).labels() for one in shapes])


@dataclass(eq=False)
class _Fields:
    """Distances in voxels, (I, J, K): to the brain and its hull, from its main solid to its lobes, to the cord."""

    brain: torch.Tensor
    hull: torch.Tensor  # that shells lie around
    lobe: torch.Tensor | None
    cord: torch.Tensor | None


class _Painter:
    """Fills the fields of one draw, from the outside to the inside."""

    def __init__(self, shapes: Shapes, device: torch.device):
        self.shapes, self.device = shapes, device
        self.rng = np.random.default_rng(shapes.seed)
        self.radius = shapes.brain[0].radius
        nodes = places(shapes.crop_voxels, SPACING)
        voxels = places(shapes.crop_voxels, 1)
        self.to_voxels = [interpolation_matrix(v, n)[None].to(device) for v, n in zip(voxels, nodes, strict=True)]
        # where each node lies, in voxels from the middle of the frame, (3, i, j, k)
        self.where = torch.stack(torch.meshgrid(*nodes, indexing="ij")).to(device)
        if shapes.warp:
            self.where += shapes.warp * self._noise(self.where.shape[1:], shapes.warp_voxels / SPACING, 3)

    def noise(self, voxels: float, fields: int = 1) -> torch.Tensor:
        """Smooth noise of the frame, (I, J, K) or (fields, I, J, K)."""
        return self._noise(self.shapes.crop_voxels, voxels, fields)

    def _noise(self, shape: tuple[int, ...], voxels: float, fields: int) -> torch.Tensor:
        return smooth_noise(self.rng, shape, max(voxels, 2.0), self.device, fields)

    def fine(self, field: torch.Tensor) -> torch.Tensor:
        """A field at the nodes (i, j, k), at all voxels (I, J, K)."""
        return apply_along_axes(field[None, None], self.to_voxels)[0, 0]

    def labels(self) -> torch.Tensor:
        """Label map (I, J, K)."""
        shapes = self.shapes
        fields = self._fields()
        result = torch.zeros(shapes.crop_voxels, dtype=torch.uint8, device=self.device)
        if not shapes.outside.bare:
            self._fill_outside(result, fields, shapes.outside)
        if shapes.kind == "head":
            self._fill_inside(result, fields, shapes.inside)
        elif shapes.kind == "phantom":
            self._fill_phantom(result, fields)
        return result

    def _fields(self) -> _Fields:
        shapes = self.shapes
        solids = [distance_to(solid, self.where) for solid in shapes.brain]
        lobe = joined(solids[1:], 1.0) - solids[0] if len(solids) > 1 else None
        cord = None
        if shapes.stem is not None:
            along = _along(shapes.stem, self.where)
            cord = torch.maximum(distance_to(shapes.stem, self.where), -along)
            solids.append(torch.maximum(cord, along - shapes.stem_end))
        brain = self.fine(joined(solids, max(0.5, FILLET * self.radius)))
        if shapes.lumps:
            brain += self.noise(shapes.lump_voxels) * shapes.lumps
        lobe, cord = (None if field is None else self.fine(field) for field in (lobe, cord))
        brain = hull = straightened(brain)
        if shapes.outside.hull:
            # of a smooth union, less what it is filled out by where all solids meet
            wide = joined(solids, shapes.outside.hull) + shapes.outside.hull * math.log(len(solids)) / 2
            hull = torch.minimum(brain, straightened(self.fine(wide)))
        return _Fields(brain, hull, lobe, cord)

    def _fill_outside(self, result: torch.Tensor, fields: _Fields, outside: Outside) -> None:
        around_brain = self.shapes.kind in ("head", "phantom")
        sizes = [outside.gap, outside.skull, outside.flesh]
        gap, skull, flesh = (
            size * self.noise(self.radius).mul_(outside.unevenness).exp_() if size else 0.0 for size in sizes
        )
        if outside.open_level:
            whole = (outside.open_level - self.noise(self.radius)).mul_(1 / OPENING).clamp_(0, 1)
            gap, skull = gap * whole, skull * whole
        head = self._head(fields.hull - (gap + skull + flesh) if around_brain else None, outside)
        inside = head < 0
        result.copy_(torch.where(inside, self._parts(outside.parts, outside.part, outer(0)), result))
        self._fill_things(result, outside, inside)
        result[inside & (head > -(outside.fat + outside.skin))] = channel("fat")
        if outside.skin:
            result[inside & (head > -max(outside.skin, THINNEST))] = channel("skin")
        if self.shapes.kind == "limb":
            self._fill_bone(result, head - head.min(), outside)
        if around_brain:
            self._fill_shells(result, fields, gap, skull, inside)

    def _head(self, shells: torch.Tensor | None, outside: Outside) -> torch.Tensor:
        """Distance to the surface of the head: shells around the brain, joined with its other solids."""
        solids = [self._tube_or_solid(solid) for solid in outside.solids]
        if shells is None and not solids:
            solids = [distance_to(self.shapes.brain[0], self.where)]
        body = [self.fine(joined(solids, HEAD_FILLET * self.radius))] if solids else []
        return straightened(joined(body if shells is None else [*body, shells], HEAD_FILLET * self.radius))

    def _fill_shells(
        self,
        result: torch.Tensor,
        fields: _Fields,
        gap: torch.Tensor | float,
        skull: torch.Tensor | float,
        inside: torch.Tensor,
    ) -> None:
        """Skull with its marrow, the cord that runs through it, and the fluid within."""
        outside = self.shapes.outside
        if outside.skull:
            result[fields.hull < gap + skull] = channel("cortical bone")
            rest = (1 - outside.marrow) / 2 * skull
            result[(fields.hull > gap + rest) & (fields.hull < gap + skull - rest)] = channel("cancellous bone")
        if fields.cord is not None:
            result[(fields.cord < 0) & inside] = outer(CORD)
        if outside.gap or outside.hull:
            result[fields.hull < gap] = channel("gap fluid")

    def _fill_bone(self, result: torch.Tensor, depth: torch.Tensor, outside: Outside) -> None:
        """A bone along the middle of a limb; `depth` counts voxels from its middle."""
        size = max(1.5, self.radius * float(self.rng.uniform(0.15, 0.35)))
        result[depth < size] = channel("cortical bone")
        result[depth < size * outside.marrow] = channel("cancellous bone")

    def _fill_things(self, result: torch.Tensor, outside: Outside, inside: torch.Tensor) -> None:
        for eye in outside.eyes:
            distance = self.fine(distance_to(eye, self.where))
            result[distance < 0] = channel("eye")
            result[distance < -0.6 * eye.radius] = channel("lens")
        if outside.tubes:
            result[self._tubes(outside.tubes) & inside] = channel("tube")
        if outside.cavities:
            result[(self.noise(outside.cavities) > self.rng.uniform(0.9, 1.6)) & inside] = channel("cavity")

    def _fill_inside(self, result: torch.Tensor, fields: _Fields, inside: Inside) -> None:
        brain = fields.brain < 0
        depth = -fields.brain
        lobe = fields.lobe < 0 if fields.lobe is not None else None
        filled = self._parts(inside.parts, inside.part, inner(INNER))
        if lobe is not None and self.rng.uniform() < 0.6:
            filled = torch.where(lobe, inner(LOBE), filled)
        if inside.blob:
            filled[self.noise(inside.blob) > self.rng.uniform(1.0, 1.8)] = inner(BLOB)
        if inside.ventricle:
            deep = depth > 0.4 * self.radius
            filled[(self.noise(inside.ventricle) > self.rng.uniform(0.3, 1.0)) & deep] = inner(VENTRICLE)
        if self.shapes.outside.tubes and self.rng.uniform() < 0.3:
            filled[self._tubes(self.shapes.outside.tubes)] = inner(TUBE)
        surface = depth
        if inside.fold:  # fluid in sheets that open to the surface, cortex along them
            sheet = self.noise(inside.fold).abs_().mul_(inside.fold / SLOPE_OF_NOISE)
            sheet += (depth - inside.fold_depth).clamp_(min=0)
            surface = torch.minimum(depth, sheet)
        if inside.cortex:
            in_lobe = inner(CORTEX) if lobe is None else torch.where(lobe, inner(LOBE_CORTEX), inner(CORTEX))
            filled = torch.where(surface < inside.fluid * bool(inside.fold) + inside.cortex, in_lobe, filled)
        if inside.fold:
            filled[sheet < inside.fluid] = channel("fold fluid")
        result.copy_(torch.where(brain, filled.to(torch.uint8), result))

    def _fill_phantom(self, result: torch.Tensor, fields: _Fields) -> None:
        """One substance, perhaps with a few balls or tubes in it."""
        solid = fields.brain < 0
        result[solid] = outer(PHANTOM)
        kind = self.rng.uniform()
        if kind < 0.3:
            result[(self.noise(0.5 * self.radius) > 1.7) & solid] = outer(PHANTOM_BALLS)
        elif kind < 0.5:
            result[self._tubes(self.radius) & solid] = outer(PHANTOM_TUBES)

    def _parts(self, count: int, voxels: float, first: int) -> torch.Tensor:
        """The space shared out among `count` labels, uint8; each is where its own noise is the highest."""
        if count == 1:
            return torch.full(self.shapes.crop_voxels, first, dtype=torch.uint8, device=self.device)
        best = self.noise(voxels)
        chosen = torch.full(best.shape, first, dtype=torch.uint8, device=self.device)
        for number in range(1, count):
            other = self.noise(voxels * math.exp(self.rng.uniform(-0.4, 0.4)))
            chosen.masked_fill_(other > best, first + number)
            best = torch.maximum(best, other)
        return chosen

    def _tubes(self, voxels: float) -> torch.Tensor:
        """Thin curves in which two noises are both about 0, boolean."""
        width = float(self.rng.uniform(0.06, 0.2))
        first, second = self.noise(voxels, 2)
        return first.square_().add_(second.square_()) < width**2

    def _tube_or_solid(self, solid: Solid) -> torch.Tensor:
        """Distance at the nodes; a tube that is no limb goes one way only."""
        distance = distance_to(solid, self.where)
        if solid.half_axes[0] < ENDLESS or self.shapes.kind == "limb":
            return distance
        return torch.maximum(distance, -_along(solid, self.where))


def _along(tube: Solid, where: torch.Tensor) -> torch.Tensor:
    """Voxels from the tube's centre along its first axis, (I, J, K)."""
    direction = torch.from_numpy(tube.direction(0)).to(where)
    along = torch.einsum("x,xijk->ijk", direction, where)
    return along - float(tube.direction(0) @ np.array(tube.centre))
