"""One sample: the record of all its chance, and what is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phantomseg.image.parts import parts_of
from phantomseg.synth.artefacts import Artefacts
from phantomseg.synth.bias import Bias
from phantomseg.synth.findings import Findings
from phantomseg.synth.pose import Pose
from phantomseg.synth.pumba import Pumba
from phantomseg.synth.resolution import Resolution
from phantomseg.synth.shape import Shape
from phantomseg.synth.shapes import Shapes
from phantomseg.synth.slab import Slab
from phantomseg.synth.source import SHAPES, TEMPLATES
from phantomseg.synth.strip import Strip
from phantomseg.synth.tissues import Tissues
from phantomseg.synth.view import View


@dataclass(frozen=True)
class SampleDraw:
    """All chance of one sample; what is None was omitted by the recipe."""

    seed: int
    index: int
    target: str
    fine_voxels_per_mm: int
    pose: Pose | None
    shapes: Shapes | None
    pumba: Pumba | None
    shape: Shape | None
    findings: Findings | None
    strip: Strip | None
    tissues: Tissues
    bias: Bias | None
    gamma: float | None
    artefacts: Artefacts | None
    resolution: Resolution | None
    view: View | None
    slab: Slab | None
    closed_voxels: float = 0.0

    @property
    def source(self) -> str:
        """Label set of the label map."""
        return SHAPES if self.pose is None else TEMPLATES

    def record(self) -> dict[str, Any]:
        """Plain dictionary, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images (B, 1, I, J, K) between 0 and 1, and targets as channels of the target set.

    Targets are (B, f·I, f·J, f·K), where f is `fine_voxels_per_mm` of the recipe: a voxel of the image holds f³
    labels, the fractions of which are its soft target. Where label maps do not tell all classes apart, the target holds
    the lowest of those that a voxel may be of, or UNLABELLED, and `classes` has, for each sample, the lowest class that
    each is one with, (B, C).
    """

    image: torch.Tensor
    target: torch.Tensor
    draws: tuple[SampleDraw, ...]
    classes: np.ndarray | None = None

    def hard_target(self) -> torch.Tensor:
        """The commonest label of each voxel of the image, (B, I, J, K)."""
        times = self.target.shape[1] // self.image.shape[2]
        return parts_of(self.target, times).mode(-1).values


def taken(values: Iterable[Any]) -> list[Any]:
    """Draws of one step, those left out that the recipe omits.

    >>> taken([None, 2])
    [2]
    """
    return [value for value in values if value is not None]
