"""Pages of one scan and of many, as text: what is in them, and what cannot get into them."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib

import numpy as np
import pytest
import report
from PIL import Image as Picture

from phantomseg.errors import GeometryError, LabelError, PhantomSegError
from phantomseg.image.image import Image
from phantomseg.labels import LabelSet
from phantomseg.labels.labelset import Label
from phantomseg.report.cohort_page import cohort_page
from phantomseg.report.mosaic import mosaics
from phantomseg.report.outliers import cohort_rows, measured, robust_z, unusual
from phantomseg.report.page import scan_page, with_cohort
from phantomseg.report.shown import shown
from phantomseg.report.sprites import sprites

HOSTILE = "</script><script>alert(1)</script>\"'&"
OUTSIDE = re.compile(r"https?:|//[a-z]|url\(|@import|<link|<iframe|<img src=\"(?!data:)", re.IGNORECASE)


def page(record: dict | None = None) -> str:
    return scan_page(record or report.manifest(), *report.head_images(), report.LABELS)


def outside_of_data(text: str) -> str:
    """The page without its base64, in which any short string can occur."""
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", text)


def embedded(text: str, key: str) -> dict:
    return json.loads(re.search(f'<script type="application/json" id="{key}">(.*?)</script>', text).group(1))


def text_of(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).replace("\u202f", " ")


def test_scan_page_shows_the_record() -> None:
    shown_text = text_of(page())
    for expected in (
        "sub-01_T1w", "good 0.83", "2026-11-21 18:00 UTC", "1 500 mL", "slices are thick", "read the intervals",
        "1 in order", "5 000", "4 500–5 500", "−2.0 %", "61.3", "20 × 22 × 18 voxels of 2 × 2 × 3 mm, LAS", "torch cpu",
        "0123456789abcdef", "fedcba9876543210", "5.8 s", "1 580 MB", "123 456", "For research use; not for diagnosis.",
    ):  # fmt: skip
        assert expected in shown_text, expected


def test_pages_load_nothing_and_say_so() -> None:
    for text in (page(), cohort_page([report.manifest()], {"sub-01_T1w": "sub-01_T1w_report.html"})):
        assert not OUTSIDE.search(outside_of_data(text))
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "unsafe-inline" not in policy.split("script-src")[1]


def test_nothing_from_outside_becomes_markup() -> None:
    record = report.manifest(
        HOSTILE, scan=HOSTILE, finished=HOSTILE, phantomseg=HOSTILE, options={HOSTILE: HOSTILE}, machine=HOSTILE,
        findings=[{"level": level, "what": HOSTILE, "fix": HOSTILE} for level in ("ok", "warning", HOSTILE)],
        outputs=[{"path": HOSTILE, "bytes": 1, "sha256": HOSTILE}],
    )  # fmt: skip
    record["structures"][0]["name"] = HOSTILE
    record["grid"]["orientation"] = HOSTILE
    rows = {"self": 0, "count": 1, "structures": {HOSTILE: [1.0]}}
    failed = {"name": HOSTILE, "error": HOSTILE}
    for text in (with_cohort(page(record), rows), cohort_page([record, failed], {HOSTILE: HOSTILE})):
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in text
        assert text.count("<script") == text.count("</script>") == page_scripts(text)


def page_scripts(text: str) -> int:
    """Scripts that may run, by the hashes of the policy, and those that are data."""
    return text.count("'sha256-") + text.count('type="application/json"')


def test_columns_without_numbers_are_left_out() -> None:
    text = page(report.nothing_known("x"))
    assert "not estimated" in text
    assert "90 % interval" in page()
    assert not {"90 % interval", "left/right"} & set(re.findall(r'<button type="button">([^<]*)</button>', text))
    assert text.count('<tr data-channel="') == 2
    assert 'class="second absent"' in text


def test_a_record_may_lack_almost_everything() -> None:
    text = page({"name": "x"})
    assert "Nothing was checked." in text
    assert '<tr data-channel="' not in text


def test_left_and_right_lie_below_each_other() -> None:
    assert re.findall(r'data-name="([^"]*)"', page()) == ["left putamen", "right putamen", "3rd ventricle"]


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 1, 1), (12, 14, 1), (1, 14, 12), (64, 2, 2)])
def test_any_shape_makes_a_page(shape: tuple[int, int, int]) -> None:
    ids = np.full(shape, 10, np.int16)
    scan = Image(np.arange(ids.size, dtype=np.float32).reshape(shape), np.diag([1, 1, 5, 1]))
    data = embedded(scan_page(report.manifest(), scan, Image(ids, scan.affine), report.LABELS), "scan")
    assert data["shape"] == list(shape)
    assert all(0 <= at < n for at, n in zip(data["start"], shape, strict=True))


def test_no_label_anywhere_makes_a_page() -> None:
    scan, labels = report.head_images()
    nothing = labels.with_voxels(np.zeros_like(labels.voxels))
    data = embedded(scan_page(report.manifest(), scan, nothing, report.LABELS), "scan")
    assert unpacked(data).max() == 0


def test_shown_keeps_sides_and_knows_the_way_back() -> None:
    scan, labels = report.head_images()
    volume = shown(scan, labels, report.LABELS)
    left = report.LABELS.names.index("left putamen")
    found = np.argwhere(volume.channels == left).mean(0)
    assert found[0] < volume.channels.shape[0] / 2  # axes run to the right: left comes first
    i, j, k = np.round(volume.to_file @ [*np.argwhere(volume.channels == left)[0], 1])[:3].astype(int)
    assert labels.voxels[i, j, k] == 12
    np.testing.assert_allclose(volume.affine @ [*found, 1], scan.affine @ volume.to_file @ [*found, 1], atol=1e-9)
    assert volume.grey.max() == 255


def test_shown_is_made_coarser_but_never_finer() -> None:
    voxels = np.zeros((20, 20, 5), np.float32)
    voxels[2:18, 2:18, 1:4] = 100.0
    scan = Image(voxels, np.diag([1.0, 1.0, 4.0, 1.0]))
    volume = shown(scan, scan.with_voxels(voxels.astype(np.int16) // 50), report.LABELS, most_voxels=500)
    assert volume.grey.shape == (10, 10, 5)
    np.testing.assert_allclose(volume.spacing_mm, [2, 2, 4])
    np.testing.assert_allclose(volume.affine[:3, 3], [0.5, 0.5, 0])  # outer faces coincide
    assert (volume.channels == 1).sum() == 8 * 8 * 3
    assert volume.grey[4:6, 4:6, 2].min() == 255


def test_shown_cuts_the_air_but_no_label() -> None:
    voxels = np.zeros((30, 30, 30), np.float32)
    voxels[10:20, 10:20, 10:20] = 100.0
    ids = np.zeros(voxels.shape, np.int16)
    ids[25, 15, 15] = 2
    scan = Image(voxels, np.eye(4))
    assert shown(scan, scan.with_voxels(ids), report.LABELS).grey.shape == (20, 14, 14)


def test_tomography_is_windowed() -> None:
    voxels = np.full((8, 8, 8), -1000.0, np.float32)
    voxels[2:6, 2:6, 2:6] = np.linspace(-100, 1500, 64).reshape(4, 4, 4)
    scan = Image(voxels, np.eye(4))
    nothing = scan.with_voxels(np.zeros_like(voxels, np.int16))
    volume = shown(scan, nothing, report.LABELS)
    assert (volume.low, volume.high, volume.window, volume.unit) == (-150.0, 250.0, (-40.0, 120.0), "HU")
    assert shown(scan, nothing, report.LABELS, ct=False).low == -1000.0
    bright = np.random.default_rng(0).normal(600, 60, (8, 8, 8)).astype(np.float32)
    bright[0, 0, 0] = -1000.0  # one voxel makes no tomography
    assert shown(Image(bright, np.eye(4)), nothing, report.LABELS).unit == ""


def test_shown_refuses_what_it_cannot_show() -> None:
    scan, labels = report.head_images()
    with pytest.raises(GeometryError, match="give both on one grid"):
        shown(scan, Image(labels.voxels[1:], labels.affine), report.LABELS)
    many = LabelSet("many", tuple(Label(i, f"l{i}", "", "", "#000000") for i in range(257)))
    with pytest.raises(LabelError, match="at most 256"):
        shown(scan, labels, many)


def test_labels_survive_their_sheet() -> None:
    volume = shown(*report.head_images(), report.LABELS)
    data = sprites(volume)
    np.testing.assert_array_equal(unpacked(data), volume.channels)
    assert data["adler32"] == zlib.adler32(np.ascontiguousarray(volume.channels.T).tobytes())
    assert [n % 8 for n in data["tile"]] == [0, 0]
    assert b"gAMA" not in base64.b64decode(
        data["channels"].partition(",")[2]
    )  # nor anything else to correct colours by


def unpacked(data: dict) -> np.ndarray:
    """Channels (I, J, K) out of their sheet."""
    sheet = np.asarray(Picture.open(io.BytesIO(base64.b64decode(data["channels"].partition(",")[2]))))
    width, height, count = data["shape"]
    wide, high = data["tile"]
    tiles = [divmod(k, data["columns"]) for k in range(count)]
    return np.stack([sheet[r * high : r * high + height, c * wide : c * wide + width].T for r, c in tiles], axis=-1)


def test_mosaics_outline_labels_in_their_colour() -> None:
    voxels, ids = np.zeros((24, 24, 24), np.float32), np.zeros((24, 24, 24), np.int16)
    ids[8:16, 8:16, 8:16] = 12  # left putamen, #ec0db0
    voxels[6:18, 6:18, 6:18] = 100.0
    scan = Image(voxels, np.eye(4))
    volume = shown(scan, scan.with_voxels(ids), report.LABELS)
    rows = mosaics(volume, report.LABELS)
    assert [row.plane.name for row in rows] == ["axial", "coronal", "sagittal"]
    assert all(len(row.slices) == 5 for row in rows)
    assert rows[0].slices == (4, 6, 8, 9, 11)  # of 16 after cropping, the label from 4 to 11
    picture = Picture.open(io.BytesIO(base64.b64decode(rows[0].source.partition(",")[2])))
    assert picture.size == (rows[0].width, rows[0].height)
    tile = np.asarray(picture)[:, : rows[0].height].astype(int)
    color = np.abs(tile - [0xEC, 0x0D, 0xB0]).sum(-1) < 60
    edge = rows[0].height * 4 // 16
    assert color[edge + 1, edge + 10 : -edge - 10].mean() > 0.9 or color[edge, edge + 10 : -edge - 10].mean() > 0.9
    assert not color[rows[0].height // 2, edge + 8 : -edge - 8].any()  # outlined, not filled


def test_a_cohort_is_put_in_and_replaced() -> None:
    text = page()
    assert embedded(text, "cohort") == {}
    rows = {"count": 2, "structures": {"</script>": [1.5, float("nan")]}}
    once = with_cohort(text, rows)
    assert embedded(once, "cohort") == {"count": 2, "structures": {"</script>": [1.5, None]}}
    assert with_cohort(once, {}) == text
    with pytest.raises(PhantomSegError, match="no place for a cohort"):
        with_cohort("<html></html>", rows)


def cohort(*volumes_mm3: float) -> list[dict]:
    return [
        report.manifest(f"sub-{number}", structures=[report.structure("left putamen", volume_mm3=volume)])
        for number, volume in enumerate(volumes_mm3)
    ]


def test_robust_z_needs_five_values_and_a_spread() -> None:
    assert robust_z([1.0, 2.0, 3.0, 100.0]) == [None] * 4
    assert robust_z([5.0, 5.0, 5.0, 5.0, 9.0]) == [None] * 5
    z = robust_z([8.0, 9.0, None, 10.0, 11.0, 12.0])  # median 10, deviations 2 1 0 1 2, their median 1
    assert z[2] is None
    assert z[0] == pytest.approx(-2 / 1.4826)


def test_unusual_volumes_are_named() -> None:
    manifests = cohort(5000, 5100, 4900, 5050, 4950, 9000)
    rows = measured(manifests)
    assert [row.name for row in rows] == ["intracranial volume", "left putamen"]
    ((name, z),) = unusual(rows, 5)
    assert name == "left putamen"
    assert z == pytest.approx((9000 - 5025) / (1.4826 * 75))  # deviations 25 75 125 25 75 3975
    text = cohort_page(manifests, {})
    assert "left putamen <b>+35.7</b>" in text
    assert re.findall(r'data-name="(sub-\d)" data-look="0"', text) == []  # each has a warning
    assert "no volume is called unusual" not in text
    assert "With 4 here, no volume is called unusual" in cohort_page(manifests[:4], {})


def test_cohort_page_tells_what_failed_and_links_the_rest() -> None:
    failed = {"name": "bad", "error": "bad.nii.gz is empty; copy it again"}
    text = cohort_page([*cohort(5000.0), failed], {"sub-0": "a b#1?.html", "bad": "javascript:alert(1)"})
    assert '<a href="a%20b%231%3F.html">sub-0</a>' in text
    assert 'href="javascript%3Aalert%281%29"' in text
    assert "bad.nii.gz is empty; copy it again" in text
    facts = text_of(text)
    assert "Finished 1" in facts
    assert "Failed 1" in facts
    assert "1, 0, 0" in facts
    assert embedded(text, "plots")["rows"]["left putamen"]["values"] == [5000.0, None]


def test_cohort_page_of_masks_tells_the_volume_of_the_brain() -> None:
    brains = [
        report.manifest(name, intracranial_mm3=None, structures=[{"name": "brain", "volume_mm3": volume}])
        for name, volume in (("man", 1.25e6), ("mouse", 432.1))
    ]
    text = cohort_page(brains, {})
    assert "brain mL" in text and "intracranial" not in text
    assert '<td class="n" data-value="432.1">0.43</td>' in text and ">1\u202f250</td>" in text
    assert "intracranial mL" in cohort_page(cohort(5000.0), {}) and "volume mL" in cohort_page(
        [*brains, *cohort(5000.0)], {}
    )


def test_cohort_page_with_nothing_known_or_nobody() -> None:
    assert "not estimated" in cohort_page([report.nothing_known("x")], {})
    assert "0 scans" in cohort_page([], {})
    assert "1 scan<" in cohort_page([{"name": "x", "error": "no"}], {})


def test_cohort_rows_hold_the_scans_that_were_segmented() -> None:
    rows = cohort_rows([*cohort(5000.0, 5100.0), {"name": "bad", "error": "no"}])
    assert rows == {"count": 2, "structures": {"left putamen": [5000.0, 5100.0]}}
