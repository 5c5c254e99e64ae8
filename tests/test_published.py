from __future__ import annotations

import math

import pytest

from phantomseg.evaluation.published import Published, _table, published

STUDIES = ["accuracy", "resolution", "contrast", "retest", "atrophy", "group", "lowdata", "ablation", "heart"]
METRICS = {
    "dice",
    "dice_difference",
    "dice_loss",
    "hd95_mm",
    "sd95_mm",
    "unclear_distance",
    "relative_error_percent",
    "cohens_d",
}
ROWS = [row for study in STUDIES for row in published(study)]


def test_no_row_is_lost_to_an_unknown_study() -> None:
    assert len(ROWS) == len(_table()) > 0


@pytest.mark.parametrize(
    "study", ["accuracy", "resolution", "contrast", "retest", "atrophy", "group", "lowdata", "ablation"]
)
def test_every_study_has_something_beside_it(study: str) -> None:
    assert published(study)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method}-{row.dataset}-{row.metric}")
def test_every_row_says_where_it_comes_from(row: Published) -> None:
    assert row.source
    assert row.doi.startswith("10.") or "https://" in row.source
    assert row.evidence in {"paper", "secondary", "plot"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method}-{row.dataset}-{row.metric}")
def test_every_row_is_in_range(row: Published) -> None:
    assert all([row.paper, row.method, row.dataset, row.structure])
    assert row.structure == row.structure.lower()
    assert row.metric in METRICS
    assert math.isfinite(row.value) and (row.value >= 0 or row.metric == "dice_difference")
    assert row.value <= 1 or not row.metric.startswith("dice")
    assert row.std is None or row.std > 0
    assert row.n is None or row.n > 0


def test_nothing_is_there_twice() -> None:
    keys = [(row.study, row.paper, row.method, row.dataset, row.structure, row.metric) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_one_row_as_its_page_has_it() -> None:
    rows = [row for row in published("lowdata", "dice") if row.dataset == "ADNI" and row.method == "SynthSeg"]
    assert [(row.value, row.std, row.n, row.evidence) for row in rows] == [(0.6913, None, None, "paper")]


def test_synthseg_reports_what_its_tables_say() -> None:
    found = {row.dataset: row.value for row in published("contrast", "dice") if row.method == "SynthSeg"}
    assert found["FSM-T2"] == 0.86 and found["CT"] == 0.76
    (fallen,) = [row.value for row in published("resolution", "dice_difference") if row.method == "SynthSeg"]
    assert fallen == -0.038


def test_the_column_called_nsd_is_not_taken_for_a_surface_dice() -> None:
    rows = published("lowdata", "unclear_distance")
    assert len(rows) == 6
    assert all("not a normalised surface Dice" in row.source for row in rows)
    assert [row.value for row in rows if "doubtful" in row.source] == [29.15]


def test_unknown_study_or_metric_has_none() -> None:
    assert published("astrology") == []
    assert published("lowdata", "phlogiston") == []
