"""Where a result comes from: program, weights, options, machine and files."""

from __future__ import annotations

from typing import Any

from phantomseg.report.document import date_text, number, safe

SHORT = 16  # digits of a checksum that are shown; all of them can be copied


def provenance(manifest: dict[str, Any]) -> str:
    """A folded section of a page; what the manifest lacks is left out."""
    rows = "".join(f"<div><dt>{safe(key)}</dt><dd>{value}</dd></div>" for key, value in _facts(manifest).items())
    return f"""<section class="provenance"><h2>Provenance</h2>
<dl>{rows}</dl>
{_outputs(manifest.get("outputs") or [])}
</section>"""


def grid_text(grid: dict[str, Any]) -> str:
    """Shape, spacing and orientation in a line.

    >>> grid_text({"shape": [192, 224, 10], "spacing_mm": [1.0, 1.0, 5.5], "orientation": "LAS"})
    '192 × 224 × 10 voxels of 1 × 1 × 5.5 mm, LAS'
    """
    if not grid.get("shape"):
        return "–"
    shape = " × ".join(str(n) for n in grid["shape"])
    spacing = " × ".join(f"{float(size):.3g}" for size in grid.get("spacing_mm") or [])
    orientation = grid.get("orientation") or ""
    return f"{shape} voxels" + (f" of {spacing} mm" if spacing else "") + (f", {orientation}" if orientation else "")


def _facts(manifest: dict[str, Any]) -> dict[str, str]:
    """Name and HTML of each fact."""
    model = manifest.get("model") or {}
    options = manifest.get("options") or {}
    facts = {
        "Scan": _code(manifest.get("scan")),
        "Volume of the file": safe(manifest["volume"]) if manifest.get("volume") is not None else "",
        "Scan SHA-256": _checksum(manifest.get("scan_sha256")),
        "Grid": safe(grid_text(manifest.get("grid") or {})),
        "Program": safe(f"PhantomSeg {manifest.get('phantomseg', '')}"),
        "Model": safe(model.get("name", "")),
        "Weights SHA-256": _checksum(model.get("weights_sha256")),
        "Options": ", ".join(f"{safe(key)} {_code(_plain(value))}" for key, value in options.items()),
        "Run hash": _checksum(manifest.get("hash")),
        "Backend": safe(manifest.get("backend") or ""),
        "Machine": safe(manifest.get("machine") or ""),
        "Time": number(manifest["seconds"], 1, "s") if manifest.get("seconds") is not None else "",
        "Peak memory": number(manifest["peak_memory_mb"], 0, "MB") if manifest.get("peak_memory_mb") else "",
        "Finished": safe(date_text(manifest.get("finished"))),
    }
    return {key: value for key, value in facts.items() if value and value != "–"}


def _outputs(outputs: list[dict[str, Any]]) -> str:
    if not outputs:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_code(output.get("path"))}</th><td class="n">{number(output.get("bytes"))}</td>'
        f"<td>{_checksum(output.get('sha256'))}</td></tr>"
        for output in outputs
    )
    return (
        '<div class="wide"><table><caption>Files written</caption><thead><tr><th scope="col">file</th>'
        f'<th scope="col" class="n">bytes</th><th scope="col">SHA-256</th></tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _code(text: Any) -> str:
    return f"<code>{safe(text)}</code>" if text is not None else ""


def _checksum(text: str | None) -> str:
    """The first digits; the rest is there for whoever selects or searches it."""
    if not text:
        return ""
    return f'<code class="sum" title="{safe(text)}">{safe(text[:SHORT])}<span>{safe(text[SHORT:])}</span></code>'
