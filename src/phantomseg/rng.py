"""Randomness as an argument: seeded generators and named distributions.

A sample depends on `(seed, index)` alone, never on how many workers draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from phantomseg.errors import RecipeError


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of one sample.

    >>> a, b = sample_rng(1, 2), sample_rng(1, 2)
    >>> float(a.uniform()) == float(b.uniform())
    True
    """
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def draw_seed(rng: np.random.Generator) -> int:
    """A seed to be recorded, for noise that is drawn voxel by voxel later."""
    return int(rng.integers(2**31 - 1))


@dataclass(frozen=True)
class Constant:
    """Always `value`."""

    value: float

    def draw(self, rng: np.random.Generator, size: int) -> tuple[float, ...]:
        """`size` values."""
        return (self.value,) * size


@dataclass(frozen=True)
class Uniform:
    """Uniform between `low` and `high`.

    >>> Uniform(2, 2).draw(sample_rng(0, 0), 2)
    (2.0, 2.0)
    """

    low: float
    high: float

    def draw(self, rng: np.random.Generator, size: int) -> tuple[float, ...]:
        """`size` values."""
        return tuple(rng.uniform(self.low, self.high, size).tolist())


@dataclass(frozen=True)
class LogUniform:
    """Uniform in the logarithm between `low` and `high`, both above 0."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, size: int) -> tuple[float, ...]:
        """`size` values."""
        return tuple(np.exp(rng.uniform(math.log(self.low), math.log(self.high), size)).tolist())


@dataclass(frozen=True)
class Normal:
    """Normal with `mean` and `std`."""

    mean: float
    std: float

    def draw(self, rng: np.random.Generator, size: int) -> tuple[float, ...]:
        """`size` values."""
        return tuple(rng.normal(self.mean, self.std, size).tolist())


Distribution = Constant | Uniform | LogUniform | Normal

_KINDS: dict[str, type] = {"uniform": Uniform, "loguniform": LogUniform, "normal": Normal}


def parse_distribution(value: object, where: str) -> Distribution:
    """Read a distribution as recipes write it: a number, or `{ kind = [a, b] }`.

    Raises:
        RecipeError: the value is neither.

    >>> parse_distribution({"uniform": [0, 4]}, "deform.warp_std_mm")
    Uniform(low=0.0, high=4.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Constant(float(value))
    if isinstance(value, dict) and len(value) == 1:
        kind, arguments = next(iter(value.items()))
        is_pair = isinstance(arguments, list) and len(arguments) == 2
        if kind in _KINDS and is_pair and all(isinstance(a, int | float) for a in arguments):
            _check_bounds(kind, arguments[0], arguments[1], where)
            result: Distribution = _KINDS[kind](*map(float, arguments))
            return result
    raise RecipeError(
        f"{where} is {value!r}, wanted a number or one of "
        f"{', '.join(f'{{ {k} = [a, b] }}' for k in _KINDS)}; write for instance {{ uniform = [0, 1] }}"
    )


def check_positive(distribution: Distribution, where: str) -> None:
    """Refuse a distribution that may draw 0 or less.

    Raises:
        RecipeError: it may.
    """
    least = getattr(distribution, "low", getattr(distribution, "value", -math.inf))
    if least <= 0:
        raise RecipeError(f"{where} goes down to {least}, wanted values above 0; choose other bounds")


def _check_bounds(kind: str, a: float, b: float, where: str) -> None:
    wrong = {
        "uniform": (a > b, "low, high with low at most high"),
        "loguniform": (not 0 < a <= b, "low, high with low above 0 and at most high"),
        "normal": (b < 0, "mean, std with std at least 0"),
    }
    is_wrong, wanted = wrong[kind]
    if is_wrong or not math.isfinite(a + b):
        raise RecipeError(f"{where} is {{ {kind} = [{a}, {b}] }}, wanted finite {wanted}; correct the two numbers")
