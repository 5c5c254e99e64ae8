"""The U-Net of the SynthSeg paper (Billot 2023, doi:10.1016/j.media.2023.102789), as its code has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from phantomseg.network.norms import Norms
from phantomseg.network.volume import Block, double, whole


@dataclass(frozen=True)
class UNetConfig:
    """Five levels, 24 features at the first, twice as many at each next."""

    classes: int
    levels: int = 5
    features: int = 24


class Pair(nn.Module):
    """Two convolutions 3³, each with ELU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, i, j, k) to (B, outputs, i, j, k)."""
        return F.elu(self.second(F.elu(self.first(x))))


class UNet(nn.Module):
    """Skips leave before the batch norm; upsampling repeats voxels; no transposed convolution."""

    class_outputs = ("likelihood",)
    bytes_a_voxel = 500  # of the image, that encoding it takes in use, in bfloat16

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.features * 2**level for level in range(config.levels)]
        self.down = nn.ModuleList(Pair(a, b) for a, b in zip([1, *widths], widths, strict=False))
        self.down_norm = nn.ModuleList(nn.BatchNorm3d(width, eps=1e-3, momentum=0.01) for width in widths)
        self.up = nn.ModuleList(Pair(a + b, a) for a, b in zip(widths, widths[1:], strict=False))
        self.up_norm = nn.ModuleList(nn.BatchNorm3d(width, eps=1e-3, momentum=0.01) for width in widths[:-1])
        self.likelihood = nn.Conv3d(widths[0], config.classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    @property
    def multiple(self) -> int:
        """What every axis of the image must be a multiple of."""
        return int(2 ** (self.config.levels - 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, I, J, K) of the image (B, 1, I, J, K)."""
        x, skips = image, []
        for level, (pair, norm) in enumerate(zip(self.down, self.down_norm, strict=True)):
            x = pair(x if level == 0 else F.max_pool3d(x, 2))
            skips.append(x)
            x = norm(x)
        for pair, norm, skip in zip(reversed(self.up), reversed(self.up_norm), reversed(skips[:-1]), strict=True):
            x = norm(pair(torch.cat([skip, double(x)], dim=1)))
        logits: torch.Tensor = self.likelihood(x)
        return logits

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        """Logits of the whole image, whatever `norms` says: its own are fixed, and a block is no cheaper to it."""
        logits: torch.Tensor = self(image)
        return logits

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        """The block of the logits."""
        return encoded[(..., *block)]

    def supervised(self, image: torch.Tensor, block: Block) -> list[tuple[torch.Tensor, Block]]:
        """All logits, whatever the block."""
        return [(self.encode(image), whole(image))]
