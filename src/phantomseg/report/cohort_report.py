"""The page of a folder of results, and each scan's place among the others."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePath
from typing import Any

from phantomseg.errors import PhantomSegError
from phantomseg.inference.claim import claimed, move
from phantomseg.inference.manifest import read_manifests
from phantomseg.inference.tables import write_text
from phantomseg.report.cohort_page import cohort_page
from phantomseg.report.outliers import cohort_rows
from phantomseg.report.page import with_cohort

NAME = "report.html"


def write_cohort_report(folder: Path, failed: dict[str, str]) -> Path:
    """Write report.html, and tell the page of each scan where its volumes lie among all.

    Args:
        folder: of the results.
        failed: names of scans that could not be segmented, with the reason.
    """
    with claimed(folder, "report", wait=True) as stage:
        manifests = read_manifests(folder)
        pages = {manifest["name"]: page for manifest in manifests if (page := _page(folder, manifest))}
        rows, changed = cohort_rows(manifests), [PurePath(NAME)]
        for page in pages.values():
            with contextlib.suppress(PhantomSegError, OSError, ValueError):  # a page that was damaged stays as it is
                before = (folder / page).read_text(encoding="utf-8")
                after = with_cohort(before, rows)
                if after != before:
                    write_text(stage / page, after)
                    changed.append(PurePath(page))
        entries = [*manifests, *({"name": name, "error": error} for name, error in failed.items())]
        write_text(stage / NAME, cohort_page(entries, pages))
        move(stage, folder, changed)
    return folder / NAME


def _page(folder: Path, manifest: dict[str, Any]) -> str:
    """Path of a scan's report below the folder, empty where it has none."""
    pages = (entry["path"] for entry in manifest["outputs"] if entry["path"].endswith(".html"))
    return next((page for page in pages if (folder / page).is_file()), "")
