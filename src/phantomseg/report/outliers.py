"""Volumes of many scans beside each other, and which of them are unusual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

FEWEST = 5  # scans, below which no volume is called unusual
LIMIT = 3.5  # robust z beyond which one is
TO_SIGMA = 1.4826  # median absolute deviation of a normal distribution to its standard deviation
INTRACRANIAL = "intracranial volume"


@dataclass(frozen=True)
class Measured:
    """One structure over all scans: its volumes in mm³ and their robust z, None where there is none."""

    name: str
    volumes_mm3: list[float | None]
    robust_z: list[float | None]


def robust_z(values: list[float | None]) -> list[float | None]:
    """Distance from the median over 1.4826 median absolute deviations; all None below five values or without spread.

    >>> [round(z, 2) for z in robust_z([8.0, 9.0, 10.0, 11.0, 30.0])]
    [-1.35, -0.67, 0.0, 0.67, 13.49]
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < FEWEST:
        return [None] * len(values)
    median = float(np.median(known))
    spread = TO_SIGMA * float(np.median(np.abs(np.array(known) - median)))
    if spread == 0:
        return [None] * len(values)
    return [None if value is None or not math.isfinite(value) else (value - median) / spread for value in values]


def cohort_rows(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """How many scans were segmented, and their volumes, as `with_cohort` takes them: no page names other scans."""
    done = [manifest for manifest in manifests if not manifest.get("error")]
    structures = {row.name: row.volumes_mm3 for row in measured(done) if row.name != INTRACRANIAL}
    return {"count": len(done), "structures": structures}


def measured(manifests: list[dict[str, Any]]) -> list[Measured]:
    """Each structure that any scan has, in the order in which they first occur; the intracranial volume comes first."""
    tables = [
        {row["name"]: row.get("volume_mm3") for row in manifest.get("structures") or []} for manifest in manifests
    ]
    for table, manifest in zip(tables, manifests, strict=True):
        if manifest.get("intracranial_mm3") is not None:
            table[INTRACRANIAL] = manifest["intracranial_mm3"]
    names = dict.fromkeys(name for table in tables for name in table)
    first = [INTRACRANIAL] if INTRACRANIAL in names else []
    rows = []
    for name in [*first, *(name for name in names if name != INTRACRANIAL)]:
        volumes = [table.get(name) for table in tables]
        rows.append(Measured(name, volumes, robust_z(volumes)))
    return rows


def unusual(rows: list[Measured], scan: int) -> list[tuple[str, float]]:
    """Structures of one scan beyond the limit, with their robust z, the farthest first."""
    found = [(row.name, z) for row in rows if (z := row.robust_z[scan]) is not None and abs(z) > LIMIT]
    return sorted(found, key=lambda item: -abs(item[1]))
