"""Filters whose length says nothing, because a norm follows them.

A convolution without bias in front of an instance norm answers the same whatever the length of each of its filters:
only their directions count. Left free, filters grow under a step of constant size, and the angle that a step turns them
by falls, though no schedule says so. Training therefore holds their lengths and states its step as that angle.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from phantomseg.network.fast import Unit

# far above what the norm's epsilon adds to the variance of its input, well within float16
HELD_LENGTH = 8.0


def held_kernels(network: nn.Module) -> list[nn.Parameter]:
    """Kernels (outputs, inputs, 3, 3, 3) that a norm of each channel follows."""
    return [cast(nn.Parameter, module.conv.weight) for module in network.modules() if isinstance(module, Unit)]


@torch.no_grad()
def even_lengths(network: nn.Module) -> None:
    """Bring each filter of the held kernels to HELD_LENGTH, in place; what the network says stays the same.

    >>> from phantomseg.network.model import build_network
    >>> network = build_network("fast", {"classes": 2, "features": [4, 8], "convolutions": [1, 1]})
    >>> even_lengths(network)
    >>> lengths(held_kernels(network)[0]).flatten().round(decimals=4).tolist()
    [8.0, 8.0, 8.0, 8.0]
    """
    for kernel in held_kernels(network):
        kernel.mul_(HELD_LENGTH / lengths(kernel))


def lengths(kernel: torch.Tensor) -> torch.Tensor:
    """Length of each filter, (outputs, 1, 1, 1, 1)."""
    return kernel.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1, 1)
