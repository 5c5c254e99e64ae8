"""Many scans: what is finished stays, what fails leaves no trace, and nothing is lost when a run is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import command
import lively
import numpy as np
import phantom
import pytest

from phantomseg.errors import LabelError, ScanError
from phantomseg.inference.cohort import Outcome, process_jobs
from phantomseg.inference.inputs import Selection, find_jobs
from phantomseg.inference.options import Options
from phantomseg.inference.results import Outputs
from phantomseg.network.model import Model, load_model
from phantomseg.report.extras import write_overlay

pytestmark = pytest.mark.usefixtures("one_thread")
Capture = pytest.CaptureFixture[str]
USUAL = set(map(str, Options().record().items()))
QUICK = ("--no-report", "--device", "cpu", "--threads", 1)


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A folder of three scans, each another."""
    (tmp_path / "ward").mkdir()
    return scans(tmp_path / "ward", "abc")


def scans(folder: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        phantom.save(folder / f"{name}.nii.gz", command.head_scan() + (np.arange(18) % (number + 2)) * 20)
    return folder


def segmented(source: Path, model: Model, options: Options | None = None) -> list[Outcome]:
    out = source.parent / "out"
    return list(process_jobs(find_jobs([source], out, Selection()), out, model, options or Options()))


def done(outcomes: list[Outcome]) -> str:
    """Names of the scans that were segmented in this run."""
    assert not [outcome.error for outcome in outcomes if outcome.error]
    return "".join(outcome.job.names.prefix for outcome in outcomes if not outcome.skipped)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_is_finished_is_not_done_again(ward: Path, model: Model) -> None:
    assert done(segmented(ward, model)) == "abc"
    before = lively.contents(ward.parent / "out")
    times = [path.stat().st_mtime_ns for path in sorted((ward.parent / "out").iterdir())]
    os.utime(ward / "a.nii.gz", (1, 1))  # its content is the same
    scans(ward, "abcd")
    assert done(segmented(ward, model)) == "d"
    assert before.items() <= lively.contents(ward.parent / "out").items()
    kept = [path for path in sorted((ward.parent / "out").iterdir()) if not path.name.startswith("d")]
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert done(segmented(ward, model, Options(resume=False))) == "abcd"


@pytest.mark.parametrize(
    "options",
    [
        Options(labels="tissue"),
        Options(flip=False),
        Options(ct=True),
        Options(axcodes="LPS"),
        Options(outputs=Outputs(space="both")),
        Options(outputs=Outputs(probabilities=("all",))),
        Options(outputs=Outputs(brain=True)),
        Options(extras=(write_overlay,)),
    ],
    ids=lambda options: " ".join(sorted(set(map(str, options.record().items())) - USUAL)),
)
def test_other_options_are_other_work(ward: Path, model: Model, options: Options) -> None:
    segmented(ward, model)
    assert done(segmented(ward, model, options)) == "abc"
    assert done(segmented(ward, model, options)) == ""


def test_limits_are_no_other_work(ward: Path, model: Model) -> None:
    segmented(ward, model)
    assert done(segmented(ward, model, Options(most_bytes=1e12, model="called otherwise"))) == ""


def test_other_weights_are_other_work(ward: Path, model: Model, tmp_path: Path) -> None:
    segmented(ward, model)
    assert done(segmented(ward, load_model(lively.model(tmp_path / "other", seed=1)))) == "abc"


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


SPOILED: dict[str, Callable[[Path], object]] = {
    "another scan": lambda root: phantom.save(root / "ward" / "b.nii.gz", command.head_scan()[::-1]),
    "longer": lambda root: grown(root / "out" / "b_volumes.tsv"),
    "cut short": lambda root: (root / "out" / "b_dseg.nii.gz").write_bytes(b"\x1f\x8b"),
    "missing": lambda root: (root / "out" / "b_dseg.nii.gz").unlink(),
    "no manifest": lambda root: (root / "out" / "b_manifest.json").unlink(),
    "half a manifest": lambda root: (root / "out" / "b_manifest.json").write_text('{"hash": "'),
    "another manifest": lambda root: (root / "out" / "b_manifest.json").write_text("[1]"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_only_what_is_not_as_it_was_is_done_again(ward: Path, model: Model, case: str) -> None:
    segmented(ward, model)
    before = lively.contents(ward.parent / "out")
    SPOILED[case](ward.parent)
    assert done(segmented(ward, model)) == "b"
    assert (lively.contents(ward.parent / "out") == before) == (case != "another scan")


def test_failed_scan_leaves_no_trace_and_is_tried_again(ward: Path, model: Model) -> None:
    whole = (ward / "b.nii.gz").read_bytes()
    (ward / "b.nii.gz").write_bytes(whole[:400])
    outcomes = segmented(ward, model)
    assert [outcome.error.startswith(f"{ward / 'b.nii.gz'} ") for outcome in outcomes] == [False, True, False]
    assert not [name for name in files(ward.parent / "out") if name.startswith(("b", "."))]
    (ward / "b.nii.gz").write_bytes(whole)
    assert done(segmented(ward, model)) == "b"


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device", "x.nii.gz"), MemoryError(), RuntimeError("DefaultCPUAllocator: out"), 0],
    ids=repr,
)
def test_scan_that_fails_half_way_leaves_no_trace(
    ward: Path, model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception | int
) -> None:
    def fail(to: object, manifest: object) -> None:
        raise error or LabelError("no")

    outcomes = segmented(ward, model, Options(extras=(fail,)))  # type: ignore[arg-type]
    assert [outcome.error.startswith(str(outcome.job.scan)) for outcome in outcomes] == [True] * 3
    assert not (ward.parent / "out").exists()


def test_result_of_another_time_stays_when_its_scan_fails(ward: Path, model: Model) -> None:
    segmented(ward, model)
    before = lively.contents(ward.parent / "out")
    (ward / "b.nii.gz").write_bytes(b"no scan")
    assert sum(bool(outcome.error) for outcome in segmented(ward, model)) == 1
    assert lively.contents(ward.parent / "out") == before


def test_label_sets_are_not_mixed(ward: Path, model: Model) -> None:
    segmented(ward, model)
    (ward.parent / "other").mkdir()
    other = scans(ward.parent / "other", "de")
    before = lively.contents(ward.parent / "out")
    with pytest.raises(ScanError, match="out holds results of label set 'freesurfer', wanted 'tissue'; choose another"):
        segmented(other, model, Options(labels="tissue"))
    assert lively.contents(ward.parent / "out") == before
    assert done(segmented(ward, model, Options(labels="tissue"))) == "abc"  # none would be left of the former set


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (Options(labels="nothing"), LabelError, "no label set 'nothing'"),
        (Options(labels="generation"), LabelError, "no merge from 'head' to 'generation'"),
        (Options(outputs=Outputs(probabilities=("toe",))), LabelError, "freesurfer has no 'toe'; choose of"),
    ],
)
def test_nothing_is_written_where_nothing_can_be_done(
    ward: Path, model: Model, options: Options, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        segmented(ward, model, options)
    assert files(ward.parent) == ["ward", "ward/a.nii.gz", "ward/b.nii.gz", "ward/c.nii.gz"]


def test_manifest_tells_what_was_done(ward: Path, model: Model) -> None:
    segmented(ward, model, Options(flip=False, outputs=Outputs(brain=True)))
    out = ward.parent / "out"
    manifest = json.loads((out / "b_manifest.json").read_text(encoding="utf-8"))
    assert (manifest["name"], manifest["scan"], manifest["volume"]) == ("b", str(ward / "b.nii.gz"), None)
    assert manifest["model"] == {"name": "head", "weights_sha256": model.weights_sha256}
    assert manifest["options"] | {"flip": False, "brain": True, "labels": "freesurfer"} == manifest["options"]
    assert manifest["grid"] == {"shape": [20, 22, 18], "spacing_mm": [1.0, 1.0, 1.0], "orientation": "RAS"}
    written = {entry["path"]: entry["bytes"] for entry in manifest["outputs"]}
    endings = ("brain.nii.gz", "dseg.nii.gz", "mask.nii.gz", "volumes.json", "volumes.tsv")
    assert written == {f"b_{ending}": (out / f"b_{ending}").stat().st_size for ending in endings}
    assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in manifest["outputs"])
    assert {finding["level"] for finding in manifest["findings"]} == {"ok", "warning"}


def test_scans_of_one_name_in_two_folders_keep_apart(ward: Path, model: Model) -> None:
    for name in ("x", "y"):
        (ward / name).mkdir()
        (ward / "b.nii.gz").replace(ward / "y" / "a.nii.gz") if name == "y" else None
    (ward / "c.nii.gz").replace(ward / "x" / "a.nii.gz")
    assert done(segmented(ward, model)) == "aaa"
    manifests = sorted((ward.parent / "out").rglob("*_manifest.json"))
    assert [json.loads(path.read_text(encoding="utf-8"))["name"] for path in manifests] == ["a", "x/a", "y/a"]


def test_names_may_be_long(tmp_path: Path, model: Model) -> None:
    deep = tmp_path / "ward" / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    scans(deep, ["f" * 120])
    assert [outcome.error for outcome in segmented(tmp_path / "ward", model)] == [""]


def test_record_holds_every_option_that_decides_a_result() -> None:
    decided = {field.name for field in dataclasses.fields(Options)} - {"most_bytes", "resume", "model", "outputs"}
    assert set(Options().record()) == decided | {field.name for field in dataclasses.fields(Outputs)}
