"""Our network: a U-Net that works at half resolution, and one thin layer at full resolution.

Half of the cost of the classic U-Net sits in its full-resolution layers. Here:

- 2 × 2 × 2 voxels are folded into 8 channels, and the backbone sees only those;
- levels are joined by addition, after a 1³ convolution on the coarse side, where it is cheap;
- the backbone's logits at half resolution are one output, supervised everywhere;
- the full-resolution head adds detail: it sees the unfolded backbone features and the image again, and can be run
  on any block, so neither training nor use ever holds classes × voxels at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from phantomseg.errors import ModelError
from phantomseg.network.norms import Moments, Norms
from phantomseg.network.volume import Block, coarser, double, whole

SLOPE = 0.01
FOLD = 2
SLAB = 8  # planes worked on at once in use


@dataclass(frozen=True)
class FastConfig:
    """Size of the network.

    `features` holds one number a level, from half resolution down; `detail` is the width at full resolution, and
    `detail_convolutions` the number of 3³ convolutions there, 1 or 2.
    """

    classes: int
    features: tuple[int, ...] = (32, 64, 128, 256)
    convolutions: tuple[int, ...] = (2, 2, 3, 3)
    detail: int = 12
    detail_convolutions: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.detail_convolutions <= FOLD:
            raise ModelError(f"detail_convolutions is {self.detail_convolutions}, wanted 1 or {FOLD}")


class Unit(nn.Module):
    """Convolution 3³, norm of each channel over the volume or a block, leaky ReLU; adds its input where it can."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(outputs, outputs)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor, norms: Norms | None = None, shrunk: int = 1) -> torch.Tensor:
        """(B, inputs, i, j, k) to (B, outputs, i/stride, j/stride, k/stride), `shrunk` times coarser than the image."""
        y = self.conv(x)
        if norms is not None and not torch.is_grad_enabled():
            return self._in_place(y, x, norms.of(y, shrunk))
        y = F.leaky_relu(self.norm(y) if norms is None else norms.of(y, shrunk)(y, self.norm), SLOPE)
        return x + y if self.residual else y

    def _in_place(self, y: torch.Tensor, x: torch.Tensor, apply: Moments) -> torch.Tensor:
        """The same in slabs of `y`, which is overwritten: a whole head in half of the memory."""
        for low in range(0, y.shape[2], SLAB):
            part = slice(low, low + SLAB)
            slab = F.leaky_relu_(apply(y[:, :, part], self.norm), SLOPE)
            y[:, :, part] = slab.add_(x[:, :, part]) if self.residual else slab
        return y


class FastNet(nn.Module):
    """See the module's text. Every axis of the image must be a multiple of `multiple`."""

    class_outputs = ("coarse", "classify")  # one row a class; logits are the sum of both
    bytes_a_voxel = 45  # of the image, that encoding it takes in use, in bfloat16

    def __init__(self, config: FastConfig):
        super().__init__()
        self.config = config
        widths = config.features
        self.down = nn.ModuleList()
        before, stride = FOLD**3, 1
        for width, count in zip(widths, config.convolutions, strict=True):
            units = [Unit(before, width, stride)] + [Unit(width, width) for _ in range(count - 1)]
            self.down.append(nn.ModuleList(units))
            before, stride = width, 2
        self.narrow = nn.ModuleList(nn.Conv3d(c, f, 1) for f, c in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(Unit(width, width) for width in widths[:-1])
        self.coarse = nn.Conv3d(widths[0], config.classes, 1)
        self.detail = nn.Conv3d(widths[0], FOLD**3 * config.detail, 1)
        self.head = nn.Conv3d(config.detail + 1, config.detail * 2, 3, padding=1)
        wide = config.detail * 2
        self.refine = nn.ModuleList(nn.Conv3d(wide, wide, 3, padding=1) for _ in range(config.detail_convolutions - 1))
        self.classify = nn.Conv3d(wide, config.classes, 1)

    @property
    def multiple(self) -> int:
        """What every axis of the image must be a multiple of."""
        return FOLD * 2 ** (len(self.config.features) - 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, I, J, K) of the image (B, 1, I, J, K)."""
        return self.decode(self.encode(image), image, whole(image))

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        """The backbone's features (B, features, I/2, J/2, K/2) of the image (B, 1, I, J, K).

        Channels are normalised over each whole image, unless `norms` says otherwise for a single one.
        """
        x = fold(image)
        skips = []
        for level, units in enumerate(self.down):
            for unit in units:  # type: ignore[attr-defined]
                x = unit(x, norms, FOLD * 2**level)
            skips.append(x)
        skips.pop()
        for level in reversed(range(len(self.up))):
            x = double(self.narrow[level](x))
            x = x.add_(skips.pop()) if norms is not None and not torch.is_grad_enabled() else x + skips.pop()
            x = self.up[level](x, norms, FOLD * 2**level)
        return x

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        """Logits (B, C, …) of a block of voxels, each end even.

        The block is decoded with a rim of two voxels, one a convolution, so that it does not matter where blocks end.
        """
        rim = [(max(s.start - FOLD, 0), min(s.stop + FOLD, n)) for s, n in zip(block, image.shape[2:], strict=True)]
        wide_i, wide_j, wide_k = (slice(low, high) for low, high in rim)
        i, j, k = (slice(s.start - low, s.stop - low) for s, (low, _) in zip(block, rim, strict=True))
        # slices of volumes whose channels are the last axis: gradients of other slices lose that order in memory
        backbone = channels_last(encoded)[
            (slice(None), *(slice(low // FOLD, high // FOLD) for low, high in rim))
        ].contiguous()
        features = channels_last(unfold(pointwise(self.detail, backbone).movedim(-1, 1)))
        near = channels_last(image[:, :, wide_i, wide_j, wide_k]).to(features.dtype)
        x = F.leaky_relu(self.head(torch.cat([features, near], dim=-1).movedim(-1, 1)), SLOPE)
        for refine in self.refine:
            x = x + F.leaky_relu(refine(x), SLOPE)
        x = channels_last(x)[:, i, j, k].contiguous()
        coarse = backbone[(slice(None), *coarser((i, j, k), FOLD))].contiguous()
        return add_doubled(pointwise(self.classify, x), pointwise(self.coarse, coarse)).movedim(-1, 1)

    def supervised(self, image: torch.Tensor, block: Block) -> list[tuple[torch.Tensor, Block]]:
        """Logits at half resolution everywhere, and at full resolution in the block."""
        encoded = self.encode(image)
        everywhere = pointwise(self.coarse, channels_last(encoded)).movedim(-1, 1)
        return [(everywhere, whole(image)), (self.decode(encoded, image, block), block)]


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(B, C, I, J, K) seen as (B, I, J, K, C)."""
    return x.movedim(1, -1)


def pointwise(conv: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """A 1³ convolution of (B, I, J, K, C) as a matrix product."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def add_doubled(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """`fine`, (B, 2i, 2j, 2k, C), plus `coarse`, (B, i, j, k, C), whose voxels are repeated; overwrites `fine`."""
    result: torch.Tensor = _AddDoubled.apply(fine, coarse)
    return result


class _AddDoubled(torch.autograd.Function):
    """Its gradient by hand: automatic differentiation sums over repeated voxels ten times as slowly."""

    @staticmethod
    def forward(ctx: Any, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        batch, i, j, k, channels = coarse.shape
        # repeated along one axis first, so that what is added is a long run of memory
        rows = coarse.repeat_interleave(2, dim=3).view(batch, i, 1, j, 1, 2 * k * channels)
        fine.view(batch, i, 2, j, 2, 2 * k * channels).add_(rows)
        ctx.mark_dirty(fine)
        return fine

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, i, j, k, channels = gradient.shape
        lines = gradient.reshape(batch, i // 2, 2, j // 2, 2, k * channels)
        line = (lines[:, :, 0, :, 0] + lines[:, :, 0, :, 1]).add_(lines[:, :, 1, :, 0]).add_(lines[:, :, 1, :, 1])
        pairs = line.view(batch, i // 2, j // 2, k // 2, 2, channels)
        return gradient, pairs[..., 0, :] + pairs[..., 1, :]


def fold(image: torch.Tensor) -> torch.Tensor:
    """Blocks of 2³ voxels as channels: (B, 1, I, J, K) to (B, 8, I/2, J/2, K/2)."""
    batch, _, i, j, k = image.shape
    x = image.view(batch, i // FOLD, FOLD, j // FOLD, FOLD, k // FOLD, FOLD)
    return x.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, FOLD**3, i // FOLD, j // FOLD, k // FOLD)


def unfold(x: torch.Tensor) -> torch.Tensor:
    """Channels as blocks of 2³ voxels: (B, 8·D, i, j, k) to (B, D, 2i, 2j, 2k)."""
    batch, channels, i, j, k = x.shape
    depth = channels // FOLD**3
    # channels stay last in memory, as the convolutions want them
    x = channels_last(x).reshape(batch, i, j, k, FOLD, FOLD, FOLD, depth).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(batch, FOLD * i, FOLD * j, FOLD * k, depth).movedim(-1, 1)
