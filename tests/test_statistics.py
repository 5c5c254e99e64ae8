"""Statistics by hand, and against statsmodels, SciPy and R."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from phantomseg.errors import ScanError
from phantomseg.evaluation.statistics import (
    bland_altman,
    bonferroni,
    bootstrap_interval,
    cohens_d,
    corrected,
    paired_wilcoxon,
    summarise,
)

NAN, INF = math.nan, math.inf
# hippocampal volumes in ml that were made up
CONTROLS = np.array([3.61, 3.42, 3.95, 3.70, 3.33, 3.81, 3.52, 3.66])
PATIENTS = np.array([2.95, 3.12, 2.71, 3.40, 2.88, 3.05])


def test_summary_by_hand() -> None:
    found = summarise([0.5, 0.7, NAN, 0.9, 0.9])
    assert (found.count, found.undefined) == (4, 1)
    assert found.mean == pytest.approx(0.75) and found.median == pytest.approx(0.8)
    assert found.std == pytest.approx(math.sqrt((0.25**2 + 0.05**2 + 2 * 0.15**2) / 3))
    assert found.worst == 0.5 and found.p5 == pytest.approx(0.5 + 0.15 * 0.2)
    assert found.low < 0.75 < found.high
    distances = summarise([1.0, 2.0, 11.0], higher_is_better=False)
    assert distances.worst == 11 and distances.p5 == pytest.approx(11 - 0.1 * 9)


def test_summary_of_little_and_of_the_infinite() -> None:
    for scores in ([], [NAN, NAN]):
        found = summarise(scores)
        assert (found.count, found.undefined) == (0, len(scores))
        assert all(math.isnan(v) for v in (found.mean, found.std, found.low, found.high, found.p5, found.worst))
    one = summarise([0.25])
    assert (one.mean, one.median, one.p5, one.worst) == (0.25, 0.25, 0.25, 0.25)
    assert math.isnan(one.std) and math.isnan(one.low)
    missed = summarise([1.0, 2.0, INF], higher_is_better=False)
    assert (missed.mean, missed.median, missed.p5, missed.worst) == (INF, 2.0, INF, INF)
    assert math.isnan(missed.std) and math.isnan(missed.high)


def test_bootstrap_interval_of_two_values() -> None:
    # the mean of two draws from 0 and 1 is 0, 1/2 or 1, with odds of 1, 2 and 1
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0, 1)
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)


def test_bootstrap_interval_is_that_of_scipy_nearly() -> None:
    values = np.random.default_rng(3).normal(5, 2, 60)
    low, high = bootstrap_interval(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05)
    assert bootstrap_interval(values) == (low, high) != bootstrap_interval(values, seed=1)


def test_wilcoxon_by_hand() -> None:
    # ranks of the differences 1 to 5, all of one sign: 2 of the 2⁵ signs are as extreme
    assert paired_wilcoxon([1, 2, 3, 4, 5], [2, 4, 6, 8, 10]) == pytest.approx(2 / 32)
    # -1, 2, 3, 4: rank sums of negatives up to 1 are those of {} and {1}, so 4 of 16, both tails together
    assert paired_wilcoxon([0, 2, 3, 4], [1, 0, 0, 0]) == pytest.approx(4 / 16)
    assert paired_wilcoxon([0.3, NAN, 1], [0.3, 2, 1]) == 1
    assert math.isnan(paired_wilcoxon([NAN, 1], [1, NAN])) and math.isnan(paired_wilcoxon([], []))


def test_wilcoxon_of_r() -> None:
    # wilcox.test(x, y, paired = TRUE), the example of R's help page: V = 40, p-value = 0.03906 (two-sided)
    x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    assert paired_wilcoxon(x, y) == pytest.approx(0.0390625)


def test_infinite_scores_rank_as_the_largest_differences() -> None:
    # seven of eight are missed by the second: ranks 2 to 8 one way, rank 1 the other; 4 of 2⁸ are as extreme
    assert paired_wilcoxon([1.0] * 7 + [9.0], [INF] * 7 + [8.5]) == pytest.approx(
        paired_wilcoxon([0.0] * 7 + [9.0], [100.0] * 7 + [8.5])
    )
    assert paired_wilcoxon([1.0, INF], [INF, INF]) == 1  # one pair differs: both signs are as extreme
    assert paired_wilcoxon([INF, INF], [INF, INF]) == 1
    assert paired_wilcoxon([1, 2, 3, 4, 5], [INF] * 5) == pytest.approx(2 / 32)


def test_bonferroni_by_hand() -> None:
    assert bonferroni([0.01, 0.02, 0.5]) == pytest.approx([0.03, 0.06, 1.0])
    found = bonferroni([0.01, NAN])
    assert found[0] == 0.01 and math.isnan(found[1])
    assert bonferroni([]) == []


def test_cohens_d_by_hand() -> None:
    # means 5 and 3; variances 2 and 4 with 1 and 2 degrees of freedom: pooled (2 + 8) / 3
    found = cohens_d(np.array([4.0, 6.0]), np.array([1.0, 3.0, 5.0]))
    assert found.d == pytest.approx(2 / math.sqrt(10 / 3))
    assert cohens_d(np.array([1.0, 3.0, 5.0]), np.array([4.0, 6.0])).d == pytest.approx(-found.d)
    assert cohens_d(np.array([2.0, 2.0]), np.array([1.0, 1.0])).d == INF
    assert math.isnan(cohens_d(np.array([2.0, 2.0]), np.array([2.0, 2.0])).d)
    rounded = 0.1 + np.array([0, 1e-17, -1e-17])
    assert math.isnan(cohens_d(rounded, rounded + 1e-12).d)  # a constant, but for what computing leaves
    with pytest.raises(ScanError, match="groups have 1 and 2 scans, wanted two or more in each"):
        cohens_d(np.array([1.0]), np.array([1.0, 2.0]))


def test_cohens_d_is_that_of_statsmodels() -> None:
    meta = pytest.importorskip("statsmodels.stats.meta_analysis")
    n, m = len(CONTROLS), len(PATIENTS)
    hedges, _ = meta.effectsize_smd(CONTROLS.mean(), CONTROLS.std(ddof=1), n, PATIENTS.mean(), PATIENTS.std(ddof=1), m)
    found = cohens_d(CONTROLS, PATIENTS)
    assert found.d == pytest.approx(hedges / (1 - 3 / (4 * (n + m) - 9)), rel=1e-9)


def test_interval_of_cohens_d_holds_its_share_of_t() -> None:
    found = cohens_d(CONTROLS, PATIENTS)
    n, m = len(CONTROLS), len(PATIENTS)
    scale = math.sqrt(1 / n + 1 / m)
    t = stats.ttest_ind(CONTROLS, PATIENTS).statistic
    assert t * scale == pytest.approx(found.d)
    assert stats.nct.cdf(t, n + m - 2, found.low / scale) == pytest.approx(0.975, abs=1e-6)
    assert stats.nct.cdf(t, n + m - 2, found.high / scale) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("shift", [-60.0, -5.0, 5.0, 60.0])
def test_interval_of_large_effects(shift: float) -> None:
    for n in (2, 3, 10):
        controls, patients = np.arange(n) + shift, np.arange(n) * 1.0
        found = cohens_d(controls, patients)
        t, freedom, scale = stats.ttest_ind(controls, patients).statistic, 2 * n - 2, math.sqrt(2 / n)
        assert found.low < found.d < found.high
        ends = {found.low: 0.975, found.high: 0.025}
        for end, share in ends.items():
            assert stats.nct.cdf(t, freedom, end / scale) == pytest.approx(share, abs=1e-4)


def test_groups_with_what_is_no_number() -> None:
    with pytest.raises(ScanError, match="a volume is not a finite number"):
        cohens_d(np.array([1.0, NAN, 2.0]), np.array([1.0, 2.0]))


def test_intervals_of_cohens_d_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        found = cohens_d(rng.normal(1.0, 1, 15), rng.normal(0.0, 1, 12))
        held.append(found.low <= 1.0 <= found.high)
    assert 0.91 < np.mean(held) < 0.985


def test_correction_by_hand() -> None:
    # controls lie on volume = 2 · age, so at their mean age of 2 all are 4; the patient is 1 below the line
    volumes, ages = np.array([2.0, 4.0, 6.0, 7.0]), np.array([[1.0], [2.0], [3.0], [4.0]])
    found = corrected(volumes, ages, np.array([True, True, True, False]))
    np.testing.assert_allclose(found.volumes, [4, 4, 4, 3])
    assert math.isnan(found.p)  # the model leaves nothing over to judge it by
    # without covariates it is Student's t
    plain = corrected(np.append(CONTROLS, PATIENTS), np.zeros((14, 0)), np.arange(14) < 8)
    assert plain.p == pytest.approx(stats.ttest_ind(CONTROLS, PATIENTS).pvalue)
    np.testing.assert_array_equal(plain.volumes, np.append(CONTROLS, PATIENTS))


def test_correction_is_that_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(7)
    covariates = np.column_stack([rng.uniform(50, 90, 30), rng.integers(0, 2, 30), rng.normal(1.5e6, 1e5, 30)])
    volumes = 8 - 0.03 * covariates[:, 0] + 0.2 * covariates[:, 1] + 1e-6 * covariates[:, 2] + rng.normal(0, 0.3, 30)
    controls = np.arange(30) < 18
    fit = api.OLS(volumes, np.column_stack([controls, np.ones(30), covariates])).fit()
    expected = volumes - (covariates - covariates[controls].mean(0)) @ fit.params[2:]
    found = corrected(volumes, covariates, controls)
    np.testing.assert_allclose(found.volumes, expected, rtol=1e-9)
    assert found.p == pytest.approx(fit.pvalues[0], rel=1e-6)


def test_p_of_groups_is_as_often_small_by_chance_as_it_says() -> None:
    rng = np.random.default_rng(1)
    small = []
    for _ in range(400):
        covariates = rng.standard_normal((12, 3))
        small.append(corrected(rng.standard_normal(12), covariates, np.arange(12) < 6).p < 0.05)
    assert 0.02 < np.mean(small) < 0.09


def test_correction_that_cannot_be_made() -> None:
    with pytest.raises(ScanError, match="4 scans do not tell 3 covariates and two groups apart"):
        corrected(np.arange(4.0), np.random.default_rng(0).random((4, 3)), np.arange(4) < 2)
    with pytest.raises(ScanError, match="leave out a covariate that is constant"):
        corrected(np.arange(6.0), np.ones((6, 1)), np.arange(6) < 3)


def test_bland_altman_by_hand() -> None:
    found = bland_altman(np.array([10.0, 12.0, 14.0]), np.array([9.0, 12.0, 11.0]))  # differences 1, 0, 3
    spread = 1.96 * math.sqrt(((1 / 3) ** 2 + (4 / 3) ** 2 + (5 / 3) ** 2) / 2)
    assert found.bias == pytest.approx(4 / 3)
    assert (found.low, found.high) == pytest.approx((4 / 3 - spread, 4 / 3 + spread))
    assert math.isnan(bland_altman(np.array([1.0]), np.array([2.0])).low)
