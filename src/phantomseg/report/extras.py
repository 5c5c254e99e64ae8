"""What the report room adds to the results of a scan, while it is at hand."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from phantomseg.inference.results import Written
from phantomseg.inference.tables import write_text
from phantomseg.report.figures import draw_overlay
from phantomseg.report.page import scan_page


def write_report(to: Written, manifest: dict[str, Any]) -> PurePath:
    """Page of one scan; where it lies among others is added when the cohort is known."""
    write_text(to.folder / to.names.report, scan_page(manifest, to.scan, to.result.image, to.result.labels))
    return to.names.report


def write_overlay(to: Written, manifest: dict[str, Any]) -> PurePath:
    """Picture of the labels on the scan."""
    draw_overlay(to.folder / to.names.overlay, to.scan, to.result, manifest["options"]["ct"])
    return to.names.overlay
