"""The report of one scan: a page that opens from a file, in any browser, without a network."""

from __future__ import annotations

from typing import Any

from phantomseg.errors import PhantomSegError
from phantomseg.image.image import Image
from phantomseg.labels import LabelSet
from phantomseg.report.document import date_text, document, json_element, number, safe
from phantomseg.report.mosaic import Mosaic, look_box, mosaics
from phantomseg.report.provenance import grid_text, provenance
from phantomseg.report.quality import quality_badge, quality_rule
from phantomseg.report.shown import Shown, shown
from phantomseg.report.sprites import sprites
from phantomseg.report.viewer import viewer
from phantomseg.report.volumes_table import volumes_table

LEVELS = ("error", "warning")  # of findings, worst first; "ok" is the third
SCRIPTS = ["table.js", "volume.js", "paint.js", "viewer.js", "controls.js", "rank.js"]
NO_COHORT = json_element("cohort", {})
OPENING, CLOSING = NO_COHORT.split("{}")


def scan_page(manifest: dict[str, Any], scan: Image, labels_image: Image, labels: LabelSet) -> str:
    """HTML of a scan's report, with everything it shows inside.

    Args:
        manifest: the record of the run, as NAME_manifest.json holds it.
        scan: the scan, on any grid.
        labels_image: ids of `labels` on the same grid.
        labels: what the ids mean.

    Raises:
        GeometryError: scan and labels have different shapes.
        LabelError: more labels than a page can show.
    """
    volume = shown(scan, labels_image, labels, manifest.get("options", {}).get("ct"))
    body = f"""{_header(manifest)}
<main>
{_findings(manifest)}
{_mosaics(mosaics(volume, labels), volume)}
<section class="workbench" aria-label="Viewer and volumes">
{viewer(volume)}
{volumes_table(manifest, labels)}
</section>
{provenance(manifest)}
</main>"""
    data = {"scan": _viewer_data(manifest, volume, labels), "cohort": {}}
    return document(f"{manifest['name']} · PhantomSeg", body, SCRIPTS, data)


def with_cohort(page: str, rows: dict[str, Any]) -> str:
    """A scan's page that also shows where its volumes lie among those of other scans; earlier ones are replaced.

    Args:
        page: from `scan_page`.
        rows: {"self": place of this scan, "count": of scans, "structures": {structure: [mm³ or None, one a scan], …}};
            shown from three scans on.

    Raises:
        PhantomSegError: the page has no place for a cohort.

    >>> page = "before " + NO_COHORT + " after"
    >>> with_cohort(with_cohort(page, {"count": 1}), {"count": 2})
    'before <script type="application/json" id="cohort">{"count":2}</script> after'
    """
    before, opening, rest = page.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not opening or not closing:
        raise PhantomSegError("the page has no place for a cohort; wanted a scan's report; write it again")
    return before + json_element("cohort", rows) + after


def _header(manifest: dict[str, Any]) -> str:
    grid = manifest.get("grid") or {}
    intracranial = manifest.get("intracranial_mm3")
    facts = {
        "Finished": date_text(manifest.get("finished")),
        "Grid": grid_text(grid),
        "Labels": manifest.get("options", {}).get("labels", "–"),
    }
    if intracranial is not None:
        facts["Intracranial volume"] = number(intracranial / 1000, 0, "mL")
    items = "".join(f"<div><dt>{key}</dt><dd>{safe(value)}</dd></div>" for key, value in facts.items())
    quality, threshold = manifest.get("quality"), manifest.get("quality_threshold")
    rule = f"<small>{safe(quality_rule(threshold))}</small>" if quality is not None else ""
    return f"""<header>
<p class="kind">PhantomSeg {safe(manifest.get("phantomseg", ""))} · report of a scan</p>
<h1>{safe(manifest["name"])}</h1>
<p class="verdict"><span>Quality</span> {quality_badge(quality, threshold)} {rule}</p>
<dl class="facts">{items}</dl>
</header>"""


def _findings(manifest: dict[str, Any]) -> str:
    """What to look at first, each with what to do; what was found in order comes last and folded."""
    findings = manifest.get("findings") or []
    bad = [finding for level in LEVELS for finding in findings if finding.get("level") == level]
    fine = [finding for finding in findings if finding.get("level") not in LEVELS]
    items = "".join(
        f'<li class="{safe(finding["level"])}"><b>{safe(finding["level"])}</b> '
        f"<span>{safe(finding.get('what', ''))} <em>{safe(finding.get('fix') or '')}</em></span></li>"
        for finding in bad
    )
    listed = "".join(f"<li>{safe(finding.get('what', ''))}</li>" for finding in fine)
    checks = f"<details><summary>{len(fine)} in order</summary><ul>{listed}</ul></details>" if fine else ""
    warned = f"<ul>{items}</ul>" if bad else "<p>Nothing to warn of.</p>" if fine else "<p>Nothing was checked.</p>"
    return f'<section class="findings"><h2>Checks</h2>{warned}{checks}</section>'


def _mosaics(rows: list[Mosaic], volume: Shown) -> str:
    figures = "\n".join(_figure(row, volume, max(row.width for row in rows)) for row in rows)
    return f"""<section class="mosaics"><h2>Slices</h2>
<p class="hint">Outlines of the labels on the scan. Left of the head is on the left of the picture.
<span class="scripted">Click a slice to look closer in the viewer below.</span></p>
<div class="strips"><div>
{figures}
</div></div>
</section>"""


def _figure(row: Mosaic, volume: Shown, widest: int) -> str:
    tiles = "".join(_tile(row, at, volume) for at in row.slices)
    return (
        f'<figure style="width:{100 * row.width / widest:.2f}%"><img src="{row.source}" width="{row.width}" '
        f'height="{row.height}" alt="{row.plane.name} slices with outlined labels">'
        f'<div class="tiles">{tiles}</div></figure>'
    )


def _tile(row: Mosaic, at: int, volume: Shown) -> str:
    """A button over one slice: its ends, its place, and where a click takes the viewer."""
    axis = row.plane.axis
    middle = (volume.grey.shape[0] - 1) / 2, (volume.grey.shape[1] - 1) / 2, (volume.grey.shape[2] - 1) / 2
    index = [float(at) if other == axis else middle[other] for other in range(3)]
    place_mm = round(float(volume.affine[axis, :3] @ index + volume.affine[axis, 3]))
    letter = ("LR", "PA", "IS")[axis][place_mm >= 0]
    left, right = row.plane.ends[:2]
    return (
        f'<button type="button" data-axis="{axis}" data-at="{at}" aria-label="{row.plane.name} slice at '
        f'{letter} {abs(place_mm)} mm, show in the viewer"><i>{left}</i><i>{right}</i>'
        f"<span>{letter}{abs(place_mm)}</span></button>"
    )


def _viewer_data(manifest: dict[str, Any], volume: Shown, labels: LabelSet) -> dict[str, Any]:
    low, high = look_box(volume.channels, labels)
    return {
        "name": manifest["name"],
        "start": ((low + high) // 2).tolist(),
        "affine": volume.affine.tolist(),
        "to_file": volume.to_file.tolist(),
        "spacing_mm": volume.spacing_mm.tolist(),
        "low": volume.low,
        "high": volume.high,
        "window": list(volume.window),
        "unit": volume.unit,
        "names": list(labels.names),
        "colors": [label.color for label in labels.labels],
        **sprites(volume),
    }
