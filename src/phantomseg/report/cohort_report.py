"""The page of a folder of results, and each scan's place among the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock

from phantomseg.inference.tables import write_text
from phantomseg.report.cohort_page import cohort_page
from phantomseg.report.outliers import cohort_rows
from phantomseg.report.page import with_cohort

NAME = "report.html"


def write_cohort_report(folder: Path, manifests: list[dict[str, Any]], failed: dict[str, str]) -> Path:
    """Write report.html, and tell the page of each scan where its volumes lie among all.

    Args:
        folder: of the results.
        manifests: of all scans in it.
        failed: names of scans that could not be segmented, with the reason.
    """
    pages = {manifest["name"]: _page(manifest) for manifest in manifests}
    rows = cohort_rows(manifests)
    with FileLock(folder / ".report.lock"):
        for path in (folder / page for page in pages.values() if page):
            before = path.read_text(encoding="utf-8")
            after = with_cohort(before, rows)
            if after != before:
                write_text(path, after)
        entries = [*manifests, *({"name": name, "error": error} for name, error in failed.items())]
        links = {name: page for name, page in pages.items() if page}
        write_text(folder / NAME, cohort_page(entries, links))
        (folder / ".report.lock").unlink(missing_ok=True)
    return folder / NAME


def _page(manifest: dict[str, Any]) -> str:
    """Path of a scan's report below the folder, empty where it has none."""
    return next((entry["path"] for entry in manifest["outputs"] if entry["path"].endswith(".html")), "")
