from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomseg.errors import GeometryError, LabelError, TrainingError
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.image import Image
from phantomseg.labels import Label, LabelSet
from phantomseg.studies import nnunet, nnunet_train
from phantomseg.studies.nnunet import NnUNetBudget, predict_nnunet, train_nnunet

SET = LabelSet(
    "two sides",
    (
        Label(0, "background", "", "background", "#000000"),
        Label(12, "left putamen", "left", "deep grey", "#111111"),
        Label(51, "right putamen", "right", "deep grey", "#222222"),
    ),
)
LAS = np.diag([-1.0, 1, 1, 1])
SHAPE = (40, 44, 36)


def pair(seed: int, shape: tuple[int, int, int] = SHAPE, affine: np.ndarray | None = None) -> tuple[Image, Image]:
    """A bright block a side in noise, the right one brighter; without an affine, axes run to R, A, S."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4) if affine is None else affine
    half, third, quarter = shape[0] // 2, shape[1] // 3, shape[2] // 4
    low, high = (12, 51) if affine[0, 0] > 0 else (51, 12)  # left is where x is low
    values = np.zeros(shape, dtype=np.int32)
    values[2 : half - 2, third : 2 * third, quarter : 3 * quarter] = low
    values[half + 2 : -2, third : 2 * third, quarter : 3 * quarter] = high
    voxels = rng.normal(100, 5, shape) + 3 * values
    return Image(voxels.astype(np.float32), affine), Image(values, affine)


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnunet, "nnunet_available", lambda: False)
    with pytest.raises(TrainingError, match=r"nnunetv2 is not installed, wanted 2.6 or newer; run pip install"):
        train_nnunet(tmp_path, [pair(0)], SET, NnUNetBudget())
    with pytest.raises(TrainingError, match=r"pip install 'phantomseg\[nnunet\]'"):
        predict_nnunet(tmp_path, {"scan": pair(0)[0]}, SET, NnUNetBudget())


def test_dataset_has_consecutive_labels_and_canonical_axes(tmp_path: Path) -> None:
    scan, label_map = pair(0, (12, 6, 8), LAS)
    nnunet.write_dataset(tmp_path, [pair(1, (12, 6, 8)), (scan, label_map)], SET)
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "channel_names": {"0": "scan"},
        "labels": {"background": 0, "left putamen": 1, "right putamen": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
    }
    written = read_image(tmp_path / "imagesTr" / "case_0001_0000.nii.gz")
    numbered = read_labels(tmp_path / "labelsTr" / "case_0001.nii.gz")
    np.testing.assert_array_equal(written.affine, [[1, 0, 0, -11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(written.voxels, scan.voxels[::-1])
    np.testing.assert_array_equal(numbered.voxels, np.searchsorted([0, 12, 51], label_map.voxels[::-1]))


def test_background_is_named_as_nnunet_wants_it() -> None:
    renamed = LabelSet("air", (Label(0, "air", "", "background", "#000000"), *SET.labels[1:]))
    assert nnunet.dataset_json(renamed, 1)["labels"] == {"background": 0, "left putamen": 1, "right putamen": 2}


def test_refuses_strange_labels_other_grids_and_nothing(tmp_path: Path) -> None:
    scan, label_map = pair(0, (12, 6, 8))
    with pytest.raises(LabelError, match=r"holds values \[52\], wanted ids of label set two sides"):
        nnunet.write_dataset(tmp_path, [(scan, label_map.with_voxels(label_map.voxels + (label_map.voxels > 12)))], SET)
    with pytest.raises(GeometryError, match=r"label map 0 has shape \(12, 6, 7\), wanted its scan's grid"):
        nnunet.write_dataset(tmp_path, [(scan, Image(label_map.voxels[..., :7], label_map.affine))], SET)
    with pytest.raises(TrainingError, match="got no scans"):
        nnunet.write_dataset(tmp_path, [], SET)


def test_commands_mirror_only_when_asked(tmp_path: Path) -> None:
    plain, mirrored = NnUNetBudget(epochs=3), NnUNetBudget(mirror=True, device="cuda")
    assert "--disable_tta" in nnunet.prediction_command(tmp_path, tmp_path, tmp_path, plain)
    assert "--disable_tta" not in nnunet.prediction_command(tmp_path, tmp_path, tmp_path, mirrored)
    assert (plain.trainer, mirrored.trainer) == ("nnUNetTrainerNoMirroring", "nnUNetTrainer")
    steps = nnunet.training_commands(tmp_path, plain)
    train = steps["train"]
    assert "nnUNet_n_proc_DA=1" in steps["plan"]  # with 0 it fails
    assert {f"nnUNet_raw={tmp_path}/nnUNet_raw", "nnUNet_n_proc_DA=0"} < set(train)
    assert train[-3:-1] == ["-m", "phantomseg.studies.nnunet_train"]
    assert NnUNetBudget(**json.loads(train[-1])) == plain
    assert not any("n_proc" in word for word in nnunet.training_commands(tmp_path, mirrored)["train"])


def test_environment_reaches_the_process(tmp_path: Path) -> None:
    start = nnunet.training_commands(tmp_path, NnUNetBudget())["plan"]
    show = [*start[: start.index(sys.executable) + 1], "-c", "import os; print(os.environ['nnUNet_results'])"]
    said = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(tmp_path / "nnUNet_results")


def test_tiny_plan_follows_the_axes_of_the_plan() -> None:
    kept = {"patch_size": [9], "batch_size": 7, "spacing": [1, 1, 1]}
    architecture = {"network_class_name": "U", "arch_kwargs": {"n_stages": 6, "conv_bias": True}}
    plans = {
        "transpose_forward": [1, 0, 2],
        "configurations": {"2d": {}, "3d_fullres": kept | {"architecture": architecture}},
    }
    tiny = nnunet.tiny_plans(plans, (16, 24, 32))["configurations"]["3d_fullres"]
    assert tiny["patch_size"] == [24, 32, 16]  # S, A, R is 32, 24, 16; the first two change places
    assert tiny["batch_size"] == 2 and tiny["spacing"] == [1, 1, 1]
    assert tiny["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert tiny["architecture"]["arch_kwargs"]["conv_bias"] and tiny["architecture"]["network_class_name"] == "U"
    assert plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_stages"] == 6


def test_failed_step_tells_its_error_and_its_log(tmp_path: Path) -> None:
    code = "import atexit; atexit.register(lambda: print('bye')); raise ValueError('no luck')"
    with pytest.raises(TrainingError) as caught:
        nnunet.run_step("plan", [sys.executable, "-c", code], tmp_path)
    log = tmp_path / "plan.log"
    assert str(caught.value) == (
        f"step plan of nnU-Net ended with status 1, wanted 0 (ValueError: no luck); see its log {log}"
    )
    assert log.read_text().rstrip().endswith("bye")


@pytest.mark.parametrize(
    "settings",
    [{"device": "tpu"}, {"epochs": 0}, {"iterations": 0}, {"minutes": 0.0}, {"patch_voxels": (32, 30, 32)}],
)
def test_refuses_budgets_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="wanted"):
        NnUNetBudget(**settings)  # type: ignore[arg-type]


def test_finished_folder_is_returned_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnunet, "nnunet_available", lambda: True)
    ran: list[str] = []

    def run_step(name: str, command: list[str], folder: Path) -> None:
        ran.append(name)
        if len(ran) == 3:
            raise TrainingError("cut off")

    monkeypatch.setattr(nnunet, "run_step", run_step)
    with pytest.raises(TrainingError, match="cut off"):
        train_nnunet(tmp_path, [pair(0)], SET, NnUNetBudget())
    model = train_nnunet(tmp_path, [pair(0)], SET, NnUNetBudget())
    assert ran == ["plan", "preprocess", "train", "train"]
    assert train_nnunet(tmp_path, [pair(0)], SET, NnUNetBudget(device="cuda")) == model and len(ran) == 4
    assert model.name == "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
    with pytest.raises(TrainingError, match=r"wanted .*'epochs': 7.*; choose another folder"):
        train_nnunet(tmp_path, [pair(0)], SET, NnUNetBudget(epochs=7))


class Clockwork:
    """A trainer of two epochs of which one lasted 7 s and the next began; a step takes 10 s."""

    def __init__(self) -> None:
        self.now = 0.0
        self.logger = self

    def get_checkpoint(self) -> dict[str, list[float]]:
        return {"epoch_start_timestamps": [100.0, 110.0], "epoch_end_timestamps": [107.0]}

    def train_step(self, batch: str) -> str:
        self.now += 10
        return batch

    def validation_step(self, batch: str) -> str:
        return self.train_step(batch)


def test_training_ends_after_the_step_in_which_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = Clockwork()
    monkeypatch.setattr(nnunet_train.time, "monotonic", lambda: trainer.now)
    nnunet_train.limit(trainer, 25 - nnunet_train.spent_seconds(trainer))
    assert trainer.train_step("first") == "first"
    with pytest.raises(nnunet_train.OutOfTime):
        trainer.validation_step("second")  # 18 s are left, 20 s have passed


@pytest.fixture
def real_nnunet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself, on one thread: patches this small are slower on several."""
    pytest.importorskip("nnunetv2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_nnunet_trains_predicts_and_resumes(tmp_path: Path, real_nnunet: None) -> None:
    budget = NnUNetBudget(epochs=2, iterations=2, patch_voxels=(32, 32, 32))
    model = train_nnunet(tmp_path, [pair(0), pair(1, affine=LAS)], SET, budget)
    again = train_nnunet(tmp_path, [], SET, budget)
    assert again == model and (model / "fold_all" / "checkpoint_final.pth").is_file()
    assert not (model / "fold_all" / "validation").exists()
    turned = np.array([[0, 0, -1.5, 20], [-1, 0, 0, 30], [0, 1.2, 0, -9], [0, 0, 0, 1]])  # axes to P, S, L
    scans = {"plain": pair(2)[0], "las/scan": pair(3, (38, 40, 30), LAS)[0], "turned": pair(4, SHAPE, turned)[0]}
    found = predict_nnunet(model, scans, SET, budget)
    assert list(found) == list(scans)
    for name, image in found.items():
        assert image.shape == scans[name].shape
        np.testing.assert_array_equal(image.affine, scans[name].affine)
        assert set(np.unique(image.voxels)) <= {0, 12, 51}
    other = LabelSet("other", SET.labels[:1])
    with pytest.raises(TrainingError, match="knows other labels, wanted set other"):
        predict_nnunet(model, scans, other, budget)


@pytest.mark.slow
def test_nnunet_learns_which_side_is_which(tmp_path: Path, real_nnunet: None) -> None:
    budget = NnUNetBudget(epochs=3, iterations=25, patch_voxels=(32, 32, 32))
    model = train_nnunet(tmp_path, [pair(0), pair(1, affine=LAS)], SET, budget)
    scan, truth = pair(3, SHAPE, LAS)
    found = predict_nnunet(model, {"las": scan}, SET, budget)["las"]
    for value in (12, 51):
        assert (found.voxels[truth.voxels == value] == value).mean() > 0.5  # 0 if sides were swapped
