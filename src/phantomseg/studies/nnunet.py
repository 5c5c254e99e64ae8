"""nnU-Net v2 as a baseline: its own package, plan and trainer, each step a process that logs to the folder."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phantomseg.errors import GeometryError, LabelError, TrainingError
from phantomseg.image.files import read_labels, write_atomically, write_image
from phantomseg.image.grid import canonical
from phantomseg.image.image import Image
from phantomseg.inference.restore import onto_scan
from phantomseg.labels import LabelSet

DATASET, DATASET_NUMBER = "Dataset001_PhantomSeg", "1"
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
DEVICES = ("cpu", "cuda", "mps")
TINY_FEATURES = [8, 16, 32]  # of the stages of a plan for smoke runs
PLANNING = "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints"
PREDICTION = "nnunetv2.inference.predict_from_raw_data"


@dataclass(frozen=True)
class NnUNetBudget:
    """What nnU-Net may spend.

    Its learning rate falls to nothing over `epochs`; a training that `minutes` ends early stops at a higher one.
    """

    epochs: int = 50  # of its own 1000
    iterations: int | None = None  # of an epoch; None is its own 250
    minutes: float | None = None  # of training, after which the weights are kept as they are
    device: str = "cpu"
    mirror: bool = False  # its own default mirrors all axes without swapping sides, in training and prediction
    patch_voxels: tuple[int, int, int] | None = None  # along R, A, S, of a tiny network for smoke runs

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise TrainingError(f"nnU-Net's device is {self.device!r}, wanted one of {', '.join(DEVICES)}; choose one")
        least = min(self.epochs, 1 if self.iterations is None else self.iterations)
        if least < 1 or (self.minutes is not None and self.minutes <= 0):
            raise TrainingError(f"nnU-Net's budget is {self}, wanted at least 1 of each; raise it")
        if any(edge < 8 or edge % 4 for edge in self.patch_voxels or ()):
            raise TrainingError(f"nnU-Net's patch is {self.patch_voxels} voxels, wanted multiples of 4 from 8 on")

    @property
    def trainer(self) -> str:
        """Name of nnU-Net's trainer."""
        return "nnUNetTrainer" if self.mirror else "nnUNetTrainerNoMirroring"


def nnunet_available() -> bool:
    """Whether nnU-Net is installed; it is not imported for that."""
    return importlib.util.find_spec("nnunetv2") is not None


def train_nnunet(folder: Path, pairs: Sequence[tuple[Image, Image]], labels: LabelSet, budget: NnUNetBudget) -> Path:
    """Train fold `all` on scans and their label maps; returns the folder of the model.

    A finished folder is returned at once; a training that was cut off goes on from its last whole epoch.

    Raises:
        TrainingError: nnU-Net is missing or fails, there are no pairs, or the folder holds another training.
        LabelError: a label map holds values that are not in the set.
        GeometryError: a label map is not on its scan's grid.
    """
    folder = Path(folder).resolve()
    model = folder / "nnUNet_results" / DATASET / f"{budget.trainer}__{PLANS}__{CONFIGURATION}"
    if _is_done(folder / "finished.json", budget):
        return model
    _check_installed()
    steps = training_commands(folder, budget)
    if not _is_done(folder / "prepared.json", budget):
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            shutil.rmtree(folder / name, ignore_errors=True)
        write_dataset(folder / "nnUNet_raw" / DATASET, pairs, labels)
        run_step("plan", steps["plan"], folder)
        if budget.patch_voxels is not None:
            plans = folder / "nnUNet_preprocessed" / DATASET / f"{PLANS}.json"
            _write_json(plans, tiny_plans(_read_json(plans), budget.patch_voxels))
        run_step("preprocess", steps["preprocess"], folder)
        _write_json(folder / "prepared.json", asdict(budget))
    run_step("train", steps["train"], folder)
    _write_json(folder / "finished.json", asdict(budget))
    return model


def predict_nnunet(model: Path, scans: Mapping[str, Image], labels: LabelSet, budget: NnUNetBudget) -> dict[str, Image]:
    """Label maps with the ids of the set, on each scan's own grid.

    Raises:
        TrainingError: nnU-Net is missing or fails, or the model was trained on other labels.
    """
    model = Path(model).resolve()
    _check_installed()
    learnt = _read_json(model / "dataset.json")["labels"]
    if learnt != dataset_json(labels, 0)["labels"]:
        raise TrainingError(f"{model} knows other labels, wanted set {labels.name}; choose the set it was trained on")
    if not scans:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary) / "scans", Path(temporary) / "labels"
        for number, scan in enumerate(scans.values()):
            write_image(source / f"case_{number:04d}_0000.nii.gz", _grey(scan))
        run_step("predict", prediction_command(model, source, target, budget), model)
        found = [read_labels(target / f"case_{number:04d}.nii.gz").voxels for number in range(len(scans))]
    restored = [onto_scan(labels.ids[voxels], scan) for voxels, scan in zip(found, scans.values(), strict=True)]
    return dict(zip(scans, restored, strict=True))


def write_dataset(folder: Path, pairs: Sequence[tuple[Image, Image]], labels: LabelSet) -> None:
    """Scans, label maps and `dataset.json` as nnU-Net wants them, axes towards right, anterior, superior."""
    if not pairs:
        raise TrainingError("nnU-Net got no scans to train on, wanted at least one with its label map; name some")
    for number, (scan, label_map) in enumerate(pairs):
        grey, channels = _grey(scan), numbered(label_map, labels)
        if grey.shape != channels.shape or not np.allclose(grey.affine, channels.affine, atol=1e-3):
            raise GeometryError(
                f"label map {number} has shape {label_map.shape}, wanted its scan's grid of {scan.shape}; resample it"
            )
        write_image(folder / "imagesTr" / f"case_{number:04d}_0000.nii.gz", grey)
        write_image(folder / "labelsTr" / f"case_{number:04d}.nii.gz", channels)
    _write_json(folder / "dataset.json", dataset_json(labels, len(pairs)))


def dataset_json(labels: LabelSet, count: int) -> dict[str, Any]:
    """What nnU-Net wants to know of a dataset; NibabelIO reads oblique grids too."""
    return {
        "channel_names": {"0": "scan"},
        "labels": {"background": 0, **{name: i for i, name in enumerate(labels.names) if i}},
        "numTraining": count,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
    }


def numbered(label_map: Image, labels: LabelSet) -> Image:
    """The label map along canonical axes, with channels of the set for ids."""
    image = canonical(label_map)
    channels = labels.index_of_ids(image.voxels)
    if (channels < 0).any():
        strange = np.unique(image.voxels[channels < 0])[:5].tolist()
        raise LabelError(f"label map holds values {strange}, wanted ids of label set {labels.name}; merge them first")
    return image.with_voxels(channels.astype(np.uint8 if len(labels) <= 255 else np.uint16))


def tiny_plans(plans: dict[str, Any], patch_voxels: tuple[int, int, int]) -> dict[str, Any]:
    """Plans with a small patch (along R, A, S) and a network of three narrow stages."""
    backwards = patch_voxels[::-1]  # nnU-Net reads axes as S, A, R and may turn them further
    chosen = plans["configurations"][CONFIGURATION]
    old, stages = chosen["architecture"]["arch_kwargs"], len(TINY_FEATURES)
    network = old | {
        "n_stages": stages,
        "features_per_stage": TINY_FEATURES,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [1] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    tiny = chosen | {
        "patch_size": [backwards[axis] for axis in plans["transpose_forward"]],
        "batch_size": 2,
        "architecture": chosen["architecture"] | {"arch_kwargs": network},
    }
    return plans | {"configurations": plans["configurations"] | {CONFIGURATION: tiny}}


def training_commands(folder: Path, budget: NnUNetBudget) -> dict[str, list[str]]:
    """Command lines of the steps."""
    known = [f"{name}={folder / name}" for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")]
    start, last = [[*_python(budget, workers), *known, sys.executable] for workers in (1, 0)]
    one = ["-d", DATASET_NUMBER, "-c", CONFIGURATION]
    return {
        "plan": [*start, "-c", _call(PLANNING, "plan_and_preprocess_entry"), *one, "-npfp", "1", "--no_pp"],
        "preprocess": [*start, "-c", _call(PLANNING, "preprocess_entry"), *one, "-np", "1"],
        "train": [*last, "-m", "phantomseg.studies.nnunet_train", json.dumps(asdict(budget))],
    }


def prediction_command(model: Path, source: Path, target: Path, budget: NnUNetBudget) -> list[str]:
    """Command line that segments all scans of a folder."""
    start = [*_python(budget, 1), sys.executable, "-c", _call(PREDICTION, "predict_entry_point_modelfolder")]
    places = ["-i", str(source), "-o", str(target), "-m", str(model), "-f", "all"]
    ways = ["-npp", "1", "-nps", "1", "-device", budget.device, "--disable_progress_bar"]
    return [*start, *places, *ways, *([] if budget.mirror else ["--disable_tta"])]


def run_step(name: str, command: Sequence[str], folder: Path) -> None:
    """Run a command with its output in a log of the folder; raises TrainingError where it fails."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode
    if status:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        last = (errors or lines or ["it said nothing"])[-1]
        raise TrainingError(f"step {name} of nnU-Net ended with status {status}, wanted 0 ({last}); see its log {log}")


def _python(budget: NnUNetBudget, workers: int) -> list[str]:
    """Command that sets nnU-Net's environment; planning wants a worker, on a CPU training does without."""
    on_cpu = [f"nnUNet_n_proc_DA={workers}", "nnUNet_compile=f"] if budget.device == "cpu" else []
    return ["env", "PYTHONUNBUFFERED=1", *on_cpu]


def _call(module: str, function: str) -> str:
    return f"from {module} import {function}; {function}()"


def _check_installed() -> None:
    if not nnunet_available():
        raise TrainingError("nnunetv2 is not installed, wanted 2.6 or newer; run pip install 'phantomseg[nnunet]'")


def _is_done(marker: Path, budget: NnUNetBudget) -> bool:
    """Whether a step was finished with this budget, on whatever device."""
    if not marker.exists():
        return False
    kept, wanted = _read_json(marker), json.loads(json.dumps(asdict(budget)))
    if kept | {"device": ""} != wanted | {"device": ""}:
        raise TrainingError(f"{marker.parent} holds a training with {kept}, wanted {wanted}; choose another folder")
    return True


def _grey(scan: Image) -> Image:
    image = canonical(scan)
    return image.with_voxels(image.voxels.astype(np.float32))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"{path} does not exist, wanted a file that nnU-Net's training leaves; train again")
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
