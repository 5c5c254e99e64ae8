"""Numbers that papers report, to stand beside our own: quoted with their source, not rerun here."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Published:
    """One number of one paper; `doi` is empty where there is only a page, whose address `source` holds."""

    study: str  # which of our studies it belongs beside, as "contrast"
    paper: str
    doi: str
    method: str
    dataset: str
    structure: str  # lower case, as "hippocampus"
    metric: str  # "dice" is a fraction, "dice_difference" one of two; "unclear_distance": the source leaves it open
    value: float
    std: float | None
    n: int | None  # subjects
    source: str  # where it was read, with what is to be said against it
    evidence: str  # "paper": its own text or page; "secondary": quoted elsewhere; "plot": read off a plot


def published(study: str, metric: str | None = None) -> list[Published]:
    """Published numbers that belong beside one of our studies, in the order of the table.

    Args:
        study: accuracy, resolution, contrast, retest, atrophy, group, lowdata, ablation, or heart, of which there is no
            study yet; of any other there are none.
        metric: only numbers of this metric.

    >>> [(row.method, row.value) for row in published("retest", "dice")]
    [('SIAM', 0.954)]
    >>> published("astrology")
    []
    """
    return [row for row in _table() if row.study == study and metric in (None, row.metric)]


@cache
def _table() -> tuple[Published, ...]:
    path = resources.files("phantomseg.evaluation") / "published.csv"
    return tuple(_row(cells) for cells in csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _row(cells: dict[str, str]) -> Published:
    return Published(
        study=cells["study"],
        paper=cells["paper"],
        doi=cells["doi"],
        method=cells["method"],
        dataset=cells["dataset"],
        structure=cells["structure"],
        metric=cells["metric"],
        value=float(cells["value"]),
        std=float(cells["std"]) if cells["std"] else None,
        n=int(cells["n"]) if cells["n"] else None,
        source=cells["source"],
        evidence=cells["evidence"],
    )
