"""How large brains are: a table of species, and the voxels at which a network knows a brain of that size."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from phantomseg.errors import ScanError

AUTO = "auto"
HUMAN = "human"


@cache
def species_ml() -> dict[str, float]:
    """Usual volume of the brain of each species, in ml.

    >>> species_ml()["human"] / species_ml()["mouse"] > 1000
    True
    """
    path = resources.files("phantomseg.labels") / "species.csv"
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return {row["species"]: float(row["brain_ml"]) for row in rows}


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
