"""How large brains are: a table of species, and the voxels at which a network knows a brain of that size."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from phantomseg.errors import ScanError

AUTO = "auto"
HUMAN = "human"


@cache
def _table() -> dict[str, dict[str, str]]:
    path = resources.files("phantomseg.labels") / "species.csv"
    return {row["species"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}


def species_ml() -> dict[str, float]:
    """Usual volume of the brain of each species, in ml.

    >>> species_ml()["human"] / species_ml()["mouse"] > 1000
    True
    """
    return {name: float(row["brain_ml"]) for name, row in _table().items()}


def species_range_ml(name: str) -> tuple[float, float]:
    """Smallest and largest usual volume of the brain of a species, in ml.

    >>> species_range_ml("human")
    (800.0, 1900.0)
    """
    return float(_table()[name]["low_ml"]), float(_table()[name]["high_ml"])


def check_species(name: str) -> None:
    """Refuse a species that is not in the table.

    Raises:
        ScanError: it is neither there nor `auto`.
    """
    if name != AUTO and name not in species_ml():
        raise ScanError(f"species is {name!r}, wanted {AUTO}, {', '.join(species_ml())}; choose the nearest in size")


def spacing_for(brain_ml: float, human_mm: float) -> float:
    """Spacing in mm at which a brain spans as many voxels as that of a human does at `human_mm`.

    >>> spacing_for(species_ml()["human"] / 8, 2.0)
    1.0
    """
    return float(human_mm * (brain_ml / species_ml()[HUMAN]) ** (1 / 3))
