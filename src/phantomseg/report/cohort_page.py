"""The report of many scans: which to look at, and how each one compares."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import numpy as np

from phantomseg.report.document import document, number, safe
from phantomseg.report.outliers import FEWEST, INTRACRANIAL, LIMIT, Measured, measured, unusual
from phantomseg.report.quality import quality_badge, quality_word
from phantomseg.report.volumes_table import paired, without_side

NAMED = 3  # unusual structures of a scan that are named at once
EMPTY = '<td class="n">–</td>'
SCRIPTS = ["table.js", "cohort.js"]


def cohort_page(manifests: list[dict[str, Any]], links: dict[str, str]) -> str:
    """HTML of a cohort's report.

    Args:
        manifests: one a scan; of a scan that failed, its "name" and a sentence as "error".
        links: path of the scan's own report, relative to this page, for each name that has one.
    """
    rows = measured(manifests)
    hrefs = {name: quote(os.fsencode(path), safe="/") for name, path in links.items()}
    body = f"""{_header(manifests, rows)}
<main>
<section><h2>Scans</h2>
<p class="filters scripted"><label>Name has <input type="search" id="filter"></label>
<label><input type="checkbox" id="look-only"> only scans to look at</label> <output id="count"></output></p>
{_table(manifests, rows, hrefs)}
</section>
{_plots(manifests, rows)}
</main>"""
    return document("Cohort · PhantomSeg", body, SCRIPTS, {"plots": _plot_data(manifests, rows, hrefs)})


def _header(manifests: list[dict[str, Any]], rows: list[Measured]) -> str:
    words = [quality_word(m.get("quality"), m.get("quality_threshold")) for m in manifests if not m.get("error")]
    seconds = [m["seconds"] for m in manifests if m.get("seconds") is not None]
    facts = {
        "Finished": len(words),
        "Failed": len(manifests) - len(words),
        "Good, doubtful, poor": ", ".join(str(words.count(word)) for word in ("good", "doubtful", "poor")),
        "With warnings": sum(bool(_warnings(manifest)) for manifest in manifests),
        "With unusual volumes": sum(bool(unusual(rows, scan)) for scan in range(len(manifests))),
        "Seconds a scan, median": number(float(np.median(seconds)) if seconds else None, 1),
    }
    if "unknown" in words and not set(words) - {"unknown"}:
        facts["Good, doubtful, poor"] = "not estimated"
    items = "".join(f"<div><dt>{key}</dt><dd>{safe(value)}</dd></div>" for key, value in facts.items())
    version = next((manifest["phantomseg"] for manifest in manifests if manifest.get("phantomseg")), "")
    return f"""<header>
<p class="kind">PhantomSeg {safe(version)} · report of a cohort</p>
<h1>{len(manifests)} scan{"" if len(manifests) == 1 else "s"}</h1>
<dl class="facts">{items}</dl>
</header>"""


def _table(manifests: list[dict[str, Any]], rows: list[Measured], hrefs: dict[str, str]) -> str:
    volumes = {_volume(manifest)[0] for manifest in manifests} - {""}
    numbers = ("quality", "warnings", f"{volumes.pop() if len(volumes) == 1 else 'volume'} mL", "seconds")
    columns = (("scan", ""), *((name, "n") for name in numbers), ("unusual volumes (robust z)", ""))
    heads = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{safe(name)}</button></th>' for name, kind in columns
    )
    lines = "\n".join(
        _failed(manifest, hrefs) if manifest.get("error") else _line(manifest, unusual(rows, scan), hrefs)
        for scan, manifest in enumerate(manifests)
    )
    return f"""<div class="scroll cohort" tabindex="0" role="region" aria-label="Scans"><table class="sortable">
<thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody></table></div>"""


def _line(manifest: dict[str, Any], odd: list[tuple[str, float]], hrefs: dict[str, str]) -> str:
    quality, threshold = manifest.get("quality"), manifest.get("quality_threshold")
    look = bool(odd) or bool(_warnings(manifest)) or quality_word(quality, threshold) in ("doubtful", "poor")
    volume_mm3 = _volume(manifest)[1]
    cells = (
        _cell(quality, quality_badge(quality, threshold)),
        _cell(len(_warnings(manifest)), _listed(manifest)),
        _cell(volume_mm3, "–" if volume_mm3 is None else number(volume_mm3 / 1000, 0 if volume_mm3 >= 1e5 else 2)),
        _cell(manifest.get("seconds"), number(manifest.get("seconds"), 1)),
    )
    strength = f' data-value="{abs(odd[0][1]):.6g}"' if odd else ""
    return (
        f'<tr data-name="{safe(manifest["name"])}" data-look="{int(look)}">'
        f'<th scope="row">{_name(manifest, hrefs)}</th>'
        f"{''.join(cells)}<td{strength}>{_odd(odd)}</td></tr>"
    )


def _volume(manifest: dict[str, Any]) -> tuple[str, float | None]:
    """What is measured of the whole, and how large it is: the inside of the skull, or the only structure there is."""
    structures = manifest.get("structures") or []
    if manifest.get("intracranial_mm3") is None and len(structures) == 1:
        return structures[0]["name"], structures[0]["volume_mm3"]
    return "" if manifest.get("error") else "intracranial", manifest.get("intracranial_mm3")


def _failed(manifest: dict[str, Any], hrefs: dict[str, str]) -> str:
    """A scan without a result; it sorts below every quality."""
    return (
        f'<tr class="failed" data-name="{safe(manifest["name"])}" data-look="1"><th scope="row">'
        f'{_name(manifest, hrefs)}</th><td class="n" data-value="-1"><span class="badge poor">failed</span></td>'
        f'{3 * EMPTY}<td data-value="1e9">{safe(manifest["error"])}</td></tr>'
    )


def _cell(value: float | None, text: str) -> str:
    return f'<td class="n" data-value="{value:.8g}">{text}</td>' if value is not None else f'<td class="n">{text}</td>'


def _name(manifest: dict[str, Any], hrefs: dict[str, str]) -> str:
    name = safe(manifest["name"])
    href = hrefs.get(manifest["name"])
    return f'<a href="{safe(href)}">{name}</a>' if href else name


def _warnings(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in manifest.get("findings") or [] if finding.get("level") in ("warning", "error")]


def _listed(manifest: dict[str, Any]) -> str:
    """How many there are, and which, for whoever points at the number."""
    said = [finding.get("what", "") for finding in _warnings(manifest)]
    return f'<span title="{safe("; ".join(said))}">{len(said)}</span>' if said else "0"


def _odd(odd: list[tuple[str, float]]) -> str:
    named = [f"{safe(name)} <b>{'+' if z > 0 else ''}{number(z, 1)}</b>" for name, z in odd]
    if len(named) <= NAMED:
        return ", ".join(named)
    rest = len(named) - NAMED
    return f"{', '.join(named[:NAMED])} <details><summary>and {rest} more</summary>{', '.join(named[NAMED:])}</details>"


def _plots(manifests: list[dict[str, Any]], rows: list[Measured]) -> str:
    few = f" With {len(manifests)} here, no volume is called unusual." if len(manifests) < FEWEST else ""
    names = ["quality", *(row["name"] for row in paired([{"name": row.name} for row in rows]))]
    strips = "\n".join(
        f'<div class="strip{" first" if name.startswith("left ") else ""}" data-name="{safe(name)}"><b>{safe(name)}</b>'
        f'<canvas role="img" aria-label="{safe(name)}, a dot a scan"></canvas><span></span></div>'
        for name in names
    )
    return f"""<section><h2>Volumes and quality over scans</h2>
<p class="hint">A dot is a scan, the line their median; left and right share one scale, in mm³.
<span class="scripted">Pointing at a dot, or at a row above, marks the scan everywhere; a click on a dot opens
its report.</span></p>
<p class="hint">Robust z says how far a volume lies from the median of the scans, counted in what would be standard
deviations if volumes were normally distributed (1.4826 median absolute deviations, which a few odd scans do not move);
beyond ±{LIMIT} a volume is called unusual, its dot red. It needs at least {FEWEST} scans.{few}</p>
<div class="plots">
{strips}
</div>
<noscript><p>The plots need JavaScript; the table does not.</p></noscript>
<div id="tip" role="status" hidden></div>
</section>"""


def _plot_data(manifests: list[dict[str, Any]], rows: list[Measured], hrefs: dict[str, str]) -> dict[str, Any]:
    names = [manifest["name"] for manifest in manifests]
    volumes = {
        row.name: {
            "group": row.name if row.name == INTRACRANIAL else without_side(row.name),
            "values": row.volumes_mm3,
            "z": [None if z is None else round(z, 4) for z in row.robust_z],
        }
        for row in rows
    }
    quality = {"group": "quality", "values": [m.get("quality") for m in manifests], "z": [None] * len(names)}
    return {
        "names": names,
        "hrefs": [hrefs.get(name) for name in names],
        "limit": LIMIT,
        "rows": {**volumes, "quality": quality},
    }
