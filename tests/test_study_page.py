"""The page of a study: what it tells, what sorts how, and what cannot get into it."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_report import HOSTILE, OUTSIDE, outside_of_data, page_scripts, text_of

from phantomseg.evaluation.published import Published, published
from phantomseg.report.study_page import StudyFigure, StudyPage, StudyTable, cell_text, study_page

PUBLISHED = Published(
    study="accuracy", paper="They (2023)", doi="10.1000/182", method="TheirSeg", dataset="T1-39", structure="putamen",
    metric="dice", value=0.88, std=None, n=39, source="table 2", evidence="paper",
)  # fmt: skip
TABLE = StudyTable("Scores", ("tool", "scans", "Dice", "p"), (("ours", 40, 0.91234, 0.00001), ("theirs", 40, 0.9, 1.0)))
PAGE = StudyPage(
    title="Accuracy",
    summary="First paragraph,\nstill the first.\n\nSecond.",
    tables=(TABLE,),
    failures=(("theirs", "sub-07", "it ended with status 137; give it more memory"),),
    published=(PUBLISHED,),
    provenance={"Machine": "16 threads"},
    scans=80,
)


def cells(text: str, column: int, title: str = "Scores") -> list[str]:
    """A column of a table, tags and all."""
    table = re.search(f'aria-label="{title}"><table.*?<tbody>(.*?)</tbody>', text, re.DOTALL).group(1)
    return [re.findall(r"<t[hd].*?</t[hd]>", row)[column] for row in table.strip().split("\n")]


def test_page_tells_everything() -> None:
    shown = text_of(study_page(PAGE))
    for expected in (
        "Study", "Accuracy", "1 of 80 failed", "theirs sub-07 it ended with status 137; give it more memory",
        "First paragraph, still the first.", "ours 40 0.912 <0.001".replace("<", "&lt;"), "theirs 40 0.900 1.000",
        "Published, not rerun", "0.88 – 39 They (2023) 10.1000/182 table 2 paper", "Machine 16 threads",
        "For research use; not for diagnosis.",
    ):  # fmt: skip
        assert expected in shown, expected
    assert study_page(PAGE).count("<p>") == 2


def test_failures_come_first_or_not_at_all() -> None:
    text = study_page(PAGE)
    assert text.index("Failed (1)") < text.index("First paragraph") < text.index(">Scores<")
    assert '<span class="badge poor">1 of 80 failed</span>' in text
    for scans, verdict in ((80, 'good">all 80 scans done'), (1, 'good">1 scan done'), (0, 'unknown">no scans')):
        fine = study_page(replace(PAGE, failures=(), scans=scans))
        assert "Failed" not in fine
        assert f'<span class="badge {verdict}</span>' in fine
    twice = replace(PAGE, failures=PAGE.failures * 2 + (("ours", "sub-07", "it is empty"),))
    assert "2 of 80 failed" in study_page(twice)  # a sentence more is no scan more


def test_page_loads_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "plot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    page = replace(PAGE, figures=(StudyFigure("Boxes", tmp_path / "plot.svg", "Each dot is a scan."),))
    text = study_page(page)
    assert not OUTSIDE.search(outside_of_data(text))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:;")
    (source,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="Boxes">', text)
    assert base64.b64decode(source) == (tmp_path / "plot.svg").read_bytes()
    assert "Each dot is a scan." in text
    every = study_page(replace(page, published=tuple(published("accuracy"))))
    assert not re.search(r'(?:src|href)="(?!data:)', every)  # a source that is an address stays text


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    (tmp_path / "plot.svg").write_text(f"<svg>{HOSTILE}</svg>")
    numbers = {"value": 1.0, "std": None, "n": None}
    words = {name: HOSTILE for name in Published.__dataclass_fields__ if name not in numbers}
    page = StudyPage(
        HOSTILE, f"{HOSTILE}\n\n{HOSTILE}", (StudyTable(HOSTILE, (HOSTILE, "b"), ((HOSTILE, 1),) * 30, HOSTILE),),
        (StudyFigure(HOSTILE, tmp_path / "plot.svg", HOSTILE),), ((HOSTILE,) * 3,), (Published(**words, **numbers),),
        {HOSTILE: HOSTILE}, 1,
    )  # fmt: skip
    text = study_page(page)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;") > 50
    assert text.count("<script") == text.count("</script>") == page_scripts(text)


def test_cells_show_and_sort_what_they_can() -> None:
    rows = ((math.nan, 1), (None, 2), (math.inf, 3), (-math.inf, 4), (-0.0004, 5), (1234.5678, "x"), (True, None))
    found = cells(study_page(StudyPage("t", "", (StudyTable("Scores", ("a", "b"), rows[:6], decimals=2),))), 0)
    assert found == [
        '<th scope="row" class="n">–</th>',
        '<th scope="row" class="n">–</th>',
        '<th scope="row" class="n" data-value="Infinity">∞</th>',
        '<th scope="row" class="n" data-value="-Infinity">−∞</th>',
        '<th scope="row" class="n" data-value="-0.0004">0.00</th>',
        '<th scope="row" class="n" data-value="1234.5678">1\u202f234.57</th>',
    ]
    mixed = cells(study_page(StudyPage("t", "", (StudyTable("Scores", ("a", "b"), rows),))), 1)
    assert mixed[0] == '<td data-value="1">1</td>'  # a column in which there are words is not one of numbers
    assert mixed[-2:] == ["<td>x</td>", "<td>–</td>"]
    assert cell_text(True) == "yes"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("p", "<0.001"), ("p (Bonferroni)", "<0.001"), ("corrected p-value", "<0.001"), ("p_adjusted", "<0.001"),
     ("p5", "0.000"), ("PD", "0.000"), ("group", "0.000")],
)  # fmt: skip
def test_small_p_values_are_told_by_their_heading(name: str, shown: str) -> None:
    (found,) = cells(study_page(StudyPage("t", "", (StudyTable("Scores", ("a", name), (("x", 0.0004),)),))), 1)
    assert found == f'<td class="n" data-value="0.0004">{shown.replace("<", "&lt;")}</td>'


def test_numbers_of_numpy_are_numbers() -> None:
    assert [cell_text(x) for x in (np.float32(0.5), np.float64(0.5), np.int64(1234))] == [
        "0.500",
        "0.500",
        "1\u202f234",
    ]
    assert [cell_text(x) for x in (0.0, 0.0009999, 0.001)] == ["0.000", "0.001", "0.001"]
    assert [cell_text(x, 2, p_value=True) for x in (0.0, 0.0009999, 0.001, 0.04)] == [
        "<0.001", "<0.001", "0.001", "0.040"
    ]  # fmt: skip
    assert [cell_text(x, None) for x in (0.954, 79.0, -1.25)] == ["0.954", "79", "−1.25"]


def test_long_tables_are_folded_and_empty_ones_say_so() -> None:
    tables = tuple(StudyTable(f"of {n}", ("scan",), tuple((f"sub-{i}",) for i in range(n))) for n in (0, 25, 26))
    text = study_page(StudyPage("t", "", tables))
    assert text.count("<details>") == 1
    assert "<summary><h2>of 26</h2> <small>26 rows</small></summary>" in text
    assert '<h2>of 0</h2>\n<p class="none">None.</p>' in text
    assert text.count('<table class="sortable">') == 2
    assert '<th scope="col"><button type="button">scan</button></th>' in text


def test_a_page_may_hold_nothing() -> None:
    text = study_page(StudyPage("Nothing", ""))
    for absent in ("Failed", "Published", "Provenance", "<table", "<img", "<p></p>"):
        assert absent not in text, absent
