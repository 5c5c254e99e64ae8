"""Where the mean and variance of each channel come from, when a network sees more, or less, than in training.

Over a whole head, with its neck and the air around it, norms meet statistics that training on crops never showed;
over one tile of a head, others again. So they are taken over one block, and may be kept for tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from phantomseg.network.volume import Block, coarser

SLAB = 8  # planes worked on at once


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each channel, (C,)."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __call__(self, y: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
        """`norm` of y (1, C, i, j, k), with these moments instead of its own."""
        return F.batch_norm(y, self.mean, self.variance, norm.weight, norm.bias, eps=norm.eps)


@dataclass(eq=False)
class Norms:
    """Moments over the block `over` of a single image, or as they were `kept` in an earlier pass.

    `over` counts voxels of the image; each end is a multiple of what the network's axes are multiples of. `kept` holds
    the moments of each norm in the order in which the network applies them.
    """

    over: Block | None = None
    kept: list[Moments] = field(default_factory=list)
    _next: int = 0

    def of(self, y: torch.Tensor, shrunk: int) -> Moments:
        """Moments for the next norm, of y (1, C, i, j, k), whose voxels are `shrunk` times as large as the image's."""
        if self.over is None:
            found = self.kept[self._next % len(self.kept)]
            self._next += 1
            return found
        self.kept.append(_moments(y[(0, slice(None), *coarser(self.over, shrunk))]))
        return self.kept[-1]


def _moments(y: torch.Tensor) -> Moments:
    """Mean and variance of each channel of (C, i, j, k), in slabs, channels last: a third of what var_mean takes."""
    slabs = y.movedim(0, -1).split(SLAB)  # (i, j, k, C)
    count = y[0].numel()
    mean = sum(slab.flatten(0, 2).float().sum(0) for slab in slabs) / count
    squares = [(slab.flatten(0, 2).float() - mean).square_().sum(0) for slab in slabs]
    return Moments(mean, sum(squares) / count)


def kept(norms: Norms) -> Norms:
    """The same moments for other images."""
    return Norms(kept=norms.kept)
