"""Labels to image: Gaussians, one to SUBCLASSES a tissue, mean and spread drawn anew for each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from phantomseg.image.separable import smooth_noise
from phantomseg.labels import LabelSet, label_set
from phantomseg.rng import Constant, Distribution, LogUniform, Uniform, check_positive, draw_seed
from phantomseg.synth.channels import look_up
from phantomseg.synth.ct import draw_ct
from phantomseg.synth.source import TEMPLATES, brain_channels

SUBCLASSES = 4
REGIONS = (
    "soft tissue",
    "skin",
    "cancellous bone",
)  # tissues and structures outside the brain, whose sub-classes may look like anything
CORTICAL_BONE = "cortical bone"
FLUIDS = ("csf", "background")
DARK_BONE = (0.0, 40.0)
DARK_FLUID = (0.0, 60.0)
# mean variance of linear interpolation between independent nodes, along three axes
INTERPOLATED_VARIANCE = (2 / 3) ** 3


@dataclass(frozen=True)
class TissueSettings:
    """Priors of intensity, on a scale of 0 to 255."""

    mean: Distribution = Uniform(0, 255)
    std: Distribution = Uniform(0, 35)
    shared_sides_probability: float = 0.0  # left and right get the same Gaussian
    background_zero_probability: float = 0.05
    background_dark_probability: float = 0.25
    background_dark_mean: Distribution = Uniform(0, 15)
    background_dark_std: Distribution = Uniform(0, 5)
    stripped_zero_probability: float = 0.05  # the same for samples without a skull
    dark_bone_probability: float = 0.0  # cortical bone gives as little signal as it does in all of MR
    dark_fluid_probability: float = 0.0  # CSF gives as little signal as in T1-weighted images and FLAIR
    subclass_probability: float = 0.0  # tissues of the sample have 1 to SUBCLASSES sub-classes each
    subclass_spread: Distribution = Uniform(0, 30)  # standard deviation of their means about the tissue's
    subclass_mm: Distribution = LogUniform(5, 40)  # from one region of a sub-class to the next
    regions_probability: float = 0.0  # outside the brain every sub-class has a mean of its own
    texture: Distribution = Constant(0)  # share of the variance that is smooth
    texture_mm: Distribution = LogUniform(2, 10)
    alike_probability: float = 0.0  # the parts of the brain have means about a common one
    alike_std: Distribution = Uniform(5, 40)  # of them
    most: float | None = None  # brightest intensity, where there is one
    ct_probability: float = 0.0  # contrast of computed tomography in a random window

    def __post_init__(self) -> None:
        check_positive(self.subclass_mm, "recipe key tissues.subclass_mm")
        check_positive(self.texture_mm, "recipe key tissues.texture_mm")


@dataclass(frozen=True)
class Tissues:
    """One draw: mean and spread of each channel of the source and sub-class (G · SUBCLASSES values, or G)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    noise_seed: int
    subclass_mm: float = 1.0
    texture: float = 0.0
    texture_mm: float = 1.0
    most: float | None = None  # intensity at which the window ends


def without_texture(settings: TissueSettings) -> TissueSettings:
    """The same with tissues of one substance each, as those of a phantom are."""
    return replace(settings, subclass_probability=0.0, texture=Constant(0))


def draw_tissues(
    settings: TissueSettings, stripped: bool, rng: np.random.Generator, source: str = TEMPLATES
) -> Tissues:
    """Draw a contrast. Structures of one contrast group (and side, unless shared) look alike."""
    labels = label_set(source)
    mean, std = _draw_gaussians(settings, stripped, labels, rng)
    spread = settings.subclass_spread.draw(rng, 1)[0]
    splits, regions, is_ct = rng.uniform(size=3)
    most = settings.most
    if is_ct < settings.ct_probability:
        mean, std, most = draw_ct(rng, SUBCLASSES, labels)
    else:
        tables = [np.repeat(mean[:, None], SUBCLASSES, 1)]
        if splits < settings.subclass_probability:
            tables.append(_draw_subclasses(tables[-1], spread, rng))
        if regions < settings.regions_probability:
            tables.append(_draw_regions(tables[-1], settings.mean, labels, rng))
        if len(tables) > 1:
            mean, std = tables[-1].ravel(), np.repeat(std, SUBCLASSES)
    return Tissues(
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        noise_seed=draw_seed(rng),
        subclass_mm=settings.subclass_mm.draw(rng, 1)[0],
        texture=settings.texture.draw(rng, 1)[0],
        texture_mm=settings.texture_mm.draw(rng, 1)[0],
        most=most,
    )


def _draw_gaussians(
    settings: TissueSettings, stripped: bool, labels: LabelSet, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    share = rng.uniform() < settings.shared_sides_probability
    groups: dict[tuple[str, str], tuple[float, float]] = {}
    pairs = []
    for label in labels.labels:
        key = (label.contrast, "" if share else label.side)
        if key not in groups:
            groups[key] = (settings.mean.draw(rng, 1)[0], settings.std.draw(rng, 1)[0])
        pairs.append(groups[key])
    if settings.alike_probability and rng.uniform() < settings.alike_probability:
        pairs = _made_alike(pairs, settings, labels, rng)
    zero = settings.stripped_zero_probability if stripped else settings.background_zero_probability
    chance = rng.uniform()
    if chance < zero:
        pairs[0] = (0.0, 0.0)
    elif chance < zero + settings.background_dark_probability:
        pairs[0] = (settings.background_dark_mean.draw(rng, 1)[0], settings.background_dark_std.draw(rng, 1)[0])
    for number, label in enumerate(labels.labels):
        pairs[number] = pairs[0] if label.contrast == labels.labels[0].contrast else pairs[number]
    dark, chance = rng.uniform(*DARK_BONE), rng.uniform()
    if chance < settings.dark_bone_probability:
        bone = labels.names.index(CORTICAL_BONE)
        pairs[bone] = (dark, min(dark, pairs[bone][1]))
    if settings.dark_fluid_probability and rng.uniform() < settings.dark_fluid_probability:
        dark = rng.uniform(*DARK_FLUID)
        is_fluid = [label.tissue == "csf" for label in labels.labels]
        pairs = [(dark, min(dark, p[1])) if fluid else p for p, fluid in zip(pairs, is_fluid, strict=True)]
    mean, std = np.array(pairs).T
    return mean, std


def _made_alike(
    pairs: list[tuple[float, float]], settings: TissueSettings, labels: LabelSet, rng: np.random.Generator
) -> list[tuple[float, float]]:
    common, spread = settings.mean.draw(rng, 1)[0], settings.alike_std.draw(rng, 1)[0]
    parts = brain_channels(labels.name) & np.array([label.tissue not in FLUIDS for label in labels.labels])
    moves = spread * rng.standard_normal(len(pairs))
    return [(abs(common + m), std) if p else (mean, std) for (mean, std), p, m in zip(pairs, parts, moves, strict=True)]


def _draw_subclasses(mean: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Means (G, SUBCLASSES) moved apart, for a drawn number of sub-classes a tissue; background keeps one."""
    counts = rng.integers(1, SUBCLASSES + 1, len(mean))
    counts[0] = 1
    moves = spread * rng.standard_normal(mean.shape)
    # sub-classes beyond a tissue's number repeat its first ones
    which = np.arange(SUBCLASSES)[None] % counts[:, None]
    moved = mean + np.take_along_axis(moves, which, 1)
    return np.where(counts[:, None] > 1, moved, mean)


def _draw_regions(mean: np.ndarray, prior: Distribution, labels: LabelSet, rng: np.random.Generator) -> np.ndarray:
    new = np.array(prior.draw(rng, mean.size)).reshape(mean.shape)
    is_region = np.array([label.tissue in REGIONS or label.name in REGIONS for label in labels.labels])
    return np.where(is_region[:, None], new, mean)


def voxel_noise(seeds: list[int], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Standard normal noise, (B, *shape); each sample's depends on its own seed alone."""
    noise = torch.empty((len(seeds), *shape), device=device)
    for row, seed in zip(noise, seeds, strict=True):
        row.normal_(generator=torch.Generator(device).manual_seed(seed))
    return noise


def paint(labels: torch.Tensor, tissues: list[Tissues], per_mm: int = 1, source: str = TEMPLATES) -> torch.Tensor:
    """Image of `mean[label] + std[label] · noise`, clipped at 0, shape (B, 1, I, J, K).

    Args:
        labels: channels of the source, uint8, (B, I, J, K).
        tissues: one draw a sample.
        per_mm: voxels a mm.
        source: label set that the tissues were drawn for.
    """
    noise = voxel_noise([t.noise_seed for t in tissues], labels.shape[1:], labels.device)
    for volume, channels, drawn in zip(noise, labels, tissues, strict=True):
        _paint_one(volume, channels, drawn, per_mm, len(label_set(source)))
    return noise[:, None]


def _paint_one(noise: torch.Tensor, labels: torch.Tensor, tissues: Tissues, per_mm: int, count: int) -> None:
    """Turn the noise (I, J, K) into the image, in place."""
    rng = np.random.default_rng(tissues.noise_seed)
    shape, device = tuple(labels.shape), labels.device
    if tissues.texture > 0:
        smooth = smooth_noise(rng, shape, max(1.0, tissues.texture_mm * per_mm), device)
        noise.mul_(math.sqrt(1 - tissues.texture))
        noise.add_(smooth, alpha=math.sqrt(tissues.texture / INTERPOLATED_VARIANCE))
    index = labels
    if len(tissues.mean) > count:
        # the signs of two smooth fields make four kinds of region, each of which may touch each
        first, second = smooth_noise(rng, shape, tissues.subclass_mm * per_mm, device, fields=2)
        kinds = (first > 0).view(torch.uint8) * 2 + (second > 0).view(torch.uint8)
        index = labels.int().mul_(SUBCLASSES).add_(kinds)
    mean, std = (look_up(index, torch.tensor(table, device=device)) for table in (tissues.mean, tissues.std))
    torch.addcmul(mean, std, noise, out=noise)
    noise.clamp_(0, tissues.most)
