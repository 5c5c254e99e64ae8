"""Studies whose scans are changed, repeated or synthesised, and those of groups and models."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom
import pytest
import study
import torch
from scipy import ndimage

from phantomseg.evaluation.statistics import cohens_d, corrected
from phantomseg.image.image import Image
from phantomseg.labels import label_set, merge
from phantomseg.studies.degrade import acquisitions, inverted, thickened
from phantomseg.studies.resolution import voxel_axis
from phantomseg.studies.tables import averaged, select, statistics
from phantomseg.studies.thinning import _head, lost_share, thinned
from phantomseg.studies.views import FOREGROUND, MERGED, SIDES, TISSUES, structures_of
from phantomseg.synth.channels import channel

Capture = pytest.CaptureFixture[str]
CLASSIFY = """
import sys
import nibabel as nib
import numpy as np
given, made = sys.argv[1:3]
scan = nib.load(given)
values = np.asanyarray(scan.dataobj)
cortex = (values > 0.5) & (values < 0.75)  # grey matter in the synthetic contrast
nib.save(nib.Nifti1Image(np.where(cortex, 3, 0).astype(np.int16), scan.affine), made)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        study.pair(tmp_path / "scans", name)
    return tmp_path


def test_resolution_has_every_spacing_and_direction(folder: Path) -> None:
    path = study.data(folder, study.command_tool(folder, "snap", "snap"))
    assert study.study("resolution", path, "--most", "1") == 0
    out = folder / "out" / "resolution"
    rows = study.chosen(study.table(out / "rows.csv"), view="foreground")
    conditions = {(row["spacing_mm"], row["direction"]) for row in rows}
    assert conditions == {("0.0", "as it is")} | {
        (mm, direction) for mm in ("3.0", "5.0", "7.0") for direction in ("sagittal", "coronal", "axial")
    }
    dice = {(row["spacing_mm"], row["direction"]): float(row["dice"]) for row in rows}
    assert dice["0.0", "as it is"] == 1
    assert all(dice["3.0", d] > dice["7.0", d] for d in ("sagittal", "coronal", "axial"))
    assert (out / "curve.png").is_file() and (out / "report.html").is_file()


def test_thick_slices_by_hand() -> None:
    voxels = np.zeros((12, 4, 4), dtype=np.float32)
    voxels[6] = 1
    image = Image(voxels, np.diag([1.0, 1.0, 1.0, 1.0]))
    thick = thickened(image, 0, 3.0).voxels[:, 2, 2]
    assert thick[[0, 3, 6, 9]] == pytest.approx(thick[[0, 3, 6, 9]]) and thick.argmax() == 6
    assert thick[4] == pytest.approx(thick[3] + (thick[6] - thick[3]) / 3, abs=1e-6)  # linear between slices
    assert thick[6] == pytest.approx(1 / (math.sqrt(2 * math.pi) * 3 / 2.355), rel=0.02)  # peak of the slice profile


def test_slices_between_voxels_do_not_move_what_they_show() -> None:
    ramp = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 3, 3)).astype(np.float32)
    thick = thickened(Image(ramp, np.diag([1.5, 1, 1, 1])), 0, 5.0).voxels
    np.testing.assert_allclose(thick[8:30], ramp[8:30], atol=1e-3)  # blur and interpolation leave a ramp alone


def test_slices_that_are_thick_already_are_left_as_they_are(folder: Path) -> None:
    for name in ("one_T1w", "one_dseg"):
        image = nib.load(folder / "scans" / f"{name}.nii.gz")
        affine = image.affine @ np.diag([1, 1, 4, 1])
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), folder / "scans" / f"{name}.nii.gz")
    assert study.study("resolution", study.data(folder, study.command_tool(folder, "snap", "snap")), "--most", "1") == 0
    rows = study.chosen(study.table(folder / "out" / "resolution" / "rows.csv"), view="foreground")
    assert {(row["spacing_mm"], row["direction"]) for row in rows if row["direction"] == "axial"} == {
        ("5.0", "axial"), ("7.0", "axial")
    }  # fmt: skip
    assert len(rows) == 9


def test_slices_lie_across_axes_of_the_head_not_of_the_file() -> None:
    affine = np.array([[0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    image = Image(np.zeros((2, 3, 4)), affine)
    assert [voxel_axis(image, world) for world in range(3)] == [2, 0, 1]


def test_inverting_and_acquiring_again() -> None:
    image = Image(study.VALUES.astype(np.float32), np.eye(4))
    other = inverted(image).voxels
    assert (other[study.VALUES == 0] == 0).all() and (other[study.VALUES == 12] == 51 - 12).all()
    first, second = acquisitions(image)
    assert not np.allclose(first.voxels, second.voxels) and (first.voxels[study.VALUES == 0] == 0).all()
    again = acquisitions(image)
    assert np.array_equal(again[0].voxels, first.voxels) and np.array_equal(again[1].voxels, second.voxels)


def sessions(folder: Path, key: str = "sessions") -> Path:
    """Two subjects, of which the second moved by a voxel between its scans; a third was scanned once."""
    for name, moved in (("a", 0), ("b", 1)):
        study.scan(folder / "scans" / f"{name}_x.nii.gz")
        study.scan(folder / "scans" / f"{name}_y.nii.gz", np.roll(study.VALUES, moved, axis=0))
    study.scan(folder / "scans" / "c_x.nii.gz")
    path = folder / "data.toml"
    text = f'[datasets.toy]\nfolder = "scans"\n{key} = {{ x = "*_x.nii.gz", y = "*_y.nii.gz" }}\n'
    path.write_text(text + study.command_tool(folder, "copy", "copy"), encoding="utf-8")
    return path


@pytest.mark.parametrize("name, key", [("retest", "sessions"), ("contrast", "images")])
def test_scans_of_one_subject_against_each_other(folder: Path, capfd: Capture, name: str, key: str) -> None:
    path = sessions(folder, key)
    assert study.study(name, path) == 1  # c has one scan
    assert "c_y.nii.gz does not exist; add it, or leave c out" in (
        (folder / "out" / name / "report.html").read_text(encoding="utf-8")
    )
    rows = study.table(folder / "out" / name / "rows.csv")
    assert {row["pair"] for row in rows if row["pair"]} == {"y to x"}
    where = {"view": "sides merged", "structure": "cerebral cortex"}
    (still,), (moved,) = (study.chosen(rows, scan=scan, **where) for scan in "ab")
    assert float(still["dice"]) == 1 and float(still["volume_difference_percent"]) == 0
    cortex = np.isin(study.VALUES, (3, 42))
    both = (cortex & np.roll(cortex, 1, axis=0)).sum()
    assert float(moved["dice"]) == pytest.approx(both / cortex.sum())
    assert (folder / "out" / name / "consistency.png").is_file()


def test_retest_is_simulated_where_there_are_no_sessions(folder: Path) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy", "labels = 'all.csv'"))
    lines = [f"{value},{value if value in (2, 3, 4, 12, 41, 42, 43, 51) else 0}" for value in range(400)]
    (folder / "all.csv").write_text("\n".join(["source,target", *lines]), encoding="utf-8")
    assert study.study("retest", path, "--most", "1") == 0
    rows = study.table(folder / "out" / "retest" / "rows.csv")
    assert {row["dataset"] for row in rows} == {"toy, simulated"}
    assert {row["pair"] for row in rows} == {"second to first", "first to reference", "second to reference"}


def test_sessions_on_another_grid_are_brought_to_the_first(folder: Path) -> None:
    path = sessions(folder)
    flipped = nib.load(folder / "scans" / "a_y.nii.gz")
    orientation = nib.orientations.axcodes2ornt("LAS")
    nib.save(flipped.as_reoriented(orientation), folder / "scans" / "a_y.nii.gz")
    assert study.study("retest", path) == 1
    rows = study.table(folder / "out" / "retest" / "rows.csv")
    assert {float(row["dice"]) for row in study.chosen(rows, scan="a", view="foreground")} == {1.0}


def test_a_layer_of_cortex_is_lost_by_hand() -> None:
    fluid, cortex, white = (channel(value) for value in (24, 3, 2))
    labels = torch.tensor([fluid, cortex, cortex, cortex, white], dtype=torch.uint8).view(1, 1, 5)
    for voxels, lost in ((0.0, [0, 0, 0]), (0.25, [0.25, 0, 0]), (1.5, [1, 0.5, 0]), (3.0, [1, 1, 1])):
        assert lost_share(labels, voxels).flatten().tolist() == pytest.approx([0, *lost, 0])


def test_heads_lose_what_they_are_told(template_folder: Path) -> None:
    template = template_folder / "one.nii.gz"
    volumes = [thinned(template, mm, 5, level).cortex_mm3 for level, mm in enumerate((0.0, 0.2, 0.4, 1.0))]
    assert volumes[0] == pytest.approx(np.isin(phantom.head(), (3, 42)).sum(), rel=0.15)  # warped a little
    assert volumes[0] > volumes[1] > volumes[2] > volumes[3] > 0
    # 0.2 mm is 0.4 of a voxel of 0.5 mm: that is lost by each such voxel with a face to the fluid, and no other
    ids = label_set("generation").ids[_head(template, 5).numpy()]
    touching = ndimage.binary_dilation(ids == 24) & np.isin(ids, (3, 42))
    assert volumes[0] - volumes[1] == pytest.approx(0.4 * touching.sum() / 8, rel=1e-4)
    same, other = thinned(template, 0.2, 5, 1), thinned(template, 0.2, 5, 2)
    assert np.array_equal(thinned(template, 0.2, 5, 1).image.voxels, same.image.voxels)
    assert not np.array_equal(same.image.voxels, other.image.voxels) and same.cortex_mm3 == other.cortex_mm3


def test_atrophy_is_told_and_seen(folder: Path, template_folder: Path) -> None:
    (folder / "classify.py").write_text(CLASSIFY, encoding="utf-8")
    tool = study.command_tool(folder, "bands", "copy").replace("tool.py copy", "classify.py")
    path = folder / "data.toml"
    path.write_text(f"[datasets.heads]\ntemplates = '{template_folder}'\n{tool}", encoding="utf-8")
    assert study.study("atrophy", path) == 0
    out = folder / "out" / "atrophy"
    rows = study.table(out / "rows.csv")
    assert sorted({row["scan"] for row in rows}) == ["one", "two"] and len(rows) == 14
    for row in rows:
        induced, predicted = float(row["induced_percent"]), float(row["predicted_percent"])
        if row["thinned_mm"] == "0.0":
            assert induced == predicted == 0 and row["relative_error_percent"] == ""
        else:
            assert float(row["relative_error_percent"]) == pytest.approx(100 * abs(predicted - induced) / induced)
            assert float(row["seen"]) == (predicted > 0)
    at_most = [row for row in rows if row["thinned_mm"] == "1.0"]
    assert all(float(row["predicted_percent"]) > 5 for row in at_most)
    lines = study.table(out / "statistics.csv")
    (every,) = study.chosen(lines, measure="relative_error_percent", thinned_mm="all")
    assert every["count"] == "2"  # heads, not levels
    steps = study.chosen(lines, measure="volume against that of 0 mm", thinned_mm="1.0")
    assert [line["p"] for line in steps] == ["0.5"]  # two heads, both less: 2 of 2²


def people(folder: Path, count: int = 6) -> np.ndarray:
    """Scans of controls and patients, whose ventricles are larger; returns the volumes of the ventricles."""
    lines, volumes = ["participant_id\tage\tsex\tgroup\ticv"], []
    rng = np.random.default_rng(0)
    for number in range(2 * count):
        values = study.VALUES.copy()
        free = np.argwhere(values == 2)[: int(rng.integers(0, 40)) + 60 * (number >= count)]
        values[tuple(free.T)] = 4
        study.scan(folder / "scans" / f"p{number:02}_T1w.nii.gz", values)
        group = "AD" if number >= count else "CN"
        lines.append(f"sub-p{number:02}\t{60 + 3 * number % 17}\t{'FM'[number % 2]}\t{group}\t{1500 + number % 5}")
        volumes.append(int(np.isin(values, (4, 43)).sum()))
    lines.append("sub-x\t50\tF\tother\t1500")
    (folder / "participants.tsv").write_text("\n".join(lines), encoding="utf-8")
    return np.array(volumes, dtype=float)


def test_groups_are_told_apart_as_by_hand(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    volumes = people(tmp_path)
    path = tmp_path / "data.toml"
    group = "[group]\ncontrols = 'CN'\npatients = 'AD'\n"
    text = "[datasets.toy]\nfolder = 'scans'\nimage = '*_T1w.nii.gz'\nparticipants = '../participants.tsv'\n"
    path.write_text(text + study.command_tool(tmp_path, "copy", "copy") + group, encoding="utf-8")
    assert study.study("group", path) == 0
    (line,) = study.chosen(study.table(tmp_path / "out" / "group" / "statistics.csv"), structure="lateral ventricle")
    numbers = np.arange(12)
    covariates = np.column_stack([60 + 3 * numbers % 17, numbers % 2 == 0, 1500 + numbers % 5]).astype(float)
    adjusted = corrected(volumes, covariates, numbers < 6).volumes
    expected = cohens_d(adjusted[:6], adjusted[6:])
    assert (line["CN"], line["AD"], line["failed"]) == ("6", "6", "0")
    assert float(line["mean"]) == pytest.approx(expected.d) and expected.d < -1
    assert (float(line["low"]), float(line["high"])) == pytest.approx((expected.low, expected.high))
    rows = study.chosen(study.table(tmp_path / "out" / "group" / "rows.csv"), structure="lateral ventricle")
    assert [float(row["corrected_mm3"]) for row in rows] == pytest.approx(adjusted.tolist())


@pytest.mark.parametrize(
    "group, sentence",
    [
        ("controls = 'healthy'", "have nobody in group 'healthy'; correct [group]"),
        ("age = 'years'", "have no column 'years'; name the one meant in [group].age"),
        ("years = 'age'", "[group] has an unknown key 'years'"),
        ("age = 'sex'\ncontrols = 'CN'\npatients = 'AD'", "4 failures"),
        ("sex = 'participant_id'\ncontrols = 'CN'\npatients = 'AD'", "have the sexes sub-p00, sub-p01"),
    ],
)
def test_participants_that_are_not_understood(tmp_path: Path, capfd: Capture, group: str, sentence: str) -> None:
    (tmp_path / "scans").mkdir()
    people(tmp_path, 2)
    path = tmp_path / "data.toml"
    text = "[datasets.toy]\nfolder = 'scans'\nimage = '*_T1w.nii.gz'\nparticipants = '../participants.tsv'\n"
    path.write_text(text + study.command_tool(tmp_path, "copy", "copy") + f"[group]\n{group}\n", encoding="utf-8")
    assert study.study("group", path) == 2
    assert sentence in capfd.readouterr().err


def test_people_who_cannot_take_part_are_told(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "scans").mkdir()
    people(tmp_path, 4)
    (tmp_path / "scans" / "p01_T1w.nii.gz").unlink()
    text = (tmp_path / "participants.tsv").read_text(encoding="utf-8").replace("sub-p02\t66\tF", "sub-p02\tn/a\tF")
    (tmp_path / "participants.tsv").write_text(text, encoding="utf-8")
    path = tmp_path / "data.toml"
    data = "[datasets.toy]\nfolder = 'scans'\nimage = '*_T1w.nii.gz'\nparticipants = '../participants.tsv'\n"
    group = "[group]\ncontrols = 'CN'\npatients = 'AD'\n"
    path.write_text(data + study.command_tool(tmp_path, "copy", "copy") + group, encoding="utf-8")
    assert study.study("group", path) == 1
    page = (tmp_path / "out" / "group" / "report.html").read_text(encoding="utf-8")
    assert "has no age or no sex" in page and "p01 of" in page and "has no scan" in page
    with open(tmp_path / "participants.tsv", "a", encoding="utf-8") as file:
        file.write("\np03\t70\tF\tCN\t1500")
    assert study.study("group", path) == 2
    assert "name 'p03' twice" in capfd.readouterr().err
    path.write_text(data.replace("image =", "sessions =").replace("'*_T1w.nii.gz'", "{x = '*_T1w.nii.gz'}") + group)
    assert study.study("group", path) == 2
    assert "has participants and sessions, wanted one scan a person" in capfd.readouterr().err
    (tmp_path / "participants.tsv").write_bytes(b"participant_id\tage\xe9\n")
    path.write_text(data + group, encoding="utf-8")
    assert study.study("group", path) == 2
    assert "are no table in UTF-8" in capfd.readouterr().err


def test_ablation_is_one_table_of_tools(folder: Path) -> None:
    tools = study.command_tool(folder, "copy", "copy") + study.command_tool(folder, "snap", "snap")
    assert study.study("ablation", study.data(folder, tools), "--most", "1") == 1  # changed values are no labels
    rows = study.table(folder / "out" / "ablation" / "rows.csv")
    as_is = study.chosen(rows, condition="as it is", structure="mean")
    assert {row["tool"]: row["dice"] for row in as_is} == {"copy": "1.0", "snap": "1.0"}
    failed = [row["condition"] for row in rows if row["error"]]
    assert {row["tool"] for row in rows if row["error"]} == {"copy"} and "contrast inverted" in failed
    lines = study.table(folder / "out" / "ablation" / "statistics.csv")
    (line,) = study.chosen(lines, tool="snap", condition="5 mm, axial", structure="mean", measure="dice")
    assert 0 < float(line["mean"]) < 1
    page = (folder / "out" / "ablation" / "report.html").read_text(encoding="utf-8")
    assert "Mean Dice of structures, sides merged" in page and "contrast inverted" in page


@pytest.mark.parametrize("table", ["freesurfer", "aseg", "neuromorphometrics", "gif", "gouhfi", "manual", "generation"])
def test_tools_that_tell_all_have_all_views(table: str) -> None:
    ids = frozenset(merge(table, "evaluation").target_ids)
    counts = [len(structures_of(view, ids, ids)) for view in (SIDES, MERGED, TISSUES, FOREGROUND)]
    assert counts == [32, 18, 3, 1]


def test_tools_that_lump_have_the_views_they_can_tell() -> None:
    def views(table: str) -> list[int]:
        ids = frozenset(merge(table, "evaluation").target_ids)
        return [len(structures_of(view, ids, ids)) for view in (MERGED, TISSUES, FOREGROUND)]

    assert views("siam") == [10, 3, 1] and views("brainchop") == [17, 3, 1]
    assert views("bids") == [0, 2, 0]  # its fluid is that of ventricles and around the brain
    assert views("tissue") == [3, 0, 0]  # its cerebellum is grey and white


def test_views_give_what_both_can_tell() -> None:
    sided, merged = frozenset({0, 12, 51, 3, 42, 14}), frozenset({0, 612, 603, 14})
    assert list(structures_of(SIDES, sided, sided)) == [
        "left cerebral cortex", "left putamen", "3rd ventricle", "right cerebral cortex", "right putamen"
    ]  # fmt: skip
    assert list(structures_of(SIDES, merged, sided)) == ["3rd ventricle"]
    assert structures_of(MERGED, merged, sided)["putamen"] == (12, 51, 612)
    assert set(structures_of(TISSUES, sided, sided)) == {"grey matter", "white matter", "ventricles"}
    assert structures_of(FOREGROUND, frozenset({0, 656}), sided) == {}  # fluid of any kind in one label
    assert structures_of(FOREGROUND, sided, sided, ("putamen",)) == {FOREGROUND: (12, 51, 612)}


def test_what_was_measured_twice_counts_once() -> None:
    rows = [
        {"tool": "a", "task": f"x{n}", "scan": "x", "rotation": n, "structure": "s", "dice": dice, "hd95_mm": 1.0}
        for n, dice in enumerate((0.5, 0.7, math.nan))
    ]
    rows.append({"tool": "a", "task": "y0", "scan": "y", "rotation": 0, "error": "it fell over"})
    failed, once = averaged(rows, "scan", ("rotation", "hd95_mm"), ("dice",))
    assert failed["task"] == "y" and failed["error"] == "it fell over"
    assert (once["task"], once["structure"]) == ("x", "s") and once["dice"] == pytest.approx(0.6)


def test_statistics_by_hand() -> None:
    rows = [
        {"tool": tool, "task": task, "dataset": "d", "dice": dice}
        for tool, scores in (("a", (0.9, 0.8, 0.7)), ("b", (0.8, 0.6, math.nan)))
        for task, dice in zip("xyz", scores, strict=True)
    ]
    rows.append({"tool": "b", "task": "w", "dataset": "d", "error": "it fell over"})
    first, second = statistics(rows, ("dataset",), ("dice",))
    assert (first["tool"], first["count"], first["failed"]) == ("a", 3, 0) and first["mean"] == pytest.approx(0.8)
    assert (second["count"], second["undefined"], second["failed"]) == (2, 1, 1)
    assert math.isnan(first["p"]) and second["p"] == 0.5 and second["p_bonferroni"] == 0.5  # two pairs: 2 of 2²
    signed = [{"tool": "a", "task": str(n), "volume_error": e} for n, e in enumerate((0.1, -0.4, 0.2))]
    (line,) = statistics(signed, (), ("volume_error",))
    assert line["worst"] == -0.4 and math.isnan(line["p5"])
    assert select(rows, tool="a", task="y") == [rows[1]]
