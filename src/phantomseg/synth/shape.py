"""Shapes beyond what a warp gives: thinner and thicker cortex, ventricles, nuclei, skull, skin.

A boundary between two tissues moves by a drawn distance that varies over the head (SIAM moves the same boundaries
by iterated dilation of 0.25 mm voxels). A layer that keeps two other tissues apart is never eaten through, but for
cortex that gets thinner than a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch

from phantomseg.image.distance import (
    LONGEST_REACH,
    meeting_box,
    nearest_label,
    squared_distance,
    surface_distance,
    with_edges,
)
from phantomseg.image.separable import smooth_noise
from phantomseg.labels import label_set
from phantomseg.rng import Constant, Distribution, Uniform, draw_seed
from phantomseg.synth.channels import channel, is_any

CSF = (24,)
CORTEX = (3, 42)
WHITE = (2, 41, 25, 57)
NUCLEI = (10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58)
VENTRICLES = (4, 5, 43, 44)
BONE = (515, 516)
SOFT = (507, 508)

# boundary: tissues that grow where the distance is positive, and tissues that grow where it is negative
BOUNDARIES = {
    "pial": (CORTEX, CSF),
    "white": (WHITE, CORTEX),
    "nuclei": (NUCLEI, WHITE),
    "ventricles": (VENTRICLES, WHITE),
    "third_ventricle": ((14,), (10, 49, 28, 60)),
    "dura": ((520,), CSF),
    "skull": (BONE, SOFT),
    "skin": ((511,), SOFT),
    "head": ((511,), (0,)),
}
AGEING = {"pial": -1.0, "ventricles": 3.0, "third_ventricle": 1.5}  # distances over that at the pial surface
UNSIDED = {"dura", "skull", "skin", "head"}
SHELL = 2  # squared distance within which voxels touch by a face or an edge
REBUILT_RIM_MM = 0.5  # how far a rebuilt cortex may reach beyond the old one


@dataclass(frozen=True)
class Move:
    """How often a boundary moves, and how far: positive lets the first tissue of BOUNDARIES grow."""

    probability: float = 0.0
    mm: Distribution = Constant(0.0)


@dataclass(frozen=True)
class ShapeSettings:
    """One Move a boundary; `thickness` builds the cortex anew, with a thickness instead of a distance."""

    pial: Move = Move()
    white: Move = Move()
    nuclei: Move = Move()
    ventricles: Move = Move()
    third_ventricle: Move = Move()
    dura: Move = Move()
    skull: Move = Move()
    skin: Move = Move()
    head: Move = Move()
    thickness: Move = Move()
    ageing: Move = Move()  # cortex lost at the pial surface; the other moves of AGEING come with it
    one_side_probability: float = 0.0  # of a move of what has sides, but for `thickness` and `ageing`: one side stays
    variation: Distribution = Uniform(0, 0.5)  # standard deviation of the distance over the head, relative
    variation_nodes_mm: float = 25.0


@dataclass(frozen=True)
class Shape:
    """One draw: the moves in the order in which they are made."""

    boundaries: tuple[str, ...]
    distances_mm: tuple[float, ...]
    variation: float
    nodes_mm: float
    seed: int
    sides: tuple[str, ...] = ()  # of each move, "left" or "right"; "" are both


def draw_shape(settings: ShapeSettings, rng: np.random.Generator) -> Shape:
    """Draw which boundaries move, and how far."""
    moves = {f.name: getattr(settings, f.name) for f in fields(settings) if f.type == "Move" and f.name != "ageing"}
    drawn = {}
    for name, move in moves.items():
        distance = move.mm.draw(rng, 1)[0]
        if rng.uniform() < move.probability:
            drawn[name] = distance
    variation = settings.variation.draw(rng, 1)[0]
    seed = draw_seed(rng)
    ages = bool(settings.ageing.probability and rng.uniform() < settings.ageing.probability)
    if ages:
        lost_mm = settings.ageing.mm.draw(rng, 1)[0]
        drawn |= {name: factor * lost_mm for name, factor in AGEING.items()}
    chances = rng.uniform(size=len(drawn)) if settings.one_side_probability else np.ones(len(drawn))
    half = settings.one_side_probability / 2
    is_whole = {"thickness", *UNSIDED, *(AGEING if ages else ())}
    sides = tuple(
        "" if name in is_whole or chance >= 2 * half else "left" if chance < half else "right"
        for name, chance in zip(drawn, chances, strict=True)
    )
    return Shape(tuple(drawn), tuple(drawn.values()), variation, settings.variation_nodes_mm, seed, sides)


def without_loss(shape: Shape) -> Shape:
    """The same but for moves that take cortex away, for label maps that call other grey matter the same."""
    moves = zip(shape.boundaries, shape.distances_mm, shape.sides, strict=True)
    kept = [move for move in moves if move[0] != "thickness" and not (move[0] == "pial" and move[1] < 0)]
    boundaries, distances, sides = zip(*kept, strict=True) if kept else ((), (), ())
    return replace(shape, boundaries=boundaries, distances_mm=distances, sides=sides)


def apply_shape(labels: torch.Tensor, shapes: list[Shape], per_mm: int = 1) -> torch.Tensor:
    """Labels (B, I, J, K), generation channels at `per_mm` voxels a mm, with the drawn boundaries moved."""
    return torch.stack([_apply_one(volume, shape, per_mm) for volume, shape in zip(labels, shapes, strict=True)])


def _apply_one(labels: torch.Tensor, shape: Shape, per_mm: int) -> torch.Tensor:
    rng = np.random.default_rng(shape.seed)
    sides = shape.sides or ("",) * len(shape.boundaries)
    for name, mm, side in zip(shape.boundaries, shape.distances_mm, sides, strict=True):
        field = smooth_noise(rng, tuple(labels.shape), shape.nodes_mm * per_mm, labels.device)
        factor = field.mul_(shape.variation).add_(1).clamp_(0, 2)
        if name == "thickness":
            labels = rebuild_cortex(labels, factor.mul_(mm * per_mm), 2 * mm * per_mm, REBUILT_RIM_MM * per_mm)
        else:
            pair = BOUNDARIES[name] if mm > 0 else BOUNDARIES[name][::-1]
            grows, shrinks = (of_side(values, side) for values in pair)
            through = name == "pial" and mm < 0  # cortex thinner than a voxel is lost to the fluid
            labels = grow(labels, grows, shrinks, factor.mul_(abs(mm) * per_mm), 2 * abs(mm) * per_mm, through)
    return labels


def grow(
    labels: torch.Tensor,
    values: Iterable[int],
    into: Iterable[int],
    distance: torch.Tensor,
    most: float,
    through: bool = False,
) -> torch.Tensor:
    """Labels with one tissue grown into another, shape (I, J, K).

    Args:
        labels: generation channels, uint8.
        values: generation values that grow; a new voxel takes the nearest one.
        into: generation values that are eaten, except where they keep the growing tissue from a third one.
        distance: in voxels, one for each voxel.
        most: largest distance, which bounds the work.
        through: eat what keeps it from a third tissue, too.
    """
    reach = _reach(most)
    is_grower, is_eaten = is_any(labels, values), is_any(labels, into)
    box = meeting_box(is_grower, is_eaten, reach)
    part, is_grower, is_eaten = labels[box], is_grower[box], is_eaten[box]
    if not part.numel():
        return labels
    squared, nearest = nearest_label(part, is_grower, reach)
    close = surface_distance(is_grower, squared) < distance[box]
    changes = is_eaten & close
    if not through:
        changes &= ~with_edges(~(is_grower | is_eaten))
    changed = labels.clone()
    changed[box] = torch.where(changes, nearest, part)
    return changed


@cache
def of_side(values: tuple[int, ...], side: str) -> tuple[int, ...]:
    """The values of one side, and those without a side.

    >>> of_side((3, 42, 24), "left")
    (3, 24)
    """
    sides = {label.id: label.side for label in label_set("generation").labels}
    return tuple(value for value in values if not side or sides[value] in (side, ""))


def rebuild_cortex(labels: torch.Tensor, thickness: torch.Tensor, most: float, rim: float) -> torch.Tensor:
    """Labels with a cortex of the given thickness in voxels around what it encloses, shape (I, J, K).

    Cortex farther away becomes CSF; CSF nearer becomes cortex, at most `rim` voxels from the old one.
    """
    was_cortex, is_csf = is_any(labels, CORTEX), is_any(labels, CSF)
    core = is_any(labels, (*WHITE, *NUCLEI, *VENTRICLES))
    squared = squared_distance(core, _reach(most))
    close = (surface_distance(core, squared) < thickness) | (squared <= SHELL)
    grown = grow(labels, CORTEX, CSF, close * rim, rim)
    csf = torch.full_like(labels, channel(CSF[0]))
    return torch.where(was_cortex & ~close, csf, torch.where(is_csf, grown, labels))


def _reach(distance: float) -> int:
    return min(LONGEST_REACH, math.ceil(distance) + 1)
