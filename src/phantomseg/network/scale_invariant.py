"""Scale-invariant weights: convolutions without bias that an instance norm follows.

The norm cancels the length of each filter, so only its direction affects the output. Under updates of constant size
these filters grow and the relative step shrinks, without any schedule asking for it. Training therefore keeps their
norms fixed and states the learning rate as a relative step.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from phantomseg.network.fast import Unit

# large enough that the norm's epsilon does not matter, small enough for float16
FILTER_NORM = 8.0


def scale_invariant_kernels(network: nn.Module) -> list[nn.Parameter]:
    """Kernels (outputs, inputs, 3, 3, 3) followed by an instance norm."""
    return [cast(nn.Parameter, module.conv.weight) for module in network.modules() if isinstance(module, Unit)]


@torch.no_grad()
def equalise_filter_norms(network: nn.Module) -> None:
    """Scale each filter of these kernels to the norm FILTER_NORM, in place; the network's output does not change.

    >>> from phantomseg.network.model import build_network
    >>> network = build_network("fast", {"classes": 2, "features": [4, 8], "convolutions": [1, 1]})
    >>> equalise_filter_norms(network)
    >>> filter_norms(scale_invariant_kernels(network)[0]).flatten().round(decimals=4).tolist()
    [8.0, 8.0, 8.0, 8.0]
    """
    for kernel in scale_invariant_kernels(network):
        kernel.mul_(FILTER_NORM / filter_norms(kernel))


def filter_norms(kernel: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of each filter, (outputs, 1, 1, 1, 1)."""
    return kernel.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1, 1)
