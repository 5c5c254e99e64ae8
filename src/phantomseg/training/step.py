"""One step: the loss of a batch, its gradient, new weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomseg.image.distance import signed_distance
from phantomseg.network.losses import dice_cross_entropy, distance_dice
from phantomseg.network.volume import Block, finer
from phantomseg.runtime import autocast
from phantomseg.synth.sample import Batch
from phantomseg.training.config import TrainConfig
from phantomseg.training.state import TrainState


class Supervised(nn.Module):
    """A network seen from its loss, as what several processes share wants it: one call, one set of outputs."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.multiple: int = network.multiple  # type: ignore[assignment]

    def forward(self, image: torch.Tensor, block: Block) -> list[tuple[torch.Tensor, Block]]:
        """Logits of every output that the network supervises, with the block of each."""
        return self.network.supervised(image, block)  # type: ignore[operator]


def compile_encoder(network: nn.Module) -> None:
    """Compile what a network makes of the whole image, once per size of the crop."""
    # torch 2.13 cannot compile it for sizes that vary, which a second run in this process would lead to
    network.encode = torch.compile(network.encode, dynamic=False)  # type: ignore[assignment,arg-type]


def take_step(
    config: TrainConfig, state: TrainState, supervised: nn.Module, batch: Batch, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change the weights once, at a share of the highest rates; returns loss and gradient norm."""
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        optimiser.zero_grad(set_to_none=True)
    loss = batch_loss(supervised, batch, detail_block(config, batch, state.samples), state.distance_voxels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
    for optimiser in state.optimisers:
        optimiser.step()
    state.round_off()
    return loss.detach(), norm


def batch_loss(supervised: nn.Module, batch: Batch, block: Block, distance_voxels: int | None = None) -> torch.Tensor:
    """Sum of the losses of every output that is supervised: of distances up to a reach, or of classes."""
    device = batch.image.device
    image = batch.image.contiguous(memory_format=torch.channels_last_3d)
    inner: Any = getattr(supervised, "module", supervised)
    # oneDNN's bfloat16 gradients of maps 2 voxels deep read memory that was never written
    wide = bool(min(image.shape[2:]) >= 3 * inner.multiple)
    with autocast(device, enabled=wide):
        outputs = supervised(image, block)
    times = batch.target.shape[1] // batch.image.shape[2]
    wanted = batch.target
    if distance_voxels is not None:
        wanted = torch.stack([signed_distance(mask > 0, distance_voxels) for mask in batch.target])
    targets = [wanted[(slice(None), *finer(where, times))] for _, where in outputs]
    compare: Callable[..., torch.Tensor] = (
        partial(dice_cross_entropy, classes=batch.classes)
        if distance_voxels is None
        else partial(distance_dice, reach=distance_voxels)
    )
    losses = [compare(logits, target) for (logits, _), target in zip(outputs, targets, strict=True)]
    return torch.stack(losses).sum()


def detail_block(config: TrainConfig, batch: Batch, index: int) -> Block:
    """The block that is supervised at full resolution in the step whose first sample is `index`."""
    rng = np.random.default_rng([config.seed, index, 1])
    slices = []
    for size in batch.image.shape[2:]:
        width = max(2, 2 * round(size * config.detail_fraction / 2))
        low = 2 * int(rng.integers((size - width) // 2 + 1))
        slices.append(slice(low, low + width))
    return slices[0], slices[1], slices[2]
