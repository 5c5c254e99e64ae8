"""Muon on the 3³ kernels, AdamW on the rest; or the plain Adam of the SynthSeg paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from phantomseg.network.scale_invariant import scale_invariant_kernels

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan 2024, https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ_STEPS = 5
MOMENTUM_FORMAT = torch.bfloat16
TINY = 1e-12


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, approximately: singular values brought near 1, same shape.

    The Newton-Schulz iterations run on the small matrix x·xᵀ, so the long one is read twice instead of ten times.

    >>> torch.linalg.svdvals(orthogonalise(torch.diag(torch.tensor([5.0, 0.5])))).round(decimals=0).tolist()
    [1.0, 1.0]
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    square = x @ x.T
    identity = torch.eye(len(square), device=x.device)
    product = identity
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = a * identity + b * square + c * square @ square
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, stored in bfloat16, on kernels seen as (outputs, inputs · 27) matrices.

    In `fixed_norm` groups `lr` is the relative step: each filter rotates by an angle with tangent `lr` and keeps its
    norm. In other groups the step is scaled by 0.2 · √(larger side), so that AdamW's learning rates fit
    (doi:10.48550/arXiv.2502.16982).
    """

    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "fixed_norm": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every kernel that has a gradient."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                direction = self._direction(kernel, group["momentum"])
                if group["fixed_norm"]:
                    rotate_filters(kernel, direction, group["lr"])
                else:
                    step = group["lr"] * 0.2 * math.sqrt(max(filters_of(kernel).shape))
                    kernel.sub_(direction, alpha=step)

    def _direction(self, kernel: nn.Parameter, share: float) -> torch.Tensor:
        state, gradient = self.state[kernel], kernel.grad
        assert gradient is not None
        before = state["momentum"].float() if state else torch.zeros_like(gradient)
        momentum = before.lerp_(gradient, 1 - share)
        state["momentum"] = momentum.to(MOMENTUM_FORMAT)
        update = gradient.lerp(momentum, share)
        return kernel_of(orthogonalise(filters_of(update)), kernel)


def filters_of(kernel: torch.Tensor) -> torch.Tensor:
    """A kernel (outputs, inputs, 3, 3, 3) as rows, one a filter; a view where inputs come last in memory.

    The order of the columns does not affect singular values, norms or angles.
    """
    return kernel.movedim(1, -1).flatten(1)


def kernel_of(filters: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Rows of `filters_of` as a kernel, of the shape of `like`."""
    return filters.view(like.movedim(1, -1).shape).movedim(-1, 1)


def rotate_filters(kernel: torch.Tensor, direction: torch.Tensor, step: float) -> None:
    """Rotate each filter of a kernel away from `direction`, in place, by an angle with tangent `step`.

    >>> kernel = torch.tensor([[3.0, 0.0]]).view(1, 2, 1, 1, 1)
    >>> rotate_filters(kernel, torch.tensor([[7.0, -2.0]]).view(1, 2, 1, 1, 1), 0.75)
    >>> [round(value, 4) for value in kernel.flatten().tolist()]
    [2.4, 1.8]
    """
    if not step:
        return
    filters, towards = filters_of(kernel), filters_of(direction)
    norm = filters.norm(dim=1, keepdim=True)
    along = (filters * towards).sum(1, keepdim=True) / norm.square().clamp_min(TINY)
    across = torch.addcmul(towards, filters, along, value=-1)  # only what is orthogonal to the filter rotates it
    rotated = filters.addcmul(across, step * norm / across.norm(dim=1, keepdim=True).clamp_min(TINY), value=-1)
    rotated.mul_(norm / rotated.norm(dim=1, keepdim=True).clamp_min(TINY))
    kernel.copy_(kernel_of(rotated, kernel))


def build_optimisers(network: nn.Module, name: str, lr: float, relative_step: float) -> list[torch.optim.Optimizer]:
    """Optimisers for all parameters: "muon" (with AdamW for the rest) or "adam".

    Each group stores its peak learning rate as `peak`; scale-invariant kernels get `relative_step`.
    """
    parameters = list(network.parameters())
    if name == "adam":
        built: list[torch.optim.Optimizer] = [torch.optim.Adam(parameters, lr=lr)]
    else:
        held = scale_invariant_kernels(network)
        known = {id(p) for p in held}
        free = [p for p in parameters if p.ndim == 5 and p.shape[2] > 1 and id(p) not in known]
        rest = [p for p in parameters if not (p.ndim == 5 and p.shape[2] > 1)]
        groups: list[dict[str, Any]] = [{"params": held, "fixed_norm": True, "lr": relative_step}, {"params": free}]
        muon = Muon([group for group in groups if group["params"]], lr)
        built = [muon, torch.optim.AdamW(rest, lr=lr, weight_decay=0.0)]
    for group in (group for optimiser in built for group in optimiser.param_groups):
        group["peak"] = group["lr"]
    return built
