"""The page of a folder of results, and each scan's place among the others."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePath
from typing import Any

from phantomseg.errors import PhantomSegError
from phantomseg.inference.claim import claimed, move
from phantomseg.inference.folder import REPORT
from phantomseg.inference.manifest import current
from phantomseg.inference.tables import write_text
from phantomseg.report.cohort_page import cohort_page
from phantomseg.report.outliers import cohort_rows
from phantomseg.report.page import with_cohort


def write_cohort_report(folder: Path, labels: str, failed: dict[str, str]) -> Path:
    """Write report.html, and tell the page of each scan where its volumes lie among all.

    Args:
        folder: of the results.
        labels: label set of the scans that are shown.
        failed: names of scans that could not be segmented, with the reason.
    """
    with claimed(folder, "report", wait=True) as stage:
        manifests = current(folder, labels, failed)
        pages = {manifest["name"]: page for manifest in manifests if (page := _page(folder, manifest))}
        rows, changed = cohort_rows(manifests), [PurePath(REPORT)]
        for place, page in ((n, pages[m["name"]]) for n, m in enumerate(manifests) if m["name"] in pages):
            with contextlib.suppress(PhantomSegError, OSError, ValueError):  # a page that was damaged stays as it is
                before = (folder / page).read_text(encoding="utf-8")
                after = with_cohort(before, {"self": place, **rows})
                if after != before:
                    write_text(stage / page, after)
                    changed.append(PurePath(page))
        entries = [*manifests, *({"name": name, "error": error} for name, error in failed.items())]
        write_text(stage / REPORT, cohort_page(entries, pages))
        move(stage, folder, changed)
    return folder / REPORT


def _page(folder: Path, manifest: dict[str, Any]) -> str:
    """Path of a scan's report below the folder, empty where it has none."""
    pages = (entry["path"] for entry in manifest["outputs"] if entry["path"].endswith(".html"))
    return next((page for page in pages if (folder / page).is_file()), "")
