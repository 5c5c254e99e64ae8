"""The table of volumes, which is also the legend and the remote control of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phantomseg.labels import LabelSet
from phantomseg.report.document import number, safe, volume_text
from phantomseg.report.quality import quality_bar

SIDES = ("left ", "right ")


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, what the heading means, and the key without which it is left out."""

    heading: str
    meaning: str
    key: str


COLUMNS = (
    Column("mm³", "volume: sum of the probabilities", "volume_mm3"),
    Column(
        "90 % interval", "the volume lies in it nine times out of ten; sorted by its width over the volume", "low_mm3"
    ),
    Column("left/right", "asymmetry: left minus right, over their mean; sorted by its size", "asymmetry_percent"),
    Column("quality", "predicted Dice", "quality"),
)


def volumes_table(manifest: dict[str, Any], labels: LabelSet) -> str:
    """One row a structure, left and right below each other; columns without any number are left out."""
    structures = paired(manifest.get("structures") or [])
    columns = [column for column in COLUMNS if any(row.get(column.key) is not None for row in structures)]
    channels = {label.id: channel for channel, label in enumerate(labels.labels)}
    heads = "".join(
        f'<th scope="col" class="n" title="{column.meaning}"><button type="button">{column.heading}</button></th>'
        for column in columns
    )
    threshold = manifest.get("quality_threshold")
    rows = "\n".join(_row(row, columns, labels, channels.get(row.get("index", -1), 0), threshold) for row in structures)
    return f"""<div class="volumes"><h2>Volumes</h2>
<p class="hint scripted">Click a name to centre on the structure and highlight it, a swatch to show or hide it,
a heading to sort.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Volumes"><table class="sortable">
<thead><tr><th scope="col" class="show"><span class="spoken">shown</span></th>
<th scope="col"><button type="button">structure</button></th>{heads}
<th scope="col" class="rank" title="share of the other scans that have a smaller volume; ticks: scans, dot: this one">
<button type="button">percentile</button></th></tr></thead>
<tbody>
{rows}
</tbody></table></div></div>"""


def paired(structures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in their order, but each right side directly below its left.

    >>> [row["name"] for row in paired([{"name": n} for n in ("left a", "b", "right a")])]
    ['left a', 'right a', 'b']
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in structures:
        groups.setdefault(without_side(row["name"]), []).append(row)
    return [row for group in groups.values() for row in group]


def without_side(name: str) -> str:
    """The structure that a left and a right one share."""
    return next((name.removeprefix(side) for side in SIDES if name.startswith(side)), name)


def _row(row: dict[str, Any], columns: list[Column], labels: LabelSet, channel: int, threshold: float | None) -> str:
    name = safe(row["name"])
    cells = "".join(_cell(row, column.key, threshold) for column in columns)
    color = labels.labels[channel].color
    swatch = f'<input type="checkbox" checked style="--c:{color}" aria-label="show {name}">' if channel else ""
    volume = f' data-volume="{row["volume_mm3"]:.8g}"' if row.get("volume_mm3") is not None else ""
    return (
        f'<tr data-channel="{channel}" data-name="{name}"{volume} class="{_kind(row)}"><td class="show">{swatch}</td>'
        f'<th scope="row" data-text="{safe(without_side(row["name"]))}"><button type="button" class="pick">'
        f'{_short(row["name"])}</button></th>{cells}<td class="rank"></td></tr>'
    )


def _short(name: str) -> str:
    """The name with a letter for its side.

    >>> _short("left putamen")
    '<abbr title="left">L</abbr>putamen'
    """
    for side in SIDES:
        if name.startswith(side):
            return f'<abbr title="{side.strip()}">{side[0].upper()}</abbr>{safe(name.removeprefix(side))}'
    return f"<abbr></abbr>{safe(name)}"


def _kind(row: dict[str, Any]) -> str:
    """Classes of the row: whether it is the lower one of a pair, and whether the structure is not there."""
    kinds = ["second"] if row["name"].startswith("right ") else []
    return " ".join([*kinds, "absent"] if row.get("volume_mm3") == 0 else kinds)


def _cell(row: dict[str, Any], key: str, threshold: float | None) -> str:
    value = row.get(key)
    if value is None:
        return '<td class="n none">–</td>'
    if key == "low_mm3":
        return _interval(row)
    if key == "quality":
        return f'<td class="n" data-value="{value:.6g}">{quality_bar(value, threshold)}</td>'
    if key == "asymmetry_percent":
        sign = "+" if round(value, 1) > 0 else ""
        return f'<td class="n" data-value="{abs(value):.6g}">{sign}{number(value, 1, "%")}</td>'
    by_voxels = f' title="counted in voxels: {volume_text(row["hard_mm3"])} mm³"' if row.get("hard_mm3") else ""
    return f'<td class="n" data-value="{value:.8g}"{by_voxels}>{volume_text(value)}</td>'


def _interval(row: dict[str, Any]) -> str:
    low, high, volume = row["low_mm3"], row.get("high_mm3"), row.get("volume_mm3")
    if high is None:
        return '<td class="n none">–</td>'
    width = f' data-value="{(high - low) / volume:.6g}"' if volume else ""
    return f'<td class="n"{width}>{volume_text(low)}–{volume_text(high)}</td>'
