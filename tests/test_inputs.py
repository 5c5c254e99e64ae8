"""Which scans become jobs, and what their results are called."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import ScanError
from phantomseg.inference.inputs import Job, Selection, find_jobs
from phantomseg.inference.names import Names

EVERYTHING = Selection()


def touch(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0" * 128 + b"DICM" if name.endswith(".dcm") else b"")
    return [root / name for name in names]


def text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def volumes(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, count), np.uint8), np.eye(4)), path)
    return path


def found(root: Path, *sources: Path, selection: Selection = EVERYTHING) -> list[tuple[str, str]]:
    """Scan relative to `root`, and its label map, of every job."""
    jobs = find_jobs(sources, root / "out", selection)
    return [(job.scan.relative_to(root).as_posix(), job.names.segmentation.as_posix()) for job in jobs]


def refused(root: Path, *sources: Path, selection: Selection = EVERYTHING) -> str:
    with pytest.raises(ScanError) as error:
        find_jobs(sources, root / "out", selection)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_files_keep_their_order_and_need_not_exist(tmp_path: Path) -> None:
    scans = touch(tmp_path, "b.nii.gz", "a.mgz")
    jobs = find_jobs([*scans, tmp_path / "missing.nii"], tmp_path / "out", EVERYTHING)
    assert jobs == [
        Job(tmp_path / "b.nii.gz", None, Names(PurePath(), "b")),
        Job(tmp_path / "a.mgz", None, Names(PurePath(), "a")),
        Job(tmp_path / "missing.nii", None, Names(PurePath(), "missing")),
    ]


def test_results_of_simple_names() -> None:
    assert [path.as_posix() for path in Names(PurePath("w"), "x").results] == [
        "w/x_dseg.nii.gz",
        "w/x_prob.nii.gz",
        "w/x_mask.nii.gz",
        "w/x_brain.nii.gz",
        "w/x_distance.nii.gz",
        "w/x_space-1mm_image.nii.gz",
        "w/x_space-1mm_dseg.nii.gz",
        "w/x_prob.json",
        "w/x_dseg.tsv",
        "w/x_volumes.tsv",
        "w/x_volumes.json",
        "w/x_report.html",
        "w/x_overlay.png",
        "w/x_manifest.json",
    ]


def test_folder_is_searched_to_the_bottom(tmp_path: Path) -> None:
    touch(tmp_path / "in", "b.nii", "a.NII.GZ", "notes.txt", "z/deep/er/c.mgz", "d/a.nii.gz")
    assert found(tmp_path, tmp_path / "in") == [
        ("in/a.NII.GZ", "a_dseg.nii.gz"),
        ("in/b.nii", "b_dseg.nii.gz"),
        ("in/d/a.nii.gz", "d/a_dseg.nii.gz"),
        ("in/z/deep/er/c.mgz", "z/deep/er/c_dseg.nii.gz"),
    ]


def test_folder_leaves_out_hidden_files_and_results_of_others(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.nii", "in/._a.nii", "in/.git/b.nii", "in/derivatives/c.nii", "in/tool/d.nii")
    text(tmp_path / "in" / "tool" / "dataset_description.json", '{"DatasetType": "derivative"}')
    assert found(tmp_path, tmp_path / "in") == [("in/a.nii", "a_dseg.nii.gz")]
    assert "holds results of a BIDS dataset" in refused(tmp_path, tmp_path / "in" / "tool")
    touch(tmp_path, "in/tool/sub-1/anat/sub-1_seg-phantomseg_dseg.nii.gz")
    assert "anat holds results of a BIDS dataset" in refused(tmp_path, tmp_path / "in" / "tool" / "sub-1" / "anat")


def test_folder_leaves_out_the_output_inside_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "out/a_dseg.nii.gz", "out/sub/unnamed.nii")
    assert found(tmp_path, tmp_path) == [("a.nii", "a_dseg.nii.gz")]


def test_folder_leaves_out_what_phantomseg_wrote_beside_the_scans(tmp_path: Path) -> None:
    results = [path.name for path in Names(PurePath(), "a").results]
    four = Names(PurePath(), "f").of_volume(0, 2)
    touch(tmp_path, "a.nii", "b.nii", "b_brain.nii.gz", *results, four.manifest.name, four.brain.name)
    jobs = find_jobs([tmp_path], tmp_path / "elsewhere", EVERYTHING)
    assert [job.scan.name for job in jobs] == ["a.nii", "b.nii", "b_brain.nii.gz"]  # no manifest of b
    (tmp_path / "b_brain.nii.gz").unlink()
    jobs = find_jobs([tmp_path], tmp_path, EVERYTHING)  # results go beside the scans
    assert [job.scan.name for job in jobs] == ["a.nii", "b.nii"]


def test_dicom_series_counts_as_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "in/p.1/series/1.dcm", "in/p.1/series/2.dcm", "in/p2/1.dcm", "in/p2/converted.nii.gz")
    assert found(tmp_path, tmp_path / "in") == [
        ("in/p.1/series", "p.1/series_dseg.nii.gz"),
        ("in/p2/converted.nii.gz", "p2/converted_dseg.nii.gz"),
        ("in/p2", "p2_dseg.nii.gz"),
    ]
    assert found(tmp_path, tmp_path / "in/p.1/series") == [("in/p.1/series", "series_dseg.nii.gz")]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.nii")
    try:
        os.symlink(tmp_path / "in", tmp_path / "in" / "again")
        os.symlink(tmp_path / "gone.nii", tmp_path / "in" / "b.nii")  # data not fetched: to be reported, not left out
    except OSError:
        pytest.skip("no links here")
    assert found(tmp_path, tmp_path / "in") == [("in/a.nii", "a_dseg.nii.gz"), ("in/b.nii", "b_dseg.nii.gz")]


def test_empty_folder(tmp_path: Path) -> None:
    touch(tmp_path, "in/notes.doc")
    assert "in holds no scans (.nii.gz, .nii, .mgz, .mgh or a DICOM series)" in refused(tmp_path, tmp_path / "in")


def test_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read or written (Permission denied)" in refused(tmp_path, tmp_path)


def test_text_list(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.nii", "elsewhere/b.nii", "in/series/1.dcm")
    listed = text(tmp_path / "in" / "scans.txt", "# scans", "", "  a.nii ", "missing.nii.gz", "../elsewhere/b.nii")
    listed.write_text(listed.read_text() + f"series\n{tmp_path / 'full.nii'}", encoding="utf-8-sig")
    assert [(job.scan, job.names.prefix) for job in find_jobs([listed], tmp_path / "out", EVERYTHING)] == [
        (tmp_path / "in" / "a.nii", "a"),
        (tmp_path / "in" / "missing.nii.gz", "missing"),
        (tmp_path / "in" / ".." / "elsewhere" / "b.nii", "b"),
        (tmp_path / "in" / "series", "series"),
        (tmp_path / "full.nii", "full"),
    ]


def test_missing_list_is_reported_when_read(tmp_path: Path) -> None:
    assert found(tmp_path, tmp_path / "scans.csv") == [("scans.csv", "scans_dseg.nii.gz")]


@pytest.mark.parametrize("ending, separator", [("csv", ","), ("csv", ";"), ("tsv", "\t"), ("CSV", ",")])
def test_table(tmp_path: Path, ending: str, separator: str) -> None:
    rows = [["Scan", "age", " name"], ["x/a.nii", "70", "ward/one"], ["y/a.nii", "", ""], ["", "", ""]]
    table = text(tmp_path / f"scans.{ending}", *(separator.join(row) for row in rows))
    assert found(tmp_path, table) == [("x/a.nii", "ward/one_dseg.nii.gz"), ("y/a.nii", "a_dseg.nii.gz")]


def test_table_with_quotes_and_a_column_path(tmp_path: Path) -> None:
    table = text(tmp_path / "scans.csv", "path,name", '"a, b.nii","c ""d"""')
    assert found(tmp_path, table) == [("a, b.nii", 'c "d"_dseg.nii.gz')]


@pytest.mark.parametrize(
    "name, lines, message",
    [
        ("a.txt", ["", "# none"], "names no scan, wanted one a line; add some"),
        ("a.csv", [""], "has the columns none, wanted one named scan; add it"),
        ("a.csv", ["scan,name"], "names no scan, wanted one a line"),
        ("a.csv", ["file,name", "a.nii,b"], "has the columns file, name, wanted one named scan"),
        ("a.tsv", ["scan,name", "a.nii,b"], "has the columns scan,name, wanted one named scan"),
        ("a.csv", ["scan,name", ",b"], "row 2 of .*a.csv names no scan; fill in its path"),
        ("a.csv", ["scan,name", "a.nii,b", "c,d.nii,e"], "row 3 of .*a.csv has 3 cells, wanted 2; quote"),
        ("a.csv", ["scan,name", "a.nii,../b"], "row 2 of .* has the name '../b', wanted one that stays in"),
        ("a.csv", ["scan,name", "a.nii,/b"], "row 2 of .* has the name '/b', wanted"),
        ("a.csv", ["scan,volume", "a.nii,-1"], "row 2 of .* has the volume '-1', wanted a number from 0"),
        ("a.csv", ["scan,volume", "a.nii,first"], "row 2 of .* has the volume 'first', wanted"),
        ("a.csv", ["scan", '"a.nii'], "cannot be read as a list .*; save it as UTF-8 text"),
        ("a.txt", ["a\0.nii"], "cannot be read as a list .it holds null bytes.; save it"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    assert re.search(message, refused(tmp_path, text(tmp_path / name, *lines)))


def test_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("scänß".encode("utf-16"))
    assert "cannot be read as a list" in refused(tmp_path, tmp_path / "a.txt")


def test_volumes_of_a_file_become_jobs_that_sort(tmp_path: Path) -> None:
    scan = volumes(tmp_path / "a.nii", 11)
    jobs = find_jobs([scan], tmp_path / "out", EVERYTHING)
    assert [job.volume for job in jobs] == list(range(11))
    assert [job.names.report.name for job in jobs[::5]] == [f"a_volume-{n}_report.html" for n in ("00", "05", "10")]
    only = find_jobs([scan], tmp_path / "out", Selection(volume=5))
    assert only == [jobs[5]]


def test_volume_is_chosen_of_files_of_several_only(tmp_path: Path) -> None:
    scans = [volumes(tmp_path / "one.nii", 1), volumes(tmp_path / "two.nii", 2), *touch(tmp_path, "damaged.nii")]
    jobs = find_jobs([*scans, tmp_path / "missing.nii"], tmp_path / "out", Selection(volume=1))
    assert [(job.names.report.name, job.volume) for job in jobs] == [
        ("one_report.html", None),
        ("two_volume-1_report.html", 1),
        ("damaged_report.html", None),
        ("missing_report.html", None),
    ]
    (beyond,) = find_jobs([scans[1]], tmp_path / "out", Selection(volume=7))  # reading it says that there is none
    assert beyond.volume == 7
    assert "volume -1 was asked for, wanted a number from 0" in refused(tmp_path, selection=Selection(volume=-1))


def test_volumes_in_a_table(tmp_path: Path) -> None:
    volumes(tmp_path / "two.nii", 2)
    volumes(tmp_path / "one.nii", 1)
    lines = ["scan,volume,name", "two.nii,1.0,late", "two.nii,0,", "one.nii,0,", "two.nii,,every"]
    jobs = find_jobs([text(tmp_path / "a.csv", *lines[:4])], tmp_path / "out", EVERYTHING)
    assert [(job.names.report.name, job.volume) for job in jobs] == [
        ("late_report.html", 1),
        ("two_volume-0_report.html", 0),
        ("one_report.html", None),
    ]
    jobs = find_jobs([text(tmp_path / "b.csv", lines[0], lines[4])], tmp_path / "out", EVERYTHING)
    assert [job.names.report.name for job in jobs] == ["every_volume-0_report.html", "every_volume-1_report.html"]


def test_same_file_twice_is_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/sub/a.nii")
    monkeypatch.chdir(tmp_path / "in")
    scan = tmp_path / "in" / "sub" / "a.nii"
    assert found(tmp_path, scan, Path("sub/../sub/a.nii").absolute(), tmp_path / "in") == [
        ("in/sub/a.nii", "a_dseg.nii.gz")
    ]
    assert len(find_jobs([Path("sub/a.nii"), scan], tmp_path / "out", EVERYTHING)) == 1
    table = text(tmp_path / "a.csv", "scan,name", "in/sub/a.nii,one", "in/sub/a.nii,two")
    assert "a.nii is given twice, to be called one and two; give it once" in refused(tmp_path, table)


def test_results_never_share_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.nii", "y/a.nii.gz", "y/A.mgz", "z/a_space-1mm.nii")
    x, y, z = (tmp_path / name for name in ("x/a.nii", "y/a.nii.gz", "z/a_space-1mm.nii"))
    message = refused(tmp_path, x, y)
    assert message.startswith(f"{x} and {y} would both be written to a_dseg.nii.gz; rename one")
    assert "table with columns scan and name" in message
    assert "would both be written to" in refused(tmp_path, tmp_path / "y")  # A and a are one on some systems
    assert "would both be written to" in refused(tmp_path, tmp_path / "x", y)
    assert "would both be written to a_space-1mm_dseg.nii.gz" in refused(tmp_path, x, z)
    table = text(tmp_path / "all.csv", "scan,name", "x/a.nii,one", "y/a.nii.gz,two")
    assert len(find_jobs([table], tmp_path / "out", EVERYTHING)) == 2


def test_results_never_replace_a_scan(tmp_path: Path) -> None:
    scans = touch(tmp_path, "a.nii.gz", "a_brain.nii.gz")
    with pytest.raises(ScanError, match=r"results of .*a.nii.gz may replace .*a_brain.nii.gz; choose another output"):
        find_jobs(scans, tmp_path, EVERYTHING)
    assert len(find_jobs(scans, tmp_path / "out", EVERYTHING)) == 2


def test_participants_of_what_is_no_dataset(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.nii")
    message = refused(tmp_path, tmp_path / "in", selection=Selection(participants=("01",)))
    assert "a.nii is of no BIDS dataset, so it has no participant; leave out the participant" in message
    assert "no session" in refused(tmp_path, tmp_path / "in", selection=Selection(sessions=("1",)))
