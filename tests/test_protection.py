"""What is not ours is not replaced, and results of one kind are not taken for those of another."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

import command
import lively
import numpy as np
import phantom
import pytest

from phantomseg.errors import ScanError
from phantomseg.inference import claim
from phantomseg.inference.cohort import Outcome, process_jobs
from phantomseg.inference.inputs import Selection, find_jobs
from phantomseg.inference.options import Options
from phantomseg.inference.results import Outputs
from phantomseg.network.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")
Capture = pytest.CaptureFixture[str]
QUICK = ("--no-flip", "--device", "cpu", "--threads", 1)


def scan(path: Path, shift: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return phantom.save(path, np.roll(command.head_scan(), shift, 0))


def segmented(out: Path, model: Model, *sources: Path, options: Options | None = None) -> list[Outcome]:
    options = options or Options(flip=False)
    return list(process_jobs(find_jobs(sources, out, Selection()), out, model, options))


def only_error(outcomes: list[Outcome]) -> str:
    (outcome,) = outcomes
    assert outcome.error
    return outcome.error


def table(out: Path) -> list[list[str]]:
    return [line.split("\t") for line in (out / "volumes.tsv").read_text(encoding="utf-8").splitlines()]


def test_another_scan_of_the_same_name_is_refused(tmp_path: Path, model: Model) -> None:
    first, second = scan(tmp_path / "a/T1.nii.gz"), scan(tmp_path / "b/T1.nii.gz", 1)
    out = tmp_path / "out"
    segmented(out, model, first)
    before = lively.contents(out)
    assert f"is of {first}, and results of {second} would replace it" in only_error(segmented(out, model, second))
    assert lively.contents(out) == before
    scan(tmp_path / "a/T1.nii.gz", 2)  # the same file, changed
    assert not segmented(out, model, first)[0].error
    moved = shutil.move(tmp_path / "a", tmp_path / "c")  # the same content elsewhere
    assert segmented(out, model, Path(moved) / "T1.nii.gz")[0].skipped


def test_files_of_others_stay(tmp_path: Path, model: Model) -> None:
    source, out = scan(tmp_path / "T1.nii.gz"), tmp_path / "out"
    manual = scan(out / "T1_dseg.nii.gz")
    kept = manual.read_bytes()
    error = only_error(segmented(out, model, source))
    assert f"{manual} would be replaced, and no manifest says that it is a result; rename or remove it" in error
    assert manual.read_bytes() == kept and [path.name for path in out.iterdir()] == ["T1_dseg.nii.gz"]
    manual.rename(out / "T1_mask.nii.gz")  # which is written with the brain alone
    assert not segmented(out, model, source)[0].error
    with_brain = Options(flip=False, outputs=Outputs(brain=True))
    assert "T1_mask.nii.gz would be replaced" in only_error(segmented(out, model, source, options=with_brain))
    assert (out / "T1_mask.nii.gz").read_bytes() == kept
    assert segmented(out, model, source)[0].skipped  # what was there before is there still


@pytest.mark.parametrize("name", ["volumes.tsv", "report.html", "dataset_description.json"])
def test_tables_of_others_stay(tmp_path: Path, model: Model, name: str) -> None:
    source, out = scan(tmp_path / "T1.nii.gz"), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("scan\n../T1.nii.gz\n")
    with pytest.raises(ScanError, match=f"{name} would be replaced, and is no result of PhantomSeg"):
        segmented(out, model, source)


def test_what_lies_beside_a_scan_is_a_scan(tmp_path: Path, model: Model) -> None:
    scan(tmp_path / "T1.nii.gz"), scan(tmp_path / "T1_brain.nii.gz", 1)
    with pytest.raises(ScanError, match=r"results of .*T1.nii.gz may replace .*T1_brain.nii.gz; choose another output"):
        segmented(tmp_path, model, tmp_path)


def test_scans_and_results_share_a_folder(tmp_path: Path, model: Model) -> None:
    scan(tmp_path / "T1.nii.gz"), scan(tmp_path / "T2.nii.gz", 1)
    brains = Options(flip=False, outputs=Outputs(brain=True))
    assert len(segmented(tmp_path, model, tmp_path, options=brains)) == 2
    assert [outcome.skipped for outcome in segmented(tmp_path, model, tmp_path, options=brains)] == [True, True]


def test_what_was_cut_short_is_taken_back_and_is_no_scan(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scan(tmp_path / "T1.nii.gz")
    moved: list[Path] = []

    def dies(stage: Path, folder: Path, paths: Sequence[PurePath]) -> None:
        for path in paths[:2]:
            moved.append(Path(shutil.move(stage / path, folder / path)))
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(claim, "move", dies)  # killed, so that nothing is cleaned up
        patch.setattr(claim, "_clear", lambda *_: None)
        patch.setattr("phantomseg.inference.cohort.sweep", lambda folder: None)
        with pytest.raises(SystemExit):
            segmented(tmp_path, model, tmp_path)
    assert all(path.is_file() for path in moved) and claim.being_moved(tmp_path) >= set(moved)
    assert [job.scan for job in find_jobs([tmp_path], tmp_path, Selection())] == [source]
    claim.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["T1.nii.gz"]
    assert not segmented(tmp_path, model, tmp_path)[0].error


@pytest.mark.parametrize("kind", ["link", "file"])
def test_output_that_can_be_no_folder(tmp_path: Path, model_folder: Path, capfd: Capture, kind: str) -> None:
    source, out = scan(tmp_path / "T1.nii.gz"), tmp_path / "out"
    if kind == "link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        (out / ".phantomseg").write_text("")
    assert command.run("segment", source, "-o", out, "--model", model_folder, *QUICK) == 2
    assert "is a file, or a link to nothing; wanted a folder, choose another one" in capfd.readouterr().err


def test_table_holds_one_label_set_and_no_failures(tmp_path: Path, model_folder: Path) -> None:
    ward, out = tmp_path / "ward", tmp_path / "out"
    scan(ward / "a.nii.gz"), scan(ward / "b.nii.gz", 1)
    run = ("segment", ward, "-o", out, "--model", model_folder, *QUICK)
    assert command.run(*run) == 0
    assert [row[0] for row in table(out)] == ["name", "a", "b"]
    (ward / "b.nii.gz").write_bytes(b"")
    assert command.run(*run, "--labels", "tissue") == 1
    assert [row[0] for row in table(out)] == ["name", "a"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('data-name="b"') == 1 and "empty" in page


def test_results_inside_results_are_their_own(tmp_path: Path, model_folder: Path) -> None:
    source, out = scan(tmp_path / "T1.nii.gz"), tmp_path / "out"
    run = ("segment", source, "--model", model_folder, *QUICK)
    for arguments in ((*run, "-o", out), (*run, "-o", out / "head", "--labels", "head"), (*run, "-o", out)):
        assert command.run(*arguments) == 0
    assert [row[0] for row in table(out)] == ["name", "T1"]


def test_one_page_does_not_name_other_scans(tmp_path: Path, model_folder: Path) -> None:
    for number, name in enumerate(("Meier", "Schmidt", "Weber")):
        scan(tmp_path / f"ward/{name}.nii.gz", number)
    assert command.run("segment", tmp_path / "ward", "-o", tmp_path / "out", "--model", model_folder, *QUICK) == 0
    page = (tmp_path / "out/Schmidt_report.html").read_text(encoding="utf-8")
    assert '"self":1,"count":3' in page and "Meier" not in page and "Weber" not in page


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_name_that_is_no_text(tmp_path: Path, model_folder: Path, capfd: Capture) -> None:
    scan(tmp_path / "ward/good.nii.gz")
    os.rename(scan(tmp_path / "ward/b.nii.gz", 1), os.fsencode(tmp_path / "ward") + b"/M\xfcller.nii.gz")
    run = ("segment", tmp_path / "ward", "-o", tmp_path / "out", "--model", model_folder, *QUICK)
    assert command.run(*run) == 0
    assert [row[0] for row in table(tmp_path / "out")] == ["name", "M\\udcfcller", "good"]
    assert "M\\udcfcller" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    capfd.readouterr()
    assert command.run(*run) == 0
    assert capfd.readouterr().out == "2 of 2 finished before; --no-resume does them again\n"


def dataset(root: Path, label: str, shift: int = 0) -> Path:
    scan(root / f"sub-{label}/anat/sub-{label}_T1w.nii.gz", shift)
    (root / f"sub-{label}/func").mkdir()
    phantom.save(root / f"sub-{label}/func/sub-{label}_bold.nii.gz", np.zeros((2, 2, 2, 9), np.float32))
    return root


def test_results_are_of_one_dataset(tmp_path: Path, model: Model) -> None:
    first, second, out = dataset(tmp_path / "d1", "1"), dataset(tmp_path / "d2", "2", 1), tmp_path / "out"
    with pytest.raises(ScanError, match=r"d1 and .*d2 are two BIDS datasets; give one at a time"):
        segmented(out, model, first, second)
    segmented(out, model, first)
    with pytest.raises(ScanError, match=r"holds results of the dataset file:.*d1, and these would be of file:.*d2"):
        segmented(out, model, second)
    assert segmented(out, model, first)[0].skipped


def test_damaged_description_is_told_in_one_sentence(tmp_path: Path, model: Model) -> None:
    root, out = dataset(tmp_path / "d1", "1"), tmp_path / "out"
    segmented(out, model, root)
    path = out / "dataset_description.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ScanError, match="holds results of the dataset that is not known, and these would be of file:"):
        segmented(out, model, root)


def test_datasets_are_known_inside_folders(tmp_path: Path, model: Model) -> None:
    root = dataset(tmp_path / "study/d1", "1")
    (job,) = find_jobs([tmp_path / "study"], tmp_path / "out", Selection())
    assert job.names.bids and job.dataset == root
    with pytest.raises(ScanError, match="sub-1 is part of the BIDS dataset .*d1; give that, with --participant"):
        find_jobs([root / "sub-1"], tmp_path / "out", Selection())
    segmented(root / "deriv", model, root)  # results are those of a dataset from the first scan on
    assert json.loads((root / "deriv/dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert find_jobs([tmp_path / "study"], tmp_path / "out", Selection()) == [job]


def test_folder_that_may_not_be_read_is_one_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = scan(tmp_path / "in/b/T1.nii.gz")
    (tmp_path / "in/lost+found").mkdir()
    listed = Path.iterdir

    def guarded(folder: Path) -> object:
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", guarded)
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", Selection())
    assert [job.scan for job in jobs] == [good, tmp_path / "in/lost+found"]


def test_series_may_be_its_own_output(tmp_path: Path, model: Model) -> None:
    pytest.importorskip("pydicom")
    from test_dicom import series

    folder = series(tmp_path / "series")
    assert not segmented(folder, model, folder)[0].error
    (folder / "Thumbs.db").write_bytes(b"\0" * 300)
    assert [outcome.skipped for outcome in segmented(folder, model, folder)] == [True]
