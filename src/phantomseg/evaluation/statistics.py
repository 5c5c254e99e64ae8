"""What many scores say together: spread, intervals, paired tests, effect sizes.

Summaries and paired tests leave out scores that are not defined; groups and measurements must have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from phantomseg.errors import ScanError

RESAMPLES = 2000
ROUNDING = 1e-9  # relative; what varies by less does not vary


@dataclass(frozen=True)
class Summary:
    """Numbers of a row of scores; all NaN where no score is defined."""

    count: int  # defined ones
    undefined: int
    mean: float
    std: float  # of a sample, NaN for one
    low: float  # bootstrap interval of the mean, 95 %
    high: float
    median: float
    p5: float  # as bad as the worst twentieth: 5th percentile, 95th where less is better
    worst: float


def summarise(scores: Sequence[float], higher_is_better: bool = True, seed: int = 0) -> Summary:
    """Summary of scores.

    >>> found = summarise([0.8, 0.9, float("nan"), 0.7])
    >>> found.count, found.undefined, round(found.mean, 3), found.worst
    (3, 1, 0.8, 0.7)
    """
    every = np.asarray(scores, dtype=float)
    values = every[~np.isnan(every)]
    missing = int(every.size - values.size)
    if not values.size:
        return Summary(0, missing, *[math.nan] * 7)
    low, high = bootstrap_interval(values, seed=seed)
    return Summary(
        count=int(values.size),
        undefined=missing,
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if values.size > 1 and np.isfinite(values).all() else math.nan,
        low=low,
        high=high,
        median=float(np.median(values)),
        p5=_quantile(values, 0.05 if higher_is_better else 0.95),
        worst=float(values.min() if higher_is_better else values.max()),
    )


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over resamples of the values (doi:10.1214/aos/1176344552).

    The same seed gives the same interval. One value, or an infinite one, has none: NaN.

    >>> bootstrap_interval(np.array([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    """
    values = np.asarray(values, dtype=float)
    if values.size < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    chosen = np.random.default_rng(seed).integers(values.size, size=(resamples, values.size))
    low, high = np.quantile(values[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_wilcoxon(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over pairs in which both are defined (doi:10.2307/3001968).

    Infinite scores, as distances to what was missed, rank as the largest differences. 1 where no pair
    differs, NaN where there is none.

    >>> paired_wilcoxon([1, 2, 3, 4, 5], [1.5, 2.6, 3.7, 4.8, 5.9])
    0.0625
    """
    one, other = (np.asarray(values, dtype=float) for values in (first, second))
    both = ~(np.isnan(one) | np.isnan(other))
    if not both.any():
        return math.nan
    differences = _differences(one[both], other[both])
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One minus other; an infinite one is larger than every finite one, two infinite ones do not differ."""
    alike = np.isinf(one) & (one == other)
    with np.errstate(invalid="ignore"):
        differences = np.where(alike, 0.0, one - other)
    finite = np.abs(differences[np.isfinite(differences)])
    return np.clip(differences, *(np.array([-1, 1]) * (1 + 2 * finite.max(initial=0))))


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """P values times the number of tests made, at most 1; NaN are no tests.

    >>> bonferroni([0.01, 0.4, float("nan"), 0.5])
    [0.03, 1.0, nan, 1.0]
    """
    tests = sum(not math.isnan(p) for p in p_values)
    return [p if math.isnan(p) else min(1.0, p * tests) for p in p_values]


@dataclass(frozen=True)
class EffectSize:
    """Cohen's d, and the interval of 95 % in which it lies."""

    d: float
    low: float
    high: float


def cohens_d(controls: np.ndarray, patients: np.ndarray, level: float = 0.95) -> EffectSize:
    """(Mean of controls - mean of patients) / pooled standard deviation, with an interval by the noncentral t.

    Eq. 28 of doi:10.1016/j.media.2023.102789; interval as in doi:10.1177/0013164401614002.

    Raises:
        ScanError: fewer than two in a group, or a value that is not finite.

    >>> cohens_d(np.array([4.0, 6.0]), np.array([2.0, 4.0])).d.__round__(4)
    1.4142
    """
    n, m = len(controls), len(patients)
    if not (np.isfinite(controls).all() and np.isfinite(patients).all()):
        raise ScanError("a volume is not a finite number, wanted one of each person; leave out those without")
    if min(n, m) < 2:
        raise ScanError(f"groups have {n} and {m} scans, wanted two or more in each; name more in the participants")
    freedom = n + m - 2
    pooled = math.sqrt(((n - 1) * np.var(controls, ddof=1) + (m - 1) * np.var(patients, ddof=1)) / freedom)
    difference = float(np.mean(controls) - np.mean(patients))
    rounding = ROUNDING * max(np.abs(controls).max(), np.abs(patients).max())
    if pooled <= rounding:
        d = math.copysign(math.inf, difference) if abs(difference) > rounding else math.nan
        return EffectSize(d, math.nan, math.nan)
    scale = math.sqrt(1 / n + 1 / m)
    t = difference / pooled / scale
    low, high = (effect * scale for effect in _noncentralities(t, freedom, level))
    return EffectSize(difference / pooled, low, high)


@dataclass(frozen=True, eq=False)
class Corrected:
    """Volumes as they would be at the controls' mean covariates, and p that the groups do not differ."""

    volumes: np.ndarray
    p: float


def corrected(volumes: np.ndarray, covariates: np.ndarray, is_control: np.ndarray) -> Corrected:
    """Volumes corrected by a linear model of group and covariates (analysis of covariance).

    The slopes are those within the groups, so that a difference between them is not taken for one of age or head
    size; p is that of the group's term, which pays for each covariate with a degree of freedom.

    Args:
        volumes: (N,).
        covariates: age, sex, intracranial volume, ...; (N, K).
        is_control: boolean, (N,).

    Raises:
        ScanError: too few scans, or covariates of which one follows from the others.

    >>> corrected(np.array([1.0, 2.0, 3.0, 5.0]), np.array([[1.0], [2.0], [3.0], [4.0]]), np.arange(4) < 3).volumes
    array([2., 2., 2., 3.])
    """
    centred = covariates - covariates[is_control].mean(0)
    design = np.column_stack([is_control, np.ones(len(volumes)), centred]).astype(float)
    freedom = len(volumes) - design.shape[1]
    scaled = design / np.maximum(np.abs(design).max(0), 1e-300)  # or the ranks of large and small covariates differ
    if freedom < 0 or np.linalg.matrix_rank(scaled) < design.shape[1]:
        raise ScanError(
            f"{len(volumes)} scans do not tell {covariates.shape[1]} covariates and two groups apart; "
            "leave out a covariate that is constant or follows from the others, or add scans"
        )
    weights = np.linalg.lstsq(scaled, volumes, rcond=None)[0]
    left = volumes - scaled @ weights
    slopes = (weights / np.maximum(np.abs(design).max(0), 1e-300))[2:]
    variance = float(left @ left) / freedom if freedom else 0.0
    error = math.sqrt(variance * float(np.linalg.inv(scaled.T @ scaled)[0, 0]))
    unsure = not freedom or error <= ROUNDING * float(np.abs(volumes).max())
    p = math.nan if unsure else float(2 * stats.t.sf(abs(weights[0]) / error, freedom))
    return Corrected(volumes - centred @ slopes, p)


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman's: mean difference, and the limits within which 95 % of differences lie."""

    bias: float
    low: float
    high: float


def bland_altman(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Agreement of two measurements of the same (doi:10.1016/S0140-6736(86)90837-8).

    >>> bland_altman(np.array([1.0, 2.0, 4.0]), np.array([0.0, 2.0, 3.0])).bias.__round__(4)
    0.6667
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    bias = float(differences.mean())
    spread = 1.96 * float(differences.std(ddof=1)) if differences.size > 1 else math.nan
    return Agreement(bias, bias - spread, bias + spread)


def _quantile(values: np.ndarray, share: float) -> float:
    if np.isfinite(values).all():
        return float(np.quantile(values, share))
    return float(np.quantile(values, share, method="lower" if share < 0.5 else "higher"))


def _noncentralities(t: float, freedom: int, level: float) -> tuple[float, float]:
    """Noncentralities between which `level` of all t distributions that could have given this t lie."""
    if t < 0:
        low, high = _noncentralities(-t, freedom, level)
        return -high, -low
    spread = math.sqrt(1 + t**2 / (2 * freedom))  # of a normal distribution much like it

    def effect(share: float) -> float:
        ends = max(t - 5 * spread, -6.0), t + 5 * spread
        try:
            return float(optimize.brentq(lambda c: stats.nct.cdf(t, freedom, c) - share, *ends))
        except ValueError:  # older versions of SciPy cannot follow the function this far
            return t - float(stats.norm.ppf(share)) * spread

    return effect((1 + level) / 2), effect((1 - level) / 2)
