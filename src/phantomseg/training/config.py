"""Config of a training run, recorded in its checkpoints and models."""

from __future__ import annotations

from dataclasses import dataclass

from phantomseg.errors import TrainingError


@dataclass(frozen=True)
class TrainConfig:
    """Budget, optimiser, learning rates and intervals."""

    network: str = "fast"
    features: tuple[int, ...] | None = None  # of each level; None is the network's own
    steps: int | None = None  # budget: steps, or minutes, or neither and endless
    minutes: float | None = None
    endless: bool = False
    batch: int = 1
    seed: int = 0
    optimiser: str = "muon"
    learning_rate: float = 4e-3  # of all other weights
    relative_step: float = 0.01  # of scale-invariant kernels: change over norm
    warm_up_steps: int = 50
    constant_fraction: float = 0.3  # of the budget, before the linear decay to zero
    ema_decay: float = 0.995
    clip_norm: float = 5.0
    detail_fraction: float = 0.57  # of each axis, for the block supervised at full resolution
    validate_every: int = 500

    def __post_init__(self) -> None:
        if (self.steps is not None) + (self.minutes is not None) + self.endless != 1:
            raise TrainingError(
                "the budget is given twice or not at all; give either --steps or --minutes, or --endless"
            )
        if self.optimiser not in ("muon", "adam"):
            raise TrainingError(f"optimiser is {self.optimiser!r}, wanted muon or adam")
        if self.features is not None and self.network != "fast":
            raise TrainingError(f"features are given for network {self.network!r}, wanted fast; leave one of them out")

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the budget that a stage has spent, at most 1; 0 for endless runs.

        >>> TrainConfig(steps=10).progress(5, 0.0)
        0.5
        """
        if self.endless:
            return 0.0
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step.

        >>> TrainConfig(steps=100, learning_rate=1.0, warm_up_steps=10).rate(4, 0.04)
        0.5
        """
        return self.learning_rate * self.share(step, progress)

    def share(self, step: int, progress: float) -> float:
        """Factor of the peak rates at a step: linear warm-up, constant, linear decay to zero."""
        warm = min(1.0, (step + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        decay = min(1.0, (1 - progress) / (1 - self.constant_fraction)) if self.constant_fraction < 1 else 1.0
        return warm * decay
