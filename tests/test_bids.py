"""BIDS datasets: which scans are found, and how their results are named and described."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import ScanError
from phantomseg.inference import bids
from phantomseg.inference.inputs import Job, Selection, find_jobs
from phantomseg.inference.names import Names
from phantomseg.labels import label_set, merge

RAW = '{"Name": "raw", "BIDSVersion": "1.10.0"}'


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two participants, the second with two sessions; T1w and T2w of 01 differ in nothing but their suffix."""
    root = tmp_path / "data"
    names = ["anat/sub-01_T1w.nii.gz", "anat/sub-01_T2w.nii", "anat/sub-01_acq-fast_run-2_FLAIR.nii.gz"]
    touch(root / "sub-01", *names)
    for session in ("a", "b"):
        touch(root / "sub-02" / f"ses-{session}", f"anat/sub-02_ses-{session}_T1w.nii.gz")
    (root / "dataset_description.json").write_text(RAW)
    return root


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def jobs(dataset: Path, **wanted: tuple[str, ...]) -> list[Job]:
    return find_jobs([dataset], dataset / "derivatives" / "phantomseg", Selection(**wanted))  # type: ignore[arg-type]


def scans(dataset: Path) -> list[str]:
    return [job.scan.name for job in jobs(dataset)]


def test_scans_of_a_dataset(dataset: Path) -> None:
    assert [job.names.segmentation.as_posix() for job in jobs(dataset)] == [
        "sub-01/anat/sub-01_seg-phantomseg_dseg.nii.gz",
        "sub-01/anat/sub-01_seg-phantomseg_desc-T2w_dseg.nii.gz",
        "sub-01/anat/sub-01_acq-fast_run-2_seg-phantomseg_desc-FLAIR_dseg.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_seg-phantomseg_dseg.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_seg-phantomseg_dseg.nii.gz",
    ]


def test_only_anatomical_scans_with_bids_names(dataset: Path) -> None:
    before = scans(dataset)
    anat = ["sub-03_defacemask.nii.gz", "sub-03_T1w.json", "sub-03_T1w.mgz", "._sub-03_T1w.nii.gz", "T1w.nii.gz"]
    anat += ["sub-03_fast_T1w.nii.gz", "sub-03_part-phase_T2starw.nii.gz", "sub-03_acq-_T1w.nii.gz"]
    touch(dataset / "sub-03" / "anat", *anat)
    touch(dataset, "sub-03/func/sub-03_task-rest_bold.nii.gz", "sub-03/dwi/sub-03_T1w.nii.gz", "sourcedata/x.nii")
    touch(dataset, "derivatives/tool/sub-01/anat/sub-01_desc-brain_T1w.nii.gz", "code/sub-01_T1w.nii.gz")
    assert scans(dataset) == before


@pytest.mark.parametrize("suffix", ["PDw", "T2starw", "angio", "UNIT1", "T1map", "inplaneT2", "PDT2", "inv-1_MP2RAGE"])
def test_every_anatomical_suffix(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"sub-1/anat/sub-1_part-mag_{suffix}.nii")
    (job,) = jobs(tmp_path)
    assert job.names.suffix == suffix.split("_")[-1]


def test_dataset_without_description_and_ct(tmp_path: Path) -> None:
    touch(tmp_path, "sub-x/ses-1/ct/sub-x_ses-1_ct.nii.gz")
    assert not jobs(touched(tmp_path / "plain", "sub-x/scan.nii"))[0].names.bids
    assert not jobs(touched(tmp_path / "other", "sub-x/anat.nii"))[0].names.bids
    (job,) = jobs(tmp_path)
    assert job.names == Names(PurePath("sub-x/ses-1/anat"), "sub-x_ses-1", suffix="ct", shared=True)


def touched(root: Path, *names: str) -> Path:
    touch(root, *names)
    return root


@pytest.mark.parametrize("content", ["{", "[]", '{"DatasetType": "raw"}', '{"DatasetType": 3}', "{}"])
def test_description_that_does_not_say_otherwise_means_raw(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_description.json").write_text(content)
    with pytest.raises(ScanError, match="holds no anatomical scans with BIDS names, wanted files like sub-01/anat"):
        jobs(tmp_path)


def test_participants_and_sessions(dataset: Path) -> None:
    assert [job.scan.name for job in jobs(dataset, participants=("sub-02",), sessions=("b",))] == [
        "sub-02_ses-b_T1w.nii.gz"
    ]
    assert len(jobs(dataset, participants=("01", "02"))) == 5
    assert len(jobs(dataset, sessions=("ses-a", "b"))) == 2


def test_selection_does_not_change_names(dataset: Path) -> None:
    (dataset / "sub-01" / "anat" / "sub-01_acq-fast_run-2_FLAIR.nii.gz").unlink()
    assert jobs(dataset, participants=("01",)) == jobs(dataset)[:2]
    assert [job.names.shared for job in jobs(dataset, participants=("01",))] == [False, True]  # T1w, T2w


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"participants": ("01", "7")}, "participant 7 has no anatomical scans; those that have: 01, 02"),
        ({"sessions": ("sub-a",)}, "session sub-a has no anatomical scans; those that have: a, b"),
        (
            {"participants": ("01",), "sessions": ("a",)},
            "session a has no anatomical scans; those that have: none",
        ),
    ],
)
def test_selection_that_nothing_matches(dataset: Path, wanted: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ScanError) as error:
        jobs(dataset, **wanted)
    assert str(error.value) == message


def test_long_lists_of_participants_are_cut(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{n:02}/anat/sub-{n:02}_T1w.nii" for n in range(12)))
    with pytest.raises(ScanError, match="those that have: 00, 01, .*, 09, …$"):
        jobs(tmp_path, participants=("12",))


def test_participants_may_be_in_either_dataset(dataset: Path, tmp_path: Path) -> None:
    other = touched(tmp_path / "other", "sub-09/anat/sub-09_T1w.nii")
    chosen = find_jobs([dataset, other], tmp_path / "out", Selection(participants=("09", "02")))
    assert [job.names.prefix for job in chosen] == ["sub-02_ses-a", "sub-02_ses-b", "sub-09"]


def test_results_are_not_mixed_with_the_raw_data(dataset: Path) -> None:
    with pytest.raises(ScanError, match="would be mixed with it; write to .*derivatives/phantomseg instead"):
        find_jobs([dataset], dataset / "." / "sub-01" / "..", Selection())


def test_two_files_of_one_name(dataset: Path) -> None:
    touch(dataset, "sub-01/anat/sub-01_T1w.nii")
    with pytest.raises(ScanError, match="T1w.nii and .*T1w.nii.gz would both be written to sub-01/anat/sub-01_seg-"):
        jobs(dataset)


def test_volumes_of_a_dataset(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T2w.nii")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.uint8), np.eye(4)), tmp_path / "sub-1/anat/sub-1_T1w.nii")
    last = jobs(tmp_path)[2]
    assert (last.scan.name, last.volume) == ("sub-1_T1w.nii", 2)
    assert last.names.segmentation.name == "sub-1_seg-phantomseg_desc-volume2_dseg.nii.gz"
    assert last.names.brain.name == "sub-1_desc-brainVolume2_T1w.nii.gz"
    assert last.names.resampled.name == "sub-1_res-1mm_desc-volume2_T1w.nii.gz"


def test_names_of_all_results() -> None:
    names = Names(PurePath("sub-1/anat"), "sub-1_run-2", suffix="T1w")
    assert [path.name.removeprefix("sub-1_run-2_") for path in names.results] == [
        "seg-phantomseg_dseg.nii.gz",
        "seg-phantomseg_probseg.nii.gz",
        "label-brain_mask.nii.gz",
        "desc-brain_T1w.nii.gz",
        "label-brain_distance.nii.gz",
        "res-1mm_T1w.nii.gz",
        "seg-phantomseg_res-1mm_dseg.nii.gz",
        "seg-phantomseg_dseg.json",
        "seg-phantomseg_probseg.json",
        "label-brain_mask.json",
        "desc-brain_T1w.json",
        "label-brain_distance.json",
        "res-1mm_T1w.json",
        "seg-phantomseg_res-1mm_dseg.json",
        "seg-phantomseg_dseg.tsv",
        "desc-volumes_morph.tsv",
        "desc-volumes_morph.json",
        "desc-phantomseg_report.html",
        "desc-phantomseg_overlay.png",
        "desc-phantomseg_manifest.json",
    ]
    shared = Names(PurePath(), "sub-1_part-mag_foo-3_desc-raw", suffix="T1w", shared=True)
    assert shared.mask.name == "sub-1_part-mag_foo-3_label-brain_desc-rawT1w_mask.nii.gz"
    assert shared.report.name == "sub-1_part-mag_foo-3_desc-phantomsegRawT1w_report.html"
    assert shared.brain.name == "sub-1_part-mag_foo-3_desc-brainRaw_T1w.nii.gz"


@pytest.mark.parametrize("name", ["T1w.nii", "ses-1_T1w.nii", "sub-1_x_T1w.nii", "sub-1_run-1_run-2_T1w.nii", "sub-1"])
def test_names_that_are_not_of_bids(name: str) -> None:
    with pytest.raises(ScanError, match="has no BIDS name, wanted entities and a suffix like sub-01_T1w.nii.gz"):
        bids.parse_bids(PurePath("a") / name)


def test_description_of_the_results(tmp_path: Path) -> None:
    content = bids.dataset_description("0.2.0", tmp_path, tmp_path / "derivatives" / "phantomseg")
    assert content == {
        "Name": "PhantomSeg: segmentation of head scans",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "PhantomSeg", "Version": "0.2.0"}],
        "SourceDatasets": [{"URL": tmp_path.resolve().as_uri()}],
        "DatasetLinks": {"raw": "../.."},
    }
    outside = bids.dataset_description("0.2.0", tmp_path / "raw", tmp_path / "out")
    assert outside["DatasetLinks"] == {"raw": (tmp_path.resolve() / "raw").as_uri()}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "dataset_description.json").write_text(json.dumps(content))
    with pytest.raises(ScanError, match="holds results of a BIDS dataset"):
        jobs(tmp_path / "results")


def test_sidecars() -> None:
    source, labels = "bids:raw:sub-1/anat/sub-1_T1w.nii", label_set("brain")
    common = {"Sources": [source], "SpatialReference": source, "Manual": False}
    description = "Labels of the PhantomSeg set 'brain'; their names are in the _dseg.tsv file"
    assert bids.label_sidecar(source, labels) == {"Description": description, **common}
    resampled = bids.label_sidecar(source, labels, "1 mm isotropic")
    assert resampled == {"Description": description, "Resolution": "1 mm isotropic", **common}
    probabilities = bids.probability_sidecar(source, labels)
    assert probabilities["LabelMap"] == ["background", "brain", "cerebrospinal fluid around the brain"]
    assert bids.mask_sidecar(source)["Type"] == "Brain"
    assert bids.image_sidecar(source, stripped=True) == {
        "Description": "Scan without what is outside the brain mask",
        "Sources": [source],
        "SkullStripped": True,
    }


def test_table_of_labels() -> None:
    assert bids.dseg_table(label_set("brain")) == (
        "index\tname\tcolor\tmapping\n"
        "0\tbackground\t#000000\t0\n"
        "1\tbrain\t#cd3e4e\tn/a\n"
        "2\tcerebrospinal fluid around the brain\t#3c3ca0\t3\n"
    )


def test_common_labels_agree_with_the_merge() -> None:
    rows = [line.split("\t") for line in bids.dseg_table(label_set("head")).splitlines()[1:]]
    both = merge("head", "tissue")
    assert [int(row[0]) for row in rows] == list(both.source_ids)
    differing = {row[1] for row, target in zip(rows, both.target_ids, strict=True) if int(row[3]) != target}
    assert differing == set()
    assert [line.split("\t")[1:] for line in bids.dseg_table(label_set("siam")).splitlines()[2:3]] == [
        ["grey matter", "#cd3e4e", "1"]
    ]


def test_ignored_by_validators() -> None:
    patterns = bids.bidsignore().splitlines()
    names = Names(PurePath(), "sub-1", suffix="T1w")
    ignored = [path.name for path in names.results if any(PurePath(path.name).match(p) for p in patterns)]
    assert [name.split("_")[-1] for name in ignored] == [
        "distance.nii.gz",
        "distance.json",
        "morph.tsv",
        "morph.json",
        "report.html",
        "overlay.png",
        "manifest.json",
    ]
