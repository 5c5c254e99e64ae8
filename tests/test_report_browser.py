"""Pages as a real browser shows them (`scripts/install_chromium`)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import numpy as np
import pytest
import report
from PIL import Image as Picture

from phantomseg.image.image import Image
from phantomseg.report.cohort_page import cohort_page
from phantomseg.report.page import scan_page, with_cohort
from phantomseg.report.shown import shown

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason=chromium.MISSING)
AT = "document.body.dataset.at.split(' ').map(Number)"
# pixels in the colour of the putamen, #ec0db0, alone or over grey, in each of the three pictures
PURPLE = """[...document.querySelectorAll(".panel canvas")].map((canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let p = 0; p < pixels.length; p += 4) {
    const [red, green, blue] = pixels.subarray(p, p + 3);
    count += red > green + 40 && blue > green + 25 && red > blue + 5;
  }
  return count;
})"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    browser = chromium.Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started: chromium.Browser) -> Iterator[chromium.Browser]:
    """The browser in its usual size and colours; a page that complains, or asks for anything, fails the test."""
    started.resize(1400, 1000)
    started.prefer("light")
    yield started
    assert started.complaints == []
    assert started.run("document.documentElement.dataset.errors") is None


def frame(browser: chromium.Browser) -> None:
    """Wait until what was asked for is painted."""
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")


def place(browser: chromium.Browser, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element that is brought into the window first."""
    box = browser.run(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
        "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    return tuple(box)


def click(browser: chromium.Browser, selector: str) -> None:
    left, top, width, height = place(browser, selector)
    browser.click(left + width / 2, top + height / 2)
    frame(browser)


def names(browser: chromium.Browser, selector: str) -> list[str]:
    """Names of the rows that are not hidden."""
    return browser.run(
        f"[...document.querySelectorAll({selector!r})].filter((r) => !r.hidden).map((r) => r.dataset.name)"
    )


def every_label() -> tuple[Image, Image]:
    """A small volume in which each label of the set stands, at random."""
    rng = np.random.default_rng(0)
    ids = report.LABELS.ids[rng.integers(0, len(report.LABELS), (21, 19, 17))].astype(np.int16)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    return Image(rng.uniform(0, 500, ids.shape).astype(np.float32), affine), Image(ids, affine)


def test_labels_are_read_exactly(browser: chromium.Browser) -> None:
    scan, labels = every_label()
    browser.open(scan_page(report.manifest(), scan, labels, report.LABELS))
    channels = shown(scan, labels, report.LABELS).channels
    found = browser.run("({...document.body.dataset})")
    assert found["ready"] == "1"
    assert len(np.unique(channels)) == len(report.LABELS)
    assert int(found["adler32"]) == zlib.adler32(np.ascontiguousarray(channels.T).tobytes())
    assert browser.run("document.getElementById('inexact').hidden")
    i, j, k = map(int, found["at"].split())
    assert found["label"] == report.LABELS.names[channels[i, j, k]]


def test_a_wrong_reading_is_told(browser: chromium.Browser) -> None:
    page = scan_page(report.manifest(), *report.head_images(), report.LABELS)
    start = page.index('"adler32":') + len('"adler32":')
    browser.open(f"{page[:start]}1{page[start:]}")
    assert not browser.run("document.getElementById('inexact').hidden")


def test_hostile_names_stay_text(browser: chromium.Browser) -> None:
    name = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    record = report.manifest(name)
    record["structures"][0]["name"] = name
    page = with_cohort(
        scan_page(record, *report.head_images(), report.LABELS), {"self": 0, "count": 1, "structures": {}}
    )
    for text in (page, cohort_page([record, {"name": name, "error": name}], {})):
        browser.open(text.replace("Content-Security-Policy", "nothing"))  # escaping alone must do
        assert "owned" not in browser.run("document.title").removeprefix(name)
        assert browser.run("document.body.dataset.ready") == "1"
        assert name in browser.run("document.body.textContent")


def open_head(browser: chromium.Browser, cohort: dict) -> np.ndarray:
    """Open a page of a small head; returns its channels."""
    scan, labels = report.head_images()
    browser.open(with_cohort(scan_page(report.manifest(), scan, labels, report.LABELS), cohort))
    return shown(scan, labels, report.LABELS).channels


def test_a_row_of_the_table_leads_to_its_structure(browser: chromium.Browser) -> None:
    channels = open_head(browser, {})
    row = 'tr[data-name="left putamen"]'
    click(browser, f"{row} .pick")
    centre = np.argwhere(channels == report.LABELS.names.index("left putamen")).mean(0)
    assert browser.run("document.body.dataset.label") == "left putamen"
    assert np.abs(np.array(browser.run(AT)) - centre).max() <= 1
    assert browser.run(f"document.querySelector('{row} .pick').ariaPressed") == "true"
    browser.key("Escape")
    frame(browser)
    assert browser.run(f"document.querySelector('{row} .pick').ariaPressed") == "false"
    outlined = browser.run(PURPLE)
    click(browser, "#fill")
    assert all(full > 1.5 * edge > 0 for full, edge in zip(browser.run(PURPLE), outlined, strict=True))
    click(browser, "#hide-all")
    assert browser.run(PURPLE) == [0, 0, 0]
    click(browser, f"{row} input")
    assert min(browser.run(PURPLE)) > 0
    click(browser, "#reset")
    assert browser.run(PURPLE) == outlined


def test_mouse_wheel_and_keys_move_the_crosshair(browser: chromium.Browser) -> None:
    channels = open_head(browser, {})
    start = browser.run(AT)
    left, top, width, height = place(browser, ".axial canvas")
    browser.mouse("mouseWheel", left + width / 2, top + height / 2, deltaX=0, deltaY=-100)
    frame(browser)
    assert browser.run(AT) == [start[0], start[1], start[2] + 1]
    browser.run("document.querySelector('.axial canvas').focus()")
    for key in ("ArrowRight", "ArrowUp", "PageDown"):
        browser.key(key)
    frame(browser)
    assert browser.run(AT) == [start[0] + 1, start[1] + 1, start[2]]
    browser.mouse("mousePressed", left + width / 2, top + height / 2, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseMoved", left + 2, top + height - 2, button="left", buttons=1)
    browser.mouse("mouseReleased", left + 2, top + height - 2, button="left")
    frame(browser)
    assert browser.run(AT) == [0, 0, start[2]]  # left and behind lie left and below
    assert (
        browser.run("document.getElementById('point-label').textContent")
        == report.LABELS.names[channels[0, 0, start[2]]]
    )
    browser.mouse("mouseMoved", left + 40, top - 10)
    assert browser.run("document.getElementById('point-label').textContent") == ""


def test_a_slice_of_the_mosaic_leads_to_its_place(browser: chromium.Browser) -> None:
    channels = open_head(browser, {})
    left, top, width, height = place(browser, '.tiles button[data-axis="0"]')
    browser.click(left + 0.75 * width, top + 0.25 * height)
    frame(browser)
    i = browser.run("Number(document.querySelector('.tiles button[data-axis=\"0\"]').dataset.at)")
    at = browser.run(AT)
    assert at[0] == i
    assert np.abs(np.array(at[1:]) - 0.75 * np.array(channels.shape[1:])).max() <= 1


def test_places_are_those_of_the_file(browser: chromium.Browser) -> None:
    scan, labels = report.head_images()
    open_head(browser, {})
    click(browser, 'tr[data-name="right putamen"] .pick')
    i, j, k = map(int, browser.run("document.getElementById('cross-voxel').textContent").split(", "))
    assert labels.voxels[i, j, k] == 51
    world = scan.affine[:3] @ [i, j, k, 1]
    letters = [ends[int(mm >= 0)] for ends, mm in zip(("LR", "PA", "IS"), world, strict=True)]
    expected = " ".join(f"{letter}{abs(mm):.1f}" for letter, mm in zip(letters, world, strict=True))
    assert browser.run("document.getElementById('cross-mm').textContent") == expected


def test_headings_sort_and_ranks_wait_for_three_scans(browser: chromium.Browser) -> None:
    rows = {"self": 2, "count": 3, "structures": {"left putamen": [4000.0, 6000.0, 5000.4]}}
    open_head(browser, rows)
    assert names(browser, ".volumes tbody tr") == ["left putamen", "right putamen", "3rd ventricle"]
    click(browser, ".volumes thead .n button")
    assert names(browser, ".volumes tbody tr") == ["right putamen", "left putamen", "3rd ventricle"]
    click(browser, ".volumes thead .n button")
    assert names(browser, ".volumes tbody tr") == ["3rd ventricle", "left putamen", "right putamen"]
    display = "getComputedStyle(document.querySelector('th.rank')).display"
    assert browser.run(display) == "table-cell"
    cell = "document.querySelector('tr[data-name=\"left putamen\"] .rank').textContent"
    assert browser.run(cell) == "50"  # one above, one below, itself left out
    open_head(browser, {"self": 1, "count": 2, "structures": {"left putamen": [4000.0, 5000.4]}})
    assert browser.run(display) == "none"


def test_cohort_page_filters_sorts_and_names_a_dot(browser: chromium.Browser) -> None:
    volumes = (5000.0, 5100.0, 4900.0, 5050.0, 4950.0, 9000.0)
    manifests = [
        report.manifest(f"sub-{n}", findings=[], structures=[report.structure("left putamen", volume_mm3=volume)])
        for n, volume in enumerate(volumes)
    ]
    failed = {"name": "bad", "error": "bad.nii.gz is empty; copy it again"}
    browser.open(cohort_page([*manifests, failed], {"sub-5": "sub-5_report.html"}))
    rows = ".cohort tbody tr"
    for _ in range(2):
        click(browser, ".cohort thead th:nth-child(2) button")
    assert names(browser, rows)[0] == "bad"
    click(browser, "#look-only")
    assert names(browser, rows) == ["bad", "sub-5"]
    click(browser, "#look-only")
    browser.run("const f = document.getElementById('filter'); f.value = 'SUB-2'; f.dispatchEvent(new Event('input'))")
    assert names(browser, rows) == ["sub-2"]
    assert browser.run("document.getElementById('count').textContent") == "1 of 7"
    left, top, width, height = place(browser, '.strip[data-name="left putamen"] canvas')
    for down in range(2, int(height), 4):  # the largest volume lies at the right end, at some height
        browser.mouse("mouseMoved", left + width - 8, top + down)
        if told := browser.run(
            "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
        ):
            break
    assert told == "sub-5: 9\u202f000 mm³, robust z 35.7"
    assert names(browser, ".cohort tr.here") == []  # it is hidden by the filter, though marked
    assert browser.run("document.querySelector('.cohort tr.here').dataset.name") == "sub-5"


@pytest.mark.parametrize("width", [1400, 420])
def test_pages_fit_their_window(browser: chromium.Browser, width: int) -> None:
    browser.resize(width, 900)
    page = scan_page(report.manifest("a_very_long_name_of_a_scan_" * 4), *report.head_images(), report.LABELS)
    for text in (page, cohort_page([report.manifest()], {})):
        browser.open(text)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_pages_follow_the_colour_scheme_and_print_light(browser: chromium.Browser, tmp_path: Path) -> None:
    open_head(browser, {})
    brightness = {}
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        browser.prefer(scheme, media)
        browser.screenshot(tmp_path / "page.png")
        brightness[scheme, media] = np.asarray(Picture.open(tmp_path / "page.png").convert("L"))[:8, -8:].mean()
    assert brightness["light", "screen"] > 220
    assert brightness["dark", "screen"] < 60
    assert brightness["dark", "print"] == 255
