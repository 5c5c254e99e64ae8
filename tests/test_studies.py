"""Studies by any tool: numbers known by hand, what fails, and what is kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import phantom
import pytest
import study

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two", "three"):
        study.pair(tmp_path / "scans", name)
    return tmp_path


def test_accuracy_of_a_perfect_and_a_swapping_tool(folder: Path, capfd: Capture) -> None:
    tools = study.command_tool(folder, "copy", "copy") + study.command_tool(folder, "swap", "swap")
    assert study.study("accuracy", study.data(folder, tools)) == 0
    out = folder / "out" / "accuracy"
    rows = study.table(out / "rows.csv")
    for tool, sides, laterality in (("copy", "1.0", "0.0"), ("swap", "0.0", "1.0")):
        mine = study.chosen(rows, tool=tool)
        assert {r["dice"] for r in study.chosen(mine, view="sides apart", structure="left putamen")} == {sides}
        assert {r["dice"] for r in study.chosen(mine, view="sides merged", structure="putamen")} == {"1.0"}
        swapped = study.chosen(mine, view="sides apart, swap-corrected")
        assert {r["dice"] for r in swapped if r["dice"]} == {"1.0"} and len(swapped) > 3
        (mean, *_) = study.chosen(swapped, structure="mean")
        assert (mean["dice"], mean["of"]) == ("1.0", "29")  # of both sides of 13 structures, and three of the middle
        assert {r["dice"] for r in study.chosen(mine, view="foreground")} == {"1.0"}
        assert {r["dice"] for r in study.chosen(mine, view="tissues", structure="grey matter")} == {"1.0"}
        assert {r["laterality_error"] for r in study.chosen(mine, structure="all")} == {laterality}
        assert {r["hd95_mm"] for r in study.chosen(mine, view="sides merged", structure="putamen")} == {"0.0"}
        # thalamus is in neither map: a row that says nothing, not a missing one
        assert {r["dice"] for r in study.chosen(mine, view="sides merged", structure="thalamus")} == {""}
    lines = study.table(out / "statistics.csv")
    where = {"measure": "dice", "view": "sides apart", "structure": "mean"}
    (copy,), (swap,) = (study.chosen(lines, tool=tool, **where) for tool in ("copy", "swap"))
    assert (copy["count"], copy["failed"], copy["mean"], copy["worst"], copy["p"]) == ("3", "0", "1.0", "1.0", "")
    assert (swap["mean"], swap["p"]) == ("0.0", "0.25")  # three pairs, all one way: 2 of 2³
    assert float(swap["p_bonferroni"]) == 1.0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Laterality error" in page and "swap-corrected" in page
    for name in ("structures", "views", "volumes"):
        assert (out / f"{name}.png").stat().st_size > 1000 and (out / f"{name}.svg").stat().st_size > 1000
    made = study.labels(out / "maps" / "swap" / "one.nii.gz")
    assert (made[study.VALUES == 12] == 51).all()
    printed = capfd.readouterr()
    assert "6/6  swap  two" in printed.out and "Dice, view by view" in printed.out and printed.err == ""


def test_a_tool_that_fails_on_one_scan(folder: Path, capfd: Capture) -> None:
    tools = study.command_tool(folder, "copy", "copy") + study.command_tool(folder, "picky", "picky")
    path = study.data(folder, tools)
    assert study.study("accuracy", path) == 1
    printed = capfd.readouterr()
    assert "error: picky, two: picky ended with code 1: no brain in here" in printed.err
    out = folder / "out" / "accuracy"
    failed = [row for row in study.table(out / "rows.csv") if row["error"]]
    assert [(row["tool"], row["scan"], row["error"]) for row in failed] == [
        ("picky", "two", "picky ended with code 1: no brain in here")
    ]
    where = {"measure": "dice", "view": "sides merged", "structure": "mean"}
    for tool, count, lost in (("copy", "3", "0"), ("picky", "2", "1")):
        (line,) = study.chosen(study.table(out / "statistics.csv"), tool=tool, **where)
        assert (line["count"], line["failed"]) == (count, lost)
    assert "no brain in here" in (out / "report.html").read_text(encoding="utf-8")
    # the next run asks only for what failed, and finds it mended
    before = len(study.calls(folder))
    (folder / "mended").touch()
    assert study.study("accuracy", path) == 0
    assert [call.split()[0] for call in study.calls(folder)[before:]] == ["picky"]
    (line,) = study.chosen(study.table(out / "statistics.csv"), tool="picky", **where)
    assert (line["count"], line["failed"]) == ("3", "0")


def test_what_is_finished_is_kept_until_it_changes(folder: Path) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("accuracy", path) == 0
    first = (folder / "out" / "accuracy" / "rows.csv").read_bytes()
    assert study.study("accuracy", path, "--resume") == 0 and len(study.calls(folder)) == 3
    assert (folder / "out" / "accuracy" / "rows.csv").read_bytes() == first
    study.pair(folder / "scans", "two", np.roll(study.VALUES, 1, axis=0))
    assert study.study("accuracy", path) == 0 and len(study.calls(folder)) == 4  # another scan two
    assert study.study("accuracy", path, "--no-resume") == 0 and len(study.calls(folder)) == 7
    (folder / "out" / "accuracy" / "work" / "copy" / "one.json").write_text("{", encoding="utf-8")
    assert study.study("accuracy", path) == 0 and len(study.calls(folder)) == 8  # a damaged file is made again


@pytest.mark.parametrize(
    "kind, extra, sentence",
    [
        ("silent", "", r"silent ended well but wrote no \{output\}; correct its command"),
        ("odd", "", "label map holds value 7000"),
        ("crop", "", r"label map of crop has shape \(23, 28, 24\) and the scan \(24, 28, 24\).* add resample = true"),
        ("copy", "labels = 'siam'", "label map holds value 24 .* which has no place in set evaluation"),
        ("slow", "timeout_s = 0.01", "slow took longer than 0.01 s and was stopped; raise timeout_s"),
    ],
)
def test_tools_that_do_it_wrong(folder: Path, capfd: Capture, kind: str, extra: str, sentence: str) -> None:
    path = study.data(folder, study.command_tool(folder, kind, kind, extra))
    assert study.study("accuracy", path, "--most", "1") == 2  # all failed
    assert re.search(sentence, capfd.readouterr().err)
    (row,) = study.table(folder / "out" / "accuracy" / "rows.csv")
    assert row["error"] and (folder / "out" / "accuracy" / "report.html").is_file()


def test_a_tool_that_cannot_be_started(folder: Path, capfd: Capture) -> None:
    path = study.data(folder, "[tools.lost]\ncommand = 'no_such_tool_here {input} {output}'\n")
    assert study.study("accuracy", path, "--most", "1") == 2
    assert "lost cannot be started (No such file or directory: no_such_tool_here)" in capfd.readouterr().err


def test_maps_on_another_grid_are_brought_to_the_scan_where_that_is_said(folder: Path) -> None:
    path = study.data(folder, study.command_tool(folder, "crop", "crop", "resample = true"))
    assert study.study("accuracy", path, "--most", "1") == 0
    made = study.labels(folder / "out" / "accuracy" / "maps" / "crop" / "one.nii.gz")
    assert np.array_equal(made[:-1], study.VALUES[:-1]) and not made[-1].any()


def test_finished_maps_and_a_label_table_of_ones_own(folder: Path, capfd: Capture) -> None:
    (folder / "done").mkdir()
    (folder / "mine.csv").write_text("source,target\n1,left putamen\n2,51\n", encoding="utf-8")
    for name in ("one", "three"):
        values = np.zeros_like(study.VALUES)
        values[study.VALUES == 12], values[study.VALUES == 51] = 1, 2
        phantom.save(folder / "done" / f"{name}_mine.nii.gz", values)
    tools = "[tools.mine]\nfolder = 'done'\nmap = '*_mine.nii.gz'\nlabels = 'mine.csv'\n"
    assert study.study("accuracy", study.data(folder, tools)) == 1
    assert "two_mine.nii.gz does not exist; mine was to have made it: run it on this scan" in capfd.readouterr().err
    rows = study.table(folder / "out" / "accuracy" / "rows.csv")
    sided = study.chosen(rows, view="sides apart", scan="one")
    assert [(row["structure"], row["dice"]) for row in sided if row["dice"] and row["structure"] != "mean"] == [
        ("left putamen", "1.0"), ("right putamen", "1.0")
    ]  # fmt: skip
    assert [row["structure"] for row in study.chosen(rows, view="sides merged", scan="one")] == ["putamen", "mean"]


def test_structures_that_are_asked_for(folder: Path) -> None:
    tools = study.command_tool(folder, "copy", "copy")
    path = study.data(folder, tools, top='structures = ["putamen", "lateral ventricle"]')
    assert study.study("accuracy", path, "--most", "1") == 0
    rows = study.table(folder / "out" / "accuracy" / "rows.csv")
    assert {row["structure"] for row in study.chosen(rows, view="sides merged")} == {
        "putamen",
        "lateral ventricle",
        "mean",
    }
    (foreground,) = study.chosen(rows, view="foreground")
    wanted = np.isin(study.VALUES, (4, 43, 12, 51)).sum()
    assert float(foreground["reference_mm3"]) == wanted


def test_missing_pairs_are_counted(folder: Path, capfd: Capture) -> None:
    (folder / "scans" / "two_dseg.nii.gz").unlink()
    (folder / "scans" / "three_T1w.nii.gz").unlink()
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("accuracy", path) == 1
    out = folder / "out" / "accuracy"
    failed = {row["scan"]: row["error"] for row in study.table(out / "rows.csv") if row["error"]}
    assert "two_T1w.nii.gz has no label map two_dseg.nii.gz; add it" in failed["two"]
    assert "three_dseg.nii.gz has no scan; add it" in failed["three"]
    (line,) = study.chosen(study.table(out / "statistics.csv"), measure="dice", view="foreground")
    assert (line["count"], line["failed"]) == ("1", "2")
    assert "2 failures" in capfd.readouterr().err


def test_references_that_cannot_be_compared(folder: Path, capfd: Capture) -> None:
    phantom.save(folder / "scans" / "two_dseg.nii.gz", study.VALUES[:, :-1])
    phantom.save(folder / "scans" / "three_dseg.nii.gz", np.where(study.VALUES, 9999, 0).astype(np.int16))
    tools = study.command_tool(folder, "copy", "copy")
    assert study.study("accuracy", study.data(folder, tools)) == 1
    told = capfd.readouterr().err
    assert (
        "two_dseg.nii.gz has shape (24, 27, 24), the scan (24, 28, 24), or their affines differ; add resample" in told
    )
    assert "error: copy, three: label map holds value 9999" in told
    assert study.study("accuracy", study.data(folder, tools, "resample = true")) == 1
    rows = study.table(folder / "out" / "accuracy" / "rows.csv")
    assert float(study.chosen(rows, scan="two", view="foreground")[0]["dice"]) > 0.5


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("x", "is not valid TOML"),
        ("", "names no dataset; add a table [datasets.NAME]"),
        ("[datasets.a]\nfolder = 'nowhere'", "nowhere of dataset a is no folder"),
        ("[datasets.a]\nfile = 'x'", "unknown key 'datasets.a.file'; known here are folder, image"),
        ("[dataset.a]", "unknown key 'dataset'; known here are datasets, tools"),
        (
            "structures = 'hippocampus'\n[datasets.a]\nfolder='scans'",
            "structures is 'hippocampus', wanted a list; correct it",
        ),
        (
            "structures = ['hipocampus']\n[datasets.a]\nfolder='scans'",
            "structures has 'hipocampus', wanted names of the set evaluation",
        ),
        (
            "structures = ['left putamen']\n[datasets.a]\nfolder='scans'",
            "wanted names of the set evaluation without left or right",
        ),
        ("tools = 3\n[datasets.a]", "tools is 3, wanted a table"),
        ("[datasets.a]\nimages = '*.nii.gz'", "datasets.a.images is '*.nii.gz', wanted a table"),
        (
            "[datasets.a]\nreference = ['*_dseg.nii.gz']",
            "datasets.a.reference is ['*_dseg.nii.gz'], wanted text in quotes",
        ),
        ("[datasets.a]\nfolder='scans'\nresample = 'false'", "datasets.a.resample is 'false', wanted true or false"),
        ("[datasets.a]\nimage = 'scans/*_T1w.nii.gz'", "wanted a file name with one *"),
        (
            "[datasets.a]\nimages = {x='*_x.nii'}\nsessions = {y='*_y.nii'}",
            "has images and sessions, wanted one of them",
        ),
        ("[datasets.a]\ntemplates = 'nowhere'", "nowhere is no folder of label maps"),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\ncommand='run \"{input} {output}'", "close its quotes"),
        (
            "[datasets.a]\nfolder='scans'\n[tools.b]\ncommand='r {input} {output}'\ntimeout_s='9'",
            "wanted seconds above 0",
        ),
        (
            "[datasets.a]\nfolder='scans'\n[tools.b]\nfolder='x'\nmap='seg.nii.gz'",
            "tools.b.map is 'seg.nii.gz', wanted a file",
        ),
        (
            "[datasets.a]\nfolder='scans'\n[tools.b]\nmodel='head'\nflip='no'",
            "tools.b.flip is 'no', wanted true or false",
        ),
        ("[datasets.'a/b']", "has the name 'a/b', wanted one that can be a folder's"),
        ("[datasets.a]\nimage = 'scan.nii'", "dataset a has the pattern 'scan.nii', wanted a file name with one *"),
        ("[datasets.a]\nimage = '*_none.nii.gz'", "of dataset a holds no file like *_none.nii.gz"),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\nlabels = 'x'", "tools.b has none of model, command and folder"),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\ncommand='run {input}'", "wanted {input} and {output} in it"),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\nmodel='head'\nflp=true", "unknown key 'tools.b.flp'"),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\nfolder='x'\nlabels='nope'", "there is no merge from 'nope'"),
        (
            "[datasets.a]\nfolder='scans'\n[tools.b]\nfolder='x'\nlabels='no.csv'",
            "no.csv cannot be read (No such file or directory); check the path",
        ),
        ("[datasets.a]\nfolder='scans'\n[tools.b]\nmodel='nope'", "there is no model"),
    ],
)
def test_descriptions_that_are_not_understood(folder: Path, capfd: Capture, text: str, sentence: str) -> None:
    (folder / "data.toml").write_text(text, encoding="utf-8")
    capfd.readouterr()
    assert study.study("accuracy", folder / "data.toml") == 2
    printed = capfd.readouterr().err
    assert len(printed.splitlines()) == 1 and printed.startswith("error: ")
    assert sentence in printed
    assert not (folder / "out").exists()


def test_studies_and_data_that_are_not_there(folder: Path, capfd: Capture) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("beauty", path) == 2
    assert "there is no study 'beauty'; choose one of accuracy, resolution" in capfd.readouterr().err
    assert study.study("accuracy", folder / "no.toml") == 2
    assert "no.toml does not exist; give --data a TOML file" in capfd.readouterr().err
    assert study.study("atrophy", path) == 2
    assert "has nothing for the study 'atrophy', which wants a dataset with templates" in capfd.readouterr().err
    assert study.study("accuracy", path, "--tool", "nobody") == 2
    assert "there is no tool 'nobody'; give one of copy, find, head, shapes" in capfd.readouterr().err
    (folder / "scans" / "empty").mkdir()
    path.write_text('[datasets.a]\nfolder = "scans/empty"\n', encoding="utf-8")
    assert study.study("accuracy", path) == 2
    assert "empty of dataset a holds no file like *.nii.gz; correct the pattern, or add scans" in capfd.readouterr().err


def test_only_the_tools_that_are_named(folder: Path) -> None:
    tools = study.command_tool(folder, "copy", "copy") + study.command_tool(folder, "swap", "swap")
    path = study.data(folder, tools)
    assert study.study("accuracy", path, "--tool", "swap", "--most", "2", "--device", "cpu", "--threads", "1") == 0
    rows = study.table(folder / "out" / "accuracy" / "rows.csv")
    assert {row["tool"] for row in rows} == {"swap"} and {row["scan"] for row in rows} == {"one", "three"}


def test_two_tools_of_one_name(folder: Path, capfd: Capture) -> None:
    path = study.data(folder, study.command_tool(folder, "copy", "copy"))
    assert study.study("accuracy", path, "--tool", "copy", "--tool", "copy") == 2
    assert "two tools are called 'copy', wanted names of their own" in capfd.readouterr().err


def test_a_tool_that_fails_on_all_stays_in_the_tables(folder: Path) -> None:
    tools = study.command_tool(folder, "copy", "copy") + study.command_tool(folder, "silent", "silent")
    assert study.study("accuracy", study.data(folder, tools), "--most", "2") == 1
    lines = study.table(folder / "out" / "accuracy" / "statistics.csv")
    (line,) = study.chosen(lines, tool="silent", measure="dice", view="sides merged", structure="mean")
    assert (line["count"], line["failed"], line["mean"]) == ("0", "2", "")


@pytest.mark.parametrize("name", ["accuracy", "resolution", "retest", "ablation"])
def test_pages_of_studies_in_which_all_failed(folder: Path, name: str) -> None:
    assert study.study(name, study.data(folder, study.command_tool(folder, "silent", "silent")), "--most", "1") == 2
    page = (folder / "out" / name / "report.html").read_text(encoding="utf-8")
    assert "silent ended well but wrote no {output}" in page


def test_means_are_over_what_all_tools_tell(folder: Path) -> None:
    (folder / "few.csv").write_text("source,target\n0,0\n12,12\n51,51\n" + "\n".join(
        f"{value},0" for value in (2, 3, 4, 24, 41, 42, 43)), encoding="utf-8")  # fmt: skip
    tools = study.command_tool(folder, "copy", "copy")
    tools += study.command_tool(folder, "few", "copy", "labels = 'few.csv'")
    assert study.study("accuracy", study.data(folder, tools), "--most", "1") == 0
    rows = study.chosen(study.table(folder / "out" / "accuracy" / "rows.csv"), view="sides merged", structure="mean")
    assert [(row["tool"], row["of"], row["dice"]) for row in rows] == [("copy", "1", "1.0"), ("few", "1", "1.0")]


def test_what_has_no_side_is_no_matter_of_sides(folder: Path) -> None:
    values = study.VALUES.copy()
    values[values == 42] = 47  # cerebellum of the right, of the left, and vermis between
    values[values == 3] = 8
    reference = values.copy()
    reference[11:13][np.isin(reference[11:13], (8, 47))] = 630
    (folder / "mine.csv").write_text("source,target\n" + "\n".join(
        f"{value},{value}" for value in (0, 2, 4, 8, 12, 24, 41, 43, 47, 51, 630)), encoding="utf-8")  # fmt: skip
    study.scan(folder / "scans" / "one_T1w.nii.gz", values)
    phantom.save(folder / "scans" / "one_dseg.nii.gz", reference)
    tools = study.command_tool(folder, "copy", "copy", "labels = 'mine.csv'")
    assert study.study("accuracy", study.data(folder, tools, "labels = 'mine.csv'"), "--most", "1") == 0
    rows = study.table(folder / "out" / "accuracy" / "rows.csv")
    for view, structure in (("sides apart", "left cerebellum cortex"), ("sides merged", "cerebellum cortex")):
        (row,) = study.chosen(rows, view=view, structure=structure)
        assert row["dice"] == "1.0"


def test_rows_are_made_again_when_their_table_or_maps_change(folder: Path) -> None:
    (folder / "mine.csv").write_text("source,target\n12,left putamen\n51,right putamen\n" + "\n".join(
        f"{value},0" for value in (2, 3, 4, 24, 41, 42, 43)), encoding="utf-8")  # fmt: skip
    path = study.data(folder, study.command_tool(folder, "copy", "copy"), "labels = 'mine.csv'")
    assert study.study("accuracy", path, "--most", "1") == 0 and len(study.calls(folder)) == 1
    text = (folder / "mine.csv").read_text(encoding="utf-8")
    (folder / "mine.csv").write_text(text.replace("12,left putamen", "12,left caudate"), encoding="utf-8")
    assert study.study("accuracy", path, "--most", "1") == 0 and len(study.calls(folder)) == 2
    (folder / "done").mkdir()
    phantom.save(folder / "done" / "one.nii.gz", study.VALUES)
    path = study.data(folder, "[tools.done]\nfolder = 'done'\n")
    assert study.study("accuracy", path, "--most", "1") == 0
    phantom.save(folder / "done" / "one.nii.gz", np.roll(study.VALUES, 1, axis=0))
    assert study.study("accuracy", path, "--most", "1") == 0
    rows = study.chosen(study.table(folder / "out" / "accuracy" / "rows.csv"), view="foreground")
    assert float(rows[0]["dice"]) < 1


def test_finished_maps_are_named_after_the_scan_and_cannot_be_of_changed_ones(folder: Path, capfd: Capture) -> None:
    (folder / "done").mkdir()
    phantom.save(folder / "done" / "one_T1w_seg.nii.gz", study.VALUES)
    path = study.data(folder, "[tools.done]\nfolder = 'done'\nmap = '*_seg.nii.gz'\n")
    assert study.study("accuracy", path, "--most", "1") == 0
    assert study.study("ablation", path, "--most", "1") == 1
    assert "done has finished label maps alone, and this study changes scans; give a command" in capfd.readouterr().err
