"""What one head has and another has not: lesions of the white matter, visible vessels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.image.separable import box_sum, smooth_noise
from phantomseg.rng import Distribution, LogUniform, check_positive, draw_seed
from phantomseg.synth.channels import channel, is_any, replaced

LESION_OF = {2: 25, 41: 57}
WHITE_OF = {25: 2, 57: 41}
PUTAMEN_OF = {30: 12, 62: 51}  # the templates' unnamed vessels run through the putamen
VESSELS = (502, 514)
FLUID, SOFT = 24, 507
WITHIN = (24, 520, 3, 42, 8, 47, 2, 41, 7, 46, 16)  # a vessel among these becomes fluid, not soft tissue
NEIGHBOURHOOD_MM = 7
SAMPLED_EVERY = 7  # voxels from which the threshold of the load is read


@dataclass(frozen=True)
class FindingSettings:
    """Lesions of the templates are removed first, then new ones may be pasted."""

    lesions_removed_probability: float = 0.0
    lesions_pasted_probability: float = 0.0
    lesion_load: Distribution = LogUniform(0.001, 0.05)  # share of the white matter
    lesion_mm: Distribution = LogUniform(3, 15)  # from one lesion to the next
    vessels_hidden_probability: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.lesion_mm, "recipe key findings.lesion_mm")


@dataclass(frozen=True)
class Findings:
    """One draw; a load of 0 pastes nothing."""

    remove_lesions: bool
    lesion_load: float
    lesion_mm: float
    hide_vessels: bool
    seed: int


def draw_findings(settings: FindingSettings, rng: np.random.Generator) -> Findings:
    """Draw what this head has."""
    load = settings.lesion_load.draw(rng, 1)[0]
    size = settings.lesion_mm.draw(rng, 1)[0]
    removed, pasted, hidden = rng.uniform(size=3)
    return Findings(
        remove_lesions=bool(removed < settings.lesions_removed_probability),
        lesion_load=load if pasted < settings.lesions_pasted_probability else 0.0,
        lesion_mm=size,
        hide_vessels=bool(hidden < settings.vessels_hidden_probability),
        seed=draw_seed(rng),
    )


def apply_findings(labels: torch.Tensor, findings: list[Findings], per_mm: int = 1) -> torch.Tensor:
    """Labels (B, I, J, K), generation channels at `per_mm` voxels a mm, with lesions and vessels as drawn."""
    return torch.stack([_apply_one(volume, f, per_mm) for volume, f in zip(labels, findings, strict=True)])


def _apply_one(labels: torch.Tensor, findings: Findings, per_mm: int) -> torch.Tensor:
    if findings.remove_lesions:
        labels = replaced(labels, WHITE_OF)
    if findings.lesion_load:
        labels = paste_lesions(labels, findings, per_mm)
    return hide_vessels(labels, NEIGHBOURHOOD_MM * per_mm) if findings.hide_vessels else labels


def paste_lesions(labels: torch.Tensor, findings: Findings, per_mm: int = 1) -> torch.Tensor:
    """Labels (I, J, K) with the drawn share of the white matter turned into blobs of lesion."""
    rng = np.random.default_rng(findings.seed)
    field = smooth_noise(rng, tuple(labels.shape), findings.lesion_mm * per_mm, labels.device)
    white = is_any(labels, LESION_OF)
    # the share is taken of white matter alone, which sorts last; how much there is stays where it was counted
    some = torch.where(white.flatten()[::SAMPLED_EVERY], field.flatten()[::SAMPLED_EVERY], -math.inf)
    count = (some > -math.inf).sum()
    rank = ((1 - findings.lesion_load) * count).round().clamp(min=1).long()
    threshold = some.sort().values.gather(0, (len(some) - count + rank - 1).clamp(max=len(some) - 1)[None])
    return torch.where(white & (field > threshold), replaced(labels, LESION_OF), labels)


def hide_vessels(labels: torch.Tensor, width: int) -> torch.Tensor:
    """Labels (I, J, K) in which vessels have become what surrounds them within `width` voxels."""
    within, outside = (is_any(labels, values).float() for values in (WITHIN, (SOFT, 508, 509, 511)))
    more_within = box_sum(within.sub_(outside), width) >= 0
    host = torch.where(more_within, channel(FLUID), channel(SOFT)).to(labels.dtype)
    return torch.where(is_any(labels, VESSELS), host, replaced(labels, PUTAMEN_OF))
