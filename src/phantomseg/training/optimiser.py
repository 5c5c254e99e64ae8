"""Muon on the 3³ kernels, AdamW on the rest; or the plain Adam of the SynthSeg paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan 2024, https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values brought near 1, same shape.

    Newton-Schulz steps, each of which multiplies by a polynomial of x·xᵀ, are worked out on that small square matrix,
    so the long one is read twice instead of ten times.

    >>> torch.linalg.svdvals(orthogonalise(torch.diag(torch.tensor([5.0, 0.5])))).round(decimals=0).tolist()
    [1.0, 1.0]
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    square = x @ x.T
    identity = torch.eye(len(square), dtype=x.dtype, device=x.device)
    product = identity
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = a * identity + b * square + c * square @ square
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum on kernels seen as (outputs, inputs · 27) matrices.

    The step is scaled by 0.2 · √(larger side), so that AdamW's learning rates fit (doi:10.48550/arXiv.2502.16982).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every kernel that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state: dict[str, Any] = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                matrix = update.reshape(update.shape[0], -1)
                step = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))
                parameter.sub_(orthogonalise(matrix).view(update.shape), alpha=step)


def build_optimisers(network: nn.Module, name: str, lr: float) -> list[torch.optim.Optimizer]:
    """Optimisers that share out all parameters: "muon" (with AdamW) or "adam"."""
    parameters = list(network.parameters())
    if name == "adam":
        return [torch.optim.Adam(parameters, lr=lr)]
    kernels = [p for p in parameters if p.ndim == 5 and p.shape[2] > 1]
    rest = [p for p in parameters if not (p.ndim == 5 and p.shape[2] > 1)]
    return [Muon(kernels, lr), torch.optim.AdamW(rest, lr=lr, weight_decay=0.0)]
