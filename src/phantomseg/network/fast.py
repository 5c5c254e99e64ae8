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
        backbone = cropped(channels_last(encoded), coarser((wide_i, wide_j, wide_k), FOLD))
        near = channels_last(image[:, :, wide_i, wide_j, wide_k])
        x = F.leaky_relu(self.head(unfold_beside(pointwise(self.detail, backbone), near).movedim(-1, 1)), SLOPE)
        for refine in self.refine:
            x = x + F.leaky_relu(refine(x), SLOPE)
        x = cropped(channels_last(x), (i, j, k))
        coarse = cropped(backbone, coarser((i, j, k), FOLD))
        return pointwise_doubled(self.classify, x, self.coarse, coarse).movedim(-1, 1)

    def supervised(self, image: torch.Tensor, block: Block) -> list[tuple[torch.Tensor, Block]]:
        """Logits at half resolution everywhere, and at full resolution in the block."""
        encoded = self.encode(image)
        everywhere = pointwise(self.coarse, channels_last(encoded)).movedim(-1, 1)
        return [(everywhere, whole(image)), (self.decode(encoded, image, block), block)]


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(B, C, I, J, K) seen as (B, I, J, K, C)."""
    return x.movedim(1, -1)


def cropped(x: torch.Tensor, block: Block) -> torch.Tensor:
    """A copy of the block of x (B, I, J, K, C).

    By negative padding, whose gradient is written once; that of a slice is written once an axis.
    """
    ends = [(-s.start, s.stop - n) for s, n in zip(block, x.shape[1:4], strict=True)]
    return F.pad(x, (0, 0, *ends[2], *ends[1], *ends[0]))


def pointwise(conv: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """A 1³ convolution of (B, I, J, K, C) as a matrix product."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def pointwise_doubled(fine: nn.Conv3d, x: torch.Tensor, coarse: nn.Conv3d, y: torch.Tensor) -> torch.Tensor:
    """1³ convolutions of x (B, 2i, 2j, 2k, C) and of y (B, i, j, k, D), each of whose voxels is repeated, added."""
    rows: torch.Tensor = _AddDoubled.apply(pointwise(fine, x.flatten(0, 3)), pointwise(coarse, y))
    return rows.view(*x.shape[:4], -1)


class _AddDoubled(torch.autograd.Function):
    """Add (B, i, j, k, C), whose voxels are repeated, to rows (B·2i·2j·2k, C), which it overwrites.

    Rows, not a view of them: where a view is overwritten, torch copies its gradient four times. The gradient is by
    hand, as automatic differentiation sums over repeated voxels ten times as slowly.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        ctx.shape = coarse.shape
        batch, i, j, k, channels = coarse.shape
        # repeated along one axis first, so that what is added is a long run of memory
        lines = coarse.repeat_interleave(2, dim=3).view(batch, i, 1, j, 1, 2 * k * channels)
        rows.view(batch, i, 2, j, 2, 2 * k * channels).add_(lines)
        ctx.mark_dirty(rows)
        return rows

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, i, j, k, channels = ctx.shape
        lines = gradient.reshape(batch, i, 2, j, 2, 2 * k * channels)
        line = (lines[:, :, 0, :, 0] + lines[:, :, 0, :, 1]).add_(lines[:, :, 1, :, 0]).add_(lines[:, :, 1, :, 1])
        pairs = line.view(batch, i, j, k, 2, channels)
        return gradient, pairs[..., 0, :] + pairs[..., 1, :]


def fold(image: torch.Tensor) -> torch.Tensor:
    """Blocks of 2³ voxels as channels: (B, 1, I, J, K) to (B, 8, I/2, J/2, K/2)."""
    batch, _, i, j, k = image.shape
    x = image.view(batch, i // FOLD, FOLD, j // FOLD, FOLD, k // FOLD, FOLD)
    return x.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, FOLD**3, i // FOLD, j // FOLD, k // FOLD)


def unfold_beside(x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Channels as blocks of 2³ voxels, the image as one more: (B, i, j, k, 8·D), (B, 2i, 2j, 2k, 1) to (…, D + 1)."""
    result: torch.Tensor = _UnfoldBeside.apply(x, image)
    return result


class _UnfoldBeside(torch.autograd.Function):
    """Written once, straight to its place; joining the unfolded channels to the image copies them once more."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        depth = x.shape[-1] // FOLD**3
        y = x.new_empty(*image.shape[:4], depth + 1)
        _blocks(y).copy_(x.view(*x.shape[:4], FOLD, FOLD, FOLD, depth).permute(0, 1, 4, 2, 5, 3, 6, 7))
        y[..., depth:] = image
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _blocks(gradient).permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4), None


def _blocks(y: torch.Tensor) -> torch.Tensor:
    """All channels but the last of (B, 2i, 2j, 2k, D + 1) as (B, i, 2, j, 2, k, 2, D)."""
    batch, i, j, k, _ = y.shape
    return y[..., :-1].view(batch, i // FOLD, FOLD, j // FOLD, FOLD, k // FOLD, FOLD, -1)
