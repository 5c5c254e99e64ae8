"""The page of a study: what came out, in plots and tables, what failed, and what others report."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from phantomseg.evaluation.published import Published
from phantomseg.report.document import document, number, safe

LONG = 25  # rows beyond which a table is folded
SMALLEST_P = 0.001  # that is written out
P_VALUES = re.compile(r"(?<![a-z0-9])p(?![a-z0-9])", re.IGNORECASE)  # names of columns that hold them
Cell = str | float | int | None
PUBLISHED_HINT = """Quoted as they were published; nothing here was rerun, and scans, labels and measures may differ
from ours. Evidence says where a number was read: in the paper itself, in another text that quotes it (secondary), or
off a plot."""


@dataclass(frozen=True)
class StudyTable:
    """A table of which each column can be sorted by; the first column names the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    hint: str = ""
    decimals: int | None = 3  # of numbers that are not whole; None: as many as each one has


@dataclass(frozen=True)
class StudyFigure:
    """A plot, as an SVG file that becomes part of the page."""

    title: str
    path: Path
    hint: str = ""


@dataclass(frozen=True)
class StudyPage:
    """Everything on the page of a study."""

    title: str
    summary: str  # paragraphs with a blank line between them
    tables: tuple[StudyTable, ...] = ()
    figures: tuple[StudyFigure, ...] = ()
    failures: tuple[tuple[str, str, str], ...] = ()  # tool, scan, what happened
    published: tuple[Published, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    scans: int = 0  # given to tools; one that two tools were given counts twice, as its failures do


def study_page(page: StudyPage) -> str:
    """HTML of a study's page, one file that needs no other."""
    tables = "\n".join(_table(table) for table in page.tables)
    body = f"""<header>
<p class="kind">PhantomSeg · Study</p>
<h1>{safe(page.title)}</h1>
<p class="verdict">{_verdict(page)}</p>
</header>
<main class="study">
{_failures(page.failures)}
<section class="summary">{_paragraphs(page.summary)}</section>
{_figures(page.figures)}
{tables}
{_published(page.published)}
{_provenance(page.provenance)}
</main>"""
    return document(f"{page.title} · PhantomSeg", body, ["table.js"], {})


def cell_text(value: Cell, decimals: int | None = 3, p_value: bool = False) -> str:
    """What a cell shows.

    >>> [cell_text(value) for value in (0.91234, 12, None, float("nan"), float("-inf"), "putamen")]
    ['0.912', '12', '–', '–', '−∞', 'putamen']
    >>> cell_text(0.0004), cell_text(0.0004, p_value=True), cell_text(0.88, None)
    ('0.000', '<0.001', '0.88')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, Real):
        return "–" if value is None else str(value)
    if p_value and 0 <= value < SMALLEST_P:
        return f"<{SMALLEST_P:g}"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if decimals is None:
        decimals = len(f"{value:.10g}".partition(".")[2])
    return number(float(value), 0 if isinstance(value, Integral) else max(decimals, 3 * p_value))


def _verdict(page: StudyPage) -> str:
    failed = len({(tool, scan) for tool, scan, _ in page.failures})
    if failed:
        return f'<span class="badge poor">{number(failed)} of {number(page.scans)} failed</span>'
    if not page.scans:
        return '<span class="badge unknown">no scans</span>'
    done = "1 scan done" if page.scans == 1 else f"all {number(page.scans)} scans done"
    return f'<span class="badge good">{done}</span>'


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{safe(part)}</p>" for part in re.split(r"\n\s*\n", text.strip()) if part)


def _failures(failures: tuple[tuple[str, str, str], ...]) -> str:
    if not failures:
        return ""
    table = StudyTable("Failed", ("tool", "scan", "what happened"), failures)
    return f'<section class="failures"><h2>Failed ({len(failures)})</h2>\n{_grid(table)}</section>'


def _figures(figures: tuple[StudyFigure, ...]) -> str:
    return f'<section class="figures">{"".join(map(_figure, figures))}</section>' if figures else ""


def _figure(figure: StudyFigure) -> str:
    title, source = safe(figure.title), base64.b64encode(figure.path.read_bytes()).decode("ascii")
    return f"""<figure><figcaption><h2>{title}</h2>{_hint(figure.hint)}</figcaption>
<div class="plot" tabindex="0" role="region" aria-label="{title}">
<img src="data:image/svg+xml;base64,{source}" alt="{title}"></div></figure>"""


def _table(table: StudyTable) -> str:
    """A section of the page; its table is folded if it is long."""
    title, inside = safe(table.title), f"{_hint(table.hint)}\n{_grid(table)}"
    if len(table.rows) <= LONG:
        return f"<section><h2>{title}</h2>{inside}</section>"
    return (
        f"<section><details><summary><h2>{title}</h2> <small>{len(table.rows)} rows</small></summary>{inside}"
        "</details></section>"
    )


def _grid(table: StudyTable) -> str:
    """The table itself, in a box in which it scrolls."""
    if not table.rows:
        return '<p class="none">None.</p>'
    numeric = [_numeric([row[at] for row in table.rows if at < len(row)]) for at in range(len(table.columns))]
    heads = "".join(
        f'<th scope="col"{_class(is_numeric)}><button type="button">{safe(name)}</button></th>'
        for name, is_numeric in zip(table.columns, numeric, strict=True)
    )
    lines = "\n".join(f"<tr>{_row(table, row, numeric)}</tr>" for row in table.rows)
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{safe(table.title)}"><table class="sortable">
<thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody></table></div>"""


def _row(table: StudyTable, row: tuple[Cell, ...], numeric: list[bool]) -> str:
    """Cells, of which the first names the row; numbers that are NaN count as none."""
    cells: list[str] = []
    for name, value, is_numeric in zip(table.columns, row, numeric, strict=False):
        text = safe(cell_text(value, table.decimals, bool(P_VALUES.search(name))))
        known = _is_number(value) and not math.isnan(value)  # type: ignore[arg-type]
        sorts_by = f' data-value="{float(value):.8g}"'.replace("inf", "Infinity") if known else ""  # type: ignore[arg-type]
        start, end = ("td", "td") if cells else ('th scope="row"', "th")
        cells.append(f"<{start}{_class(is_numeric)}{sorts_by}>{text}</{end}>")
    return "".join(cells)


def _numeric(values: list[Cell]) -> bool:
    """Whether a column holds numbers and nothing else, but for gaps."""
    return any(map(_is_number, values)) and all(value is None or _is_number(value) for value in values)


def _is_number(value: Cell) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _class(is_numeric: bool) -> str:
    return ' class="n"' if is_numeric else ""


def _hint(hint: str) -> str:
    return f'<p class="hint">{safe(hint)}</p>' if hint else ""


def _published(rows: tuple[Published, ...]) -> str:
    if not rows:
        return ""
    names = ("method", "dataset", "structure", "metric", "value", "± sd", "n", "paper", "DOI", "source", "evidence")
    cells = tuple(
        (x.method, x.dataset, x.structure, x.metric, x.value, x.std, x.n, x.paper, x.doi or None, x.source, x.evidence)
        for x in rows
    )
    return _table(StudyTable("Published, not rerun", names, cells, PUBLISHED_HINT, decimals=None))


def _provenance(facts: dict[str, str]) -> str:
    if not facts:
        return ""
    items = "".join(f"<div><dt>{safe(key)}</dt><dd>{safe(value)}</dd></div>" for key, value in facts.items())
    return f'<section class="provenance"><h2>Provenance</h2><dl>{items}</dl></section>'
