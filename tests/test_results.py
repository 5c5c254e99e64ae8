"""What is written of a scan, by numbers worked out by hand: a network that knows its answer reads the intensity."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import lively
import nibabel as nib
import numpy as np
import phantom
import pytest
import torch
from torch import nn

from phantomseg.errors import LabelError
from phantomseg.image.files import read_image
from phantomseg.inference.cohort import process_jobs
from phantomseg.inference.inputs import Selection, find_jobs
from phantomseg.inference.names import Names, sidecar
from phantomseg.inference.options import Options
from phantomseg.inference.results import Outputs
from phantomseg.inference.summary import write_summary
from phantomseg.labels import label_set
from phantomseg.network.model import Model, load_model
from phantomseg.network.norms import Norms
from phantomseg.network.volume import Block
from phantomseg.report.cohort_report import write_cohort_report
from phantomseg.report.extras import write_report

pytestmark = pytest.mark.usefixtures("one_thread")
HEAD = label_set("head")
PUTAMEN = HEAD.names.index("left putamen")
SKIN = HEAD.names.index("skin")


class Reader(nn.Module):
    """Bright is left putamen with a probability of 0.8, and 0.2 skin; the rest is background."""

    multiple, bytes_a_voxel = 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        logits = torch.full((1, len(HEAD), *image.shape[2:]), -40.0)
        bright = image[:, 0] > 0.5
        logits[:, PUTAMEN] = torch.where(bright, float(np.log(0.8)), -40.0)
        logits[:, SKIN] = torch.where(bright, float(np.log(0.2)), -40.0)
        logits[:, 0] = torch.where(bright, -40.0, 0.0)
        return logits

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        return encoded[(..., *block)]


def cube(size: int = 20) -> np.ndarray:
    """6 × 4 × 5 bright voxels in the middle of nothing."""
    voxels = np.full((size, size, size), 100.0, dtype=np.float32)
    middle = size // 2
    voxels[middle - 3 : middle + 3, middle - 2 : middle + 2, middle : middle + 5] = 900.0
    return voxels


def written(source: Path, options: Options, model: Model | None = None) -> Path:
    out = source.parent / "out"
    chosen = model or Model(Reader(), HEAD)
    outcomes = list(process_jobs(find_jobs([source], out, Selection()), out, chosen, options))
    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    return out


def load(path: Path) -> tuple[np.ndarray, Any]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image


def as_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def table(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}


def test_table_of_volumes(tmp_path: Path) -> None:
    scan = phantom.save(tmp_path / "a.nii.gz", cube(), np.diag([1.0, 1, 1, 1]))
    rows = table(written(scan, Options(labels="head", flip=False)) / "a_volumes.tsv")
    assert tuple(rows) == HEAD.names[1:]
    left = rows["left putamen"]
    assert float(left["volume_mm3"]) == pytest.approx(0.8 * 120, rel=1e-3)
    assert (left["index"], left["hard_mm3"], left["asymmetry_percent"]) == ("12", "120.0", "200.0")
    assert (left["low_mm3"], left["high_mm3"], left["quality"]) == ("n/a", "n/a", "n/a")  # nothing was calibrated
    assert float(rows["skin"]["volume_mm3"]) == pytest.approx(0.2 * 120, rel=1e-3)
    assert rows["skin"]["hard_mm3"] == "0.0"
    columns = as_json(tmp_path / "out" / "a_volumes.json")
    assert list(columns) == ["index", *(key for key in left if key != "index")]
    assert columns["volume_mm3"]["Units"] == "mm^3"


def test_probabilities_of_all_labels_add_up(tmp_path: Path) -> None:
    model = load_model(lively.model(tmp_path / "model"))
    voxels = np.pad(phantom.head((16, 16, 16)).astype(np.float32), 8)  # a border that the network is not shown
    turned = np.array([[0, 0, -2.0, 20], [1.5, 0, 0, -20], [0, 2.0, 0, -20], [0, 0, 0, 1]])
    scan = phantom.save(tmp_path / "a.nii.gz", voxels, turned)
    for flip, refine in ((True, False), (False, False), (True, True), (False, True)):
        options = Options(flip=flip, refine=refine, outputs=Outputs(probabilities=("all",)))
        out = written(scan, options, model)
        found, image = load(out / "a_prob.nii.gz")
        assert found.shape == (32, 32, 32, 33) and (image.affine == turned).all()
        steps = np.rint(found * 255)
        np.testing.assert_allclose(found * 255, steps, atol=1e-3)
        # each label is off by half a step at most, and to either side
        assert np.abs(steps.sum(-1) - 255).max() <= 5
        sums = options.make(read_image(scan), model).probabilities["freesurfer"].float().sum(0)
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-3, rtol=0)
        assert (steps[0, 0, 0] == [255, *[0] * 32]).all()
        labels = load(out / "a_dseg.nii.gz")[0]
        channels = label_set("freesurfer").index_of_ids(labels)
        assert (np.take_along_axis(steps, channels[..., None], -1)[..., 0] >= steps.max(-1) - 1).mean() > 0.98
    assert as_json(out / "a_prob.json")["LabelMap"] == list(label_set("freesurfer").names)


def test_probabilities_of_some_labels(tmp_path: Path) -> None:
    scan = phantom.save(tmp_path / "a.nii.gz", cube())
    wanted = Outputs(probabilities=("skin", "left putamen", "3rd ventricle"))
    out = written(scan, Options(labels="head", flip=False, outputs=wanted))
    content = (out / "a_prob.nii.gz").read_bytes()
    written(scan, Options(labels="head", flip=False, outputs=replace(wanted, space="both")))
    assert (out / "a_prob.nii.gz").read_bytes() == content  # neither time nor name in it
    found, _ = load(out / "a_prob.nii.gz")
    bright = cube() > 500
    for volume, share in enumerate((0.2, 0.8, 0.0)):
        np.testing.assert_allclose(found[bright, volume], share, atol=0.003)
        assert not found[~bright, volume].any()
    assert as_json(out / "a_prob.json")["LabelMap"] == ["skin", "left putamen", "3rd ventricle"]
    with pytest.raises(LabelError, match="label set brain has no 'skin'; choose of brain, cerebrospinal"):
        Outputs(probabilities=("skin",)).chosen_labels(label_set("brain"))


@pytest.mark.parametrize(("shift", "outside"), [(0.0, 0.0), (-1000.0, -900.0)])
def test_brain_and_mask(tmp_path: Path, shift: float, outside: float) -> None:
    given = cube() + np.float32(shift)
    scan = phantom.save(tmp_path / "a.nii.gz", given, np.diag([-1.0, 1, 1, 1]))
    out = written(scan, Options(outputs=Outputs(brain=True)))
    mask, image = load(out / "a_mask.nii.gz")
    assert mask.dtype == np.uint8 and (mask == (cube() > 500)).all() and (image.affine == np.diag([-1, 1, 1, 1])).all()
    inside, image = load(out / "a_brain.nii.gz")
    assert (inside == np.where(mask, given, outside)).all()  # air is dark, whatever its number
    assert (image.affine == np.diag([-1, 1, 1, 1])).all()


def test_results_on_a_grid_of_1_mm(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 19], [0, 0, 3.0, -28.5], [2.0, 0, 0, -19], [0, 0, 0, 1]])
    scan = phantom.save(tmp_path / "a.nii.gz", cube(), affine)
    out = written(scan, Options(outputs=Outputs(space="1mm")))
    assert not (out / "a_dseg.nii.gz").exists()
    labels, image = load(out / "a_space-1mm_dseg.nii.gz")
    grey, fine = load(out / "a_space-1mm_image.nii.gz")
    assert labels.shape == grey.shape == (40, 60, 40)  # 20 voxels of 2, 3 and 2 mm, along the axes of the world
    for found in (image, fine):
        np.testing.assert_allclose(found.affine, [[1, 0, 0, -19.5], [0, 1, 0, -29.5], [0, 0, 1, -19.5], [0, 0, 0, 1]])
    wanted = 6 * 4 * 5 * 12  # mm³, and bright voxels are cut at half their value
    assert (labels == 12).sum() == pytest.approx(wanted, rel=0.15)
    assert set(np.unique(labels)) == {0, 12} and (grey[labels == 12] > 450).all()
    assert float(table(out / "a_volumes.tsv")["left putamen"]["hard_mm3"]) == pytest.approx(wanted, rel=0.15)


def test_label_map_follows_a_repaired_header(tmp_path: Path) -> None:
    declared = np.diag([1.0, 1, 1, 1])
    scan = phantom.save(tmp_path / "a.nii.gz", cube(), declared)
    out = written(scan, Options(axcodes="LPS", outputs=Outputs(brain=True, probabilities=("left putamen",))))
    for name in ("dseg", "mask", "brain", "prob"):
        image = nib.load(out / f"a_{name}.nii.gz")
        assert (image.affine[:3, :3] == np.diag([-1, -1, 1])).all(), name
        assert image.affine @ [9.5, 9.5, 9.5, 1] == pytest.approx(declared @ [9.5, 9.5, 9.5, 1])
    assert ((load(out / "a_dseg.nii.gz")[0] == 12) == (cube() > 500)).all()


def test_volumes_of_a_file_are_segmented_each(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([cube(), np.roll(cube(), 2, 0)], -1), np.eye(4)), path)
    out = written(path, Options())
    for volume in range(2):
        labels = load(out / f"a_volume-{volume}_dseg.nii.gz")[0]
        assert ((labels == 12) == (np.roll(cube(), 2 * volume, 0) > 500)).all()
        assert as_json(out / f"a_volume-{volume}_manifest.json")["volume"] == volume


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    for name in ("sub-1/anat/sub-1_T1w", "sub-2/ses-x/anat/sub-2_ses-x_T2w"):
        (root / name).parent.mkdir(parents=True)
        phantom.save(root / f"{name}.nii.gz", cube())
    return root


def test_results_of_a_dataset_are_a_dataset(dataset: Path) -> None:
    outputs = Outputs("both", ("all",), brain=True)
    out = written(dataset, Options(outputs=outputs, extras=(write_report,)))
    write_summary(out, label_set("freesurfer"))
    names = Names(PurePath("sub-1/anat"), "sub-1", suffix="T1w")
    expected = {*names.results} - {names.overlay, names.distance, sidecar(names.distance)}
    assert {path.relative_to(out) for path in (out / "sub-1").rglob("*.*")} == expected
    assert (out / "sub-2/ses-x/anat/sub-2_ses-x_seg-phantomseg_desc-T2w_dseg.nii.gz").is_file()
    description = as_json(out / "dataset_description.json")
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "PhantomSeg"
    assert description["DatasetLinks"] == {"raw": dataset.resolve().as_uri()}
    source = "bids:raw:sub-1/anat/sub-1_T1w.nii.gz"
    for name in ("seg-phantomseg_dseg", "seg-phantomseg_probseg", "label-brain_mask", "seg-phantomseg_res-1mm_dseg"):
        assert as_json(out / f"sub-1/anat/sub-1_{name}.json")["SpatialReference"] == source
    brain = as_json(out / "sub-1/anat/sub-1_desc-brain_T1w.json")
    fine = as_json(out / "sub-1/anat/sub-1_res-1mm_T1w.json")
    assert (brain["SkullStripped"], fine["SkullStripped"]) == (True, False)
    assert fine["Resolution"].startswith("Isotropic voxels of 1 mm") and "Resolution" not in brain
    assert list(table(out / "volumes.tsv")) == ["sub-1_T1w", "sub-2_ses-x_T2w"]
    ignored = (out / ".bidsignore").read_text(encoding="utf-8").splitlines()
    unknown = [path for path in out.rglob("*.*") if path.suffix in (".html", ".txt", ".ctbl") or "morph" in path.name]
    assert len(unknown) == 3 + 2 * (1 + 2)  # colours; a report and a table with its dictionary for each scan
    assert all(any(path.match(pattern) for pattern in ignored if pattern) for path in unknown)


def test_table_of_all_scans(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / "in" / name).mkdir(parents=True)
        phantom.save(tmp_path / "in" / name / "scan.nii.gz", cube())
    out = written(tmp_path / "in", Options(flip=False))
    (out / "a_manifest.json").write_text("{}")  # of something else, or damaged
    write_summary(out, label_set("freesurfer"))
    rows = table(out / "volumes.tsv")
    assert list(rows) == ["a/scan", "b/scan"]
    row = rows["b/scan"]
    assert row["scan"] == str(tmp_path / "in/b/scan.nii.gz") and row["volume"] == row["quality"] == "n/a"
    assert float(row["left putamen"]) == pytest.approx(0.8 * 120, rel=1e-3)
    assert float(row["total intracranial volume"]) == pytest.approx(0.8 * 120, rel=1e-3)  # without skin
    assert list(as_json(out / "volumes.json")) == list(row)
    assert " 12 " in (out / "colours_freesurfer.txt").read_text()
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_reports_tell_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        phantom.save(tmp_path / "in" / f"{name}.nii.gz", cube())
    out = written(tmp_path / "in", Options(extras=(write_report,)))
    write_cohort_report(out, "freesurfer", {"d.nii.gz": "it is <no> scan"})
    pages = {name: (out / f"{name}_report.html").read_text(encoding="utf-8") for name in "abc"}
    for place, name in enumerate("abc"):
        assert f'"self":{place},"count":3' in pages[name]
        assert all(f"{other}.nii.gz" not in pages[name] for other in "abcd" if other != name)  # nor any other patient
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f'href="{name}_report.html"' in page for name in "abc") and "it is &lt;no&gt; scan" in page
    (out / "b_report.html").unlink()  # which does not keep others from theirs
    write_cohort_report(out, "freesurfer", {})
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'href="a_report.html"' in page and 'href="b_report.html"' not in page and 'data-name="b"' in page
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_result_keeps_what_the_header_says(tmp_path: Path) -> None:
    image = nib.Nifti1Image(cube(), np.diag([-1.0, 1, 1, 1]))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=4)
    image.set_qform(np.diag([-1.0, 1, 1, 1]), code=1)
    nib.save(image, tmp_path / "a.nii.gz")
    out = written(tmp_path / "a.nii.gz", Options(outputs=Outputs(brain=True, probabilities=("all",))))
    for name in ("dseg", "mask", "brain", "prob"):
        header = nib.load(out / f"a_{name}.nii.gz").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 1), name
        assert header.get_xyzt_units()[0] == image.header.get_xyzt_units()[0] or name == "prob"
