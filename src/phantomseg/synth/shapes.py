"""Label maps out of nothing: a solid with an inside, in shells, in a head of other solids; or no brain at all.

What a drawn solid looks like is not anatomy. It is brain-like in as much as a solid of its own inside lies within
shells, or touches what is around it, or lies bare. The ideas are those of PUMBA (doi:10.48550/arXiv.2505.07159),
SynthMorph (doi:10.1109/TMI.2021.3116879) and AnyStar (doi:10.48550/arXiv.2307.07044). All lengths count voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from phantomseg.rng import Distribution, LogUniform, Uniform, check_positive, draw_seed
from phantomseg.synth.solids import ENDLESS, Solid, random_axes, triple

LABELS = "shapes"
KINDS = ("head", "phantom", "limb", "body", "nothing")


@dataclass(frozen=True)
class ShapesSettings:
    """How solids are drawn; thicknesses of shells are shares of the brain's radius."""

    crop_voxels: tuple[int, int, int] = (96, 128, 128)
    human_mm: float = 1.65  # voxel that use begins with; a human brain is drawn as large as at 1.75 mm
    brain_share: Distribution = Uniform(0.15, 1.2)  # longest diameter, of the frame's shortest axis
    usual_probability: float = 0.75
    usual_share: Distribution = Uniform(0.65, 0.83)  # mean diameter; looks bring brains to about one size
    aspect: Distribution = Uniform(0.5, 1.0)  # of the two shorter axes to the longest
    exponent: Distribution = Uniform(1.8, 3.0)
    off_centre: Distribution = Uniform(-0.25, 0.25)  # of the brain's middle, of the frame; half of it if usual
    warp_share: Distribution = Uniform(0.0, 0.3)  # of the radius
    lumps_share: Distribution = Uniform(0.0, 0.2)
    no_brain_probability: float = 0.22
    lobe_probability: float = 0.9
    stem_probability: float = 0.6
    bare_probability: float = 0.08
    hull_probability: float = 0.5  # shells lie around a smooth hull of the brain, not around each of its lumps
    hull_share: Distribution = Uniform(0.1, 0.6)  # fillet of that hull
    gap_probability: float = 0.85
    gap_share: Distribution = LogUniform(0.02, 0.2)
    skull_probability: float = 0.85
    skull_share: Distribution = LogUniform(0.03, 0.25)
    flesh_share: Distribution = Uniform(0.0, 0.5)
    fat_share: Distribution = Uniform(0.0, 0.15)
    skin_share: Distribution = Uniform(0.02, 0.08)
    unevenness: Distribution = Uniform(0.0, 0.7)  # of shells, relative
    open_probability: float = 0.6  # gap and skull have holes, as the base of a skull has
    open_level: Distribution = Uniform(0.2, 1.2)  # of smooth noise, from which on they are missing
    head_probability: float = 0.75  # the head is more than shells
    neck_probability: float = 0.5
    folds_probability: float = 0.75
    fold_voxels: Distribution = LogUniform(3, 14)
    cortex_share: Distribution = LogUniform(0.04, 0.25)
    part_share: Distribution = LogUniform(0.2, 1.2)  # size of inner parts, of the radius
    outer_share: Distribution = LogUniform(0.05, 0.8)  # and of those outside, where a face is all small things
    thing_probability: float = 0.5  # of each of: eyes, tubes, cavities, ventricles, blobs

    def __post_init__(self) -> None:
        for name in ("brain_share", "aspect", "exponent", "fold_voxels", "part_share", "outer_share", "cortex_share"):
            check_positive(getattr(self, name), f"recipe key shapes.{name}")


@dataclass(frozen=True)
class Inside:
    """What fills the brain. Thicknesses and sizes in voxels; 0 leaves a thing out."""

    fold: float  # from one fold to the next
    fold_depth: float
    fluid: float  # half-width of the fluid between folds
    cortex: float
    parts: int
    part: float  # size
    ventricle: float
    blob: float


@dataclass(frozen=True)
class Outside:
    """What is around the brain. Thicknesses and sizes in voxels; 0 leaves a thing out."""

    bare: bool
    hull: float  # fillet of the hull that shells lie around
    gap: float
    skull: float
    marrow: float  # share of the skull
    flesh: float
    fat: float
    skin: float
    unevenness: float
    open_level: float  # of smooth noise, from which on gap and skull are missing
    solids: tuple[Solid, ...]  # of the head
    eyes: tuple[Solid, ...]
    parts: int
    part: float
    tubes: float
    cavities: float


@dataclass(frozen=True)
class Shapes:
    """One draw."""

    kind: str
    crop_voxels: tuple[int, int, int]
    brain: tuple[Solid, ...]  # main solid first, then lobes
    stem: Solid | None
    stem_end: float  # voxels from the brain's middle, where it is cut
    warp: float  # voxels
    warp_voxels: float
    lumps: float
    lump_voxels: float
    inside: Inside
    outside: Outside
    seed: int


def draw_shapes(settings: ShapesSettings, rng: np.random.Generator, stripped: bool = False) -> Shapes:
    """Draw one label map; of a brain that is to be stripped, one that is told from a phantom by its inside."""
    kind = "head"
    if rng.uniform() < settings.no_brain_probability and not stripped:
        kind = str(rng.choice(KINDS[1:], p=(0.45, 0.3, 0.15, 0.1)))
    size = min(settings.crop_voxels)
    main = _draw_main(settings, kind, size, rng)
    radius = main.radius
    down = _unit(rng)
    outside = _draw_outside(settings, kind, main, down, rng)
    lobes = _draw_lobes(main, rng) if kind == "head" and rng.uniform() < settings.lobe_probability else ()
    with_stem = rng.uniform() < settings.stem_probability
    smooth = 0.2 if kind == "phantom" else 1.0
    return Shapes(
        kind=kind,
        crop_voxels=settings.crop_voxels,
        brain=(main, *lobes),
        stem=_tube(main, down, radius * rng.uniform(0.15, 0.4), rng) if with_stem and kind == "head" else None,
        stem_end=radius * rng.uniform(0.8, 1.7),
        warp=radius * smooth * settings.warp_share.draw(rng, 1)[0],
        warp_voxels=radius * rng.uniform(0.6, 1.6),
        lumps=radius * smooth * settings.lumps_share.draw(rng, 1)[0],
        lump_voxels=max(4.0, radius * rng.uniform(0.3, 0.9)),
        inside=_draw_inside(settings, radius, stripped or outside.bare, rng),
        outside=outside,
        seed=draw_seed(rng),
    )


def _draw_main(settings: ShapesSettings, kind: str, size: int, rng: np.random.Generator) -> Solid:
    usual = rng.uniform() < settings.usual_probability
    shares = settings.usual_share if usual else settings.brain_share
    longest = size * shares.draw(rng, 1)[0] / 2
    aspects = np.array([1.0, *settings.aspect.draw(rng, 2)])
    if usual:
        longest /= math.prod(aspects) ** (1 / 3)
    half = longest * aspects
    exponent = settings.exponent.draw(rng, 1)[0]
    if kind == "phantom":  # balls, cylinders and boxes
        half = longest * np.array([1.0, *(rng.uniform(0.9, 1.0, 2) if rng.uniform() < 0.6 else rng.uniform(0.4, 1, 2))])
        exponent = float(rng.choice([2.0, 2.0, 6.0]))
    share = size * np.array(settings.off_centre.draw(rng, 3)) * (0.5 if usual else 1.0)
    # a large one may be cut by the frame, but its middle half is seen
    reach = max(size / 2 - 0.5 * longest, 0.0)
    return Solid(triple(share.clip(-reach, reach)), triple(half), random_axes(rng), exponent)


def _draw_lobes(main: Solid, rng: np.random.Generator) -> tuple[Solid, ...]:
    """Smaller solids on its surface, some of them in pairs."""
    lobes = []
    for _ in range(int(rng.integers(2, 7))):
        direction = _unit(rng)
        axes = np.array(main.axes).reshape(3, 3)
        surface = 1 / np.linalg.norm(axes @ direction / np.array(main.half_axes))
        half = triple(main.radius * rng.uniform(0.2, 0.7) * rng.uniform(0.6, 1.0, 3))
        place = np.array(main.centre) + direction * surface * rng.uniform(0.7, 1.15)
        lobes.append(Solid(triple(place), half, random_axes(rng), rng.uniform(1.8, 2.6)))
        if rng.uniform() < 0.3:
            normal = main.direction(2)
            lobes.append(Solid(triple(_mirrored(place, main, normal)), half, random_axes(rng), lobes[-1].exponent))
    return tuple(lobes)


def _draw_inside(settings: ShapesSettings, radius: float, alone: bool, rng: np.random.Generator) -> Inside:
    folded = rng.uniform() < settings.folds_probability
    fold = settings.fold_voxels.draw(rng, 1)[0]
    cortex = radius * settings.cortex_share.draw(rng, 1)[0]
    ventricle, blob = rng.uniform(size=2) < settings.thing_probability
    return Inside(
        fold=fold if folded else 0.0,
        fold_depth=radius * rng.uniform(0.15, 0.6),
        fluid=rng.uniform(0.0, 0.16) * fold,
        # a smooth layer around a brain is fluid or skull far more often than it is cortex
        cortex=cortex if rng.uniform() < (0.8 if folded else 0.3) else 0.0,
        parts=int(rng.integers(1 + alone, 7)),
        part=max(3.0, radius * settings.part_share.draw(rng, 1)[0]),
        ventricle=radius * rng.uniform(0.2, 0.6) if ventricle else 0.0,
        blob=max(3.0, radius * rng.uniform(0.1, 0.5)) if blob else 0.0,
    )


def _draw_outside(
    settings: ShapesSettings, kind: str, main: Solid, down: np.ndarray, rng: np.random.Generator
) -> Outside:
    radius = main.radius
    gap, skull, head, neck, eyes, tubes, cavities, bare = rng.uniform(size=8)

    def thickness(distribution: Distribution) -> float:
        return radius * distribution.draw(rng, 1)[0]

    if kind == "phantom":  # what lies in shells is a brain, however plain
        return _draw_container(radius, rng)
    gap_voxels, skull_voxels = thickness(settings.gap_share), thickness(settings.skull_share)
    solids = _draw_head(main, min(settings.crop_voxels), rng) if head < settings.head_probability else ()
    if neck < settings.neck_probability:
        solids = (*solids, _tube(main, down, radius * rng.uniform(0.4, 1.1), rng))
    if kind == "limb":
        solids = (_tube(main, down, radius * rng.uniform(0.6, 1.0), rng),)
    return Outside(
        bare=bool(kind == "head" and bare < settings.bare_probability) or kind == "nothing",
        hull=thickness(settings.hull_share) if rng.uniform() < settings.hull_probability else 0.0,
        gap=gap_voxels if gap < settings.gap_probability else 0.0,
        skull=skull_voxels if skull < settings.skull_probability else 0.0,
        marrow=float(rng.choice([0.0, rng.uniform(0.2, 0.7)])),
        flesh=thickness(settings.flesh_share),
        fat=thickness(settings.fat_share) if rng.uniform() < 0.6 else 0.0,
        skin=thickness(settings.skin_share) if rng.uniform() < 0.8 else 0.0,
        unevenness=settings.unevenness.draw(rng, 1)[0],
        open_level=settings.open_level.draw(rng, 1)[0] if rng.uniform() < settings.open_probability else 0.0,
        solids=solids,
        eyes=_draw_eyes(main, rng) if eyes < settings.thing_probability else (),
        parts=int(rng.integers(1, 13)),
        part=max(2.5, radius * settings.outer_share.draw(rng, 1)[0]),
        tubes=max(3.0, radius * rng.uniform(0.15, 1.0)) if tubes < settings.thing_probability else 0.0,
        cavities=max(3.0, radius * rng.uniform(0.1, 0.8)) if cavities < settings.thing_probability else 0.0,
    )


def _draw_container(radius: float, rng: np.random.Generator) -> Outside:
    """A wall around a phantom, or nothing."""
    wall = radius * rng.uniform(0.02, 0.1)
    return Outside(
        bare=bool(rng.uniform() < 0.5), hull=0.0, gap=0.0, skull=0.0, marrow=0.0, flesh=wall, fat=0.0, skin=0.5 * wall,
        unevenness=0.0, open_level=0.0, solids=(), eyes=(), parts=1, part=radius, tubes=0.0, cavities=0.0,
    )  # fmt: skip


def _draw_head(main: Solid, size: int, rng: np.random.Generator) -> tuple[Solid, ...]:
    """Snout, jaw, muscles: solids beside the brain, up to as large as the frame."""
    solids = []
    for _ in range(int(rng.integers(1, 4))):
        radius = LogUniform(0.6 * main.radius, max(1.6 * main.radius, 0.4 * size)).draw(rng, 1)[0]
        place = np.array(main.centre) + _unit(rng) * (0.3 * main.radius + rng.uniform(0.0, 1.1) * radius)
        half = triple(radius * rng.uniform(0.6, 1.0, 3))
        solids.append(Solid(triple(place), half, random_axes(rng), rng.uniform(1.8, 3.0)))
    return tuple(solids)


def _draw_eyes(main: Solid, rng: np.random.Generator) -> tuple[Solid, ...]:
    radius = main.radius * rng.uniform(0.1, 0.3)
    place = np.array(main.centre) + _unit(rng) * main.radius * rng.uniform(1.0, 1.7)
    pair = (place, _mirrored(place, main, main.direction(int(rng.integers(3)))))
    return tuple(Solid(triple(p), (radius, radius, radius)) for p in pair)


def _tube(main: Solid, direction: np.ndarray, radius: float, rng: np.random.Generator) -> Solid:
    """From the brain's middle, or beside it, without an end."""
    side = np.cross(direction, _unit(rng))
    side /= np.linalg.norm(side)
    axes = np.stack([direction, side, np.cross(direction, side)])
    place = np.array(main.centre) + side * main.radius * rng.uniform(0.0, 0.4)
    half = (ENDLESS, radius, radius * rng.uniform(0.6, 1.0))
    return Solid(triple(place), half, tuple(axes.ravel().tolist()))


def _mirrored(place: np.ndarray, main: Solid, normal: np.ndarray) -> np.ndarray:
    away = place - np.array(main.centre)
    return np.asarray(place - 2 * (away @ normal) * normal)


def _unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))
