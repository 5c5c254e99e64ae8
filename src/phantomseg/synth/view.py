"""What the scan covers: field of view cut short, padded with zeros, wrapped around, face removed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from phantomseg.rng import Distribution, Uniform
from phantomseg.synth.channels import every_mm, look_up, refined
from phantomseg.synth.source import TEMPLATES, brain_channels


@dataclass(frozen=True)
class ViewSettings:
    """Each happens with its own probability; shares are of the crop's axis."""

    cut_probability: float = 0.0  # one side of one axis
    cut_share: Distribution = Uniform(0.05, 0.35)
    padding_probability: float = 0.0  # all six sides, each by a share of its own
    padding_share: Distribution = Uniform(0, 0.15)
    wrap_probability: float = 0.0  # what lies beyond one side shows up at the opposite one
    wrap_share: Distribution = Uniform(0.03, 0.15)
    deface_probability: float = 0.0  # a plane in front of and below the brain
    deface_margin_mm: Distribution = Uniform(3, 25)
    deface_angle_deg: Distribution = Uniform(20, 60)  # 0 cuts straight down in front of the brain


@dataclass(frozen=True)
class View:
    """One draw; shares of each axis that are missing at its low and high end."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    wrap_axis: int
    wrap_share: float
    deface_margin_mm: float | None
    deface_angle_deg: float

    @property
    def is_whole(self) -> bool:
        """Whether nothing is hidden."""
        return not any(self.low) and not any(self.high) and self.deface_margin_mm is None


def draw_view(settings: ViewSettings, rng: np.random.Generator) -> View:
    """Draw what the scan covers."""
    cut, padding, wrap, deface = rng.uniform(size=4)
    low, high = np.zeros(3), np.zeros(3)
    shares = np.array(settings.padding_share.draw(rng, 6)).reshape(2, 3)
    if padding < settings.padding_probability:
        low, high = shares
    axis, at_end = int(rng.integers(3)), bool(rng.integers(2))
    share = settings.cut_share.draw(rng, 1)[0]
    if cut < settings.cut_probability:
        (high if at_end else low)[axis] += share
    wrap_axis, wrap_share = int(rng.integers(3)), settings.wrap_share.draw(rng, 1)[0]
    if wrap >= settings.wrap_probability:
        wrap_share = 0.0
    high[wrap_axis] += wrap_share  # the slab that is wrapped is not seen where it is
    margin = settings.deface_margin_mm.draw(rng, 1)[0]
    return View(
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        wrap_axis=wrap_axis,
        wrap_share=wrap_share,
        deface_margin_mm=margin if deface < settings.deface_probability else None,
        deface_angle_deg=settings.deface_angle_deg.draw(rng, 1)[0],
    )


def hide_unseen(
    image: torch.Tensor, target: torch.Tensor, labels: torch.Tensor, views: list[View], source: str = TEMPLATES
) -> None:
    """Zero what each scan does not show, in place, in images (B, 1, I, J, K) and in targets.

    Labels (B, p·I, p·J, p·K) are channels of the source; targets are as fine as these.
    """
    per_mm = labels.shape[1] // image.shape[2]
    for volume, wanted, channels, view in zip(image[:, 0], target, every_mm(labels, per_mm), views, strict=True):
        if not view.is_whole:
            visible = seen(channels, view, source)
            volume *= visible
            wanted *= refined(visible[None], per_mm)[0]


def seen(labels: torch.Tensor, view: View, source: str = TEMPLATES) -> torch.Tensor:
    """Which voxels a scan shows, boolean (I, J, K), from labels of 1 mm."""
    keep = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    ends = zip(labels.shape, view.low, view.high, strict=True)
    inside = tuple(slice(round(n * low), n - round(n * high)) for n, low, high in ends)
    keep[inside] = True
    if view.deface_margin_mm is not None:
        keep &= _behind_face(labels, view.deface_margin_mm, math.radians(view.deface_angle_deg), source)
    return keep


def _behind_face(labels: torch.Tensor, margin_mm: float, angle: float, source: str) -> torch.Tensor:
    """Voxels at most `margin_mm` beyond the brain, in a direction between anterior and inferior."""
    device = labels.device
    anterior, superior = (torch.arange(n, device=device, dtype=torch.float32) for n in labels.shape[1:])
    forward = math.cos(angle) * anterior[:, None] - math.sin(angle) * superior[None]  # (J, K)
    is_brain = look_up(labels, torch.from_numpy(brain_channels(source)).to(device)).any(0)
    far = forward.masked_fill(~is_brain, -math.inf).amax() + margin_mm
    return ((forward <= far) | ~is_brain.any()).expand(labels.shape)  # without a brain, all of it


def wrap_around(image: torch.Tensor, views: list[View]) -> torch.Tensor:
    """Image (B, 1, I, J, K) with the end of an axis added to its beginning, in place."""
    for volume, view in zip(image[:, 0], views, strict=True):
        size = volume.shape[view.wrap_axis]
        if width := round(size * view.wrap_share):
            volume.narrow(view.wrap_axis, 0, width).add_(volume.narrow(view.wrap_axis, size - width, width).clone())
    return image
