"""Tools that are trained on a few scans before they are first asked: ours, with true or naive flips, and nnU-Net."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from phantomseg.errors import ScanError
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.labels import Merge, label_set, merge
from phantomseg.network.model import Model, load_model
from phantomseg.studies.kept import digest, file_told, table_digest
from phantomseg.studies.matching import Scan
from phantomseg.studies.nnunet import NnUNetBudget, predict_nnunet, train_nnunet
from phantomseg.studies.plan import EVALUATION, Plan, to_evaluation
from phantomseg.studies.tools import Found
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.scans import pack_scans
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train
from phantomseg.training.state import CHECKPOINT

TARGET = "manual"
RATE = 4e-3


@dataclass(frozen=True)
class Lesson:
    """What there is to learn from: scans whose references hold values of a table, and a budget."""

    scans: tuple[Scan, ...]
    labels: str
    minutes: float
    folder: Path  # of all that is trained in a study
    plan: Plan
    device: str = "cpu"
    resume: bool = True
    say: Callable[[str], None] = field(default=lambda text: None, compare=False)

    @property
    def told(self) -> dict[str, Any]:
        """Files and budget; what is trained is trained again when these change."""
        files = file_told(path for scan in self.scans for path in (scan.image, scan.reference))
        return {"files": files, "labels": table_digest(self.table), "minutes": self.minutes}

    @property
    def table(self) -> Merge:
        """What values of the references mean."""
        return to_evaluation(self.labels, self.plan)

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that the references can give."""
        return frozenset(self.table.target_ids)

    def place(self, name: str) -> Path:
        """Folder of what is trained on this lesson and no other."""
        return self.folder / f"{self.scans[0].subject}-{digest(self.told)}" / name

    def pairs(self) -> list[tuple[Image, Image]]:
        """Scans and label maps of the set `manual`.

        Raises:
            ScanError: a file cannot be read, or a label map holds what that set does not.
        """
        table, pairs = self.table, []
        for scan in self.scans:
            assert scan.reference is not None
            reference = read_labels(scan.reference)
            values = table.apply(reference.voxels)
            if (label_set(TARGET).index_of_ids(values) < 0).any():
                raise ScanError(f"{scan.reference} lumps structures, wanted those of the set {TARGET!r}; leave it out")
            pairs.append((read_image(scan.image), reference.with_voxels(values)))
        return pairs


@dataclass(frozen=True, eq=False)
class SupervisedTool:
    """The package's own network, trained on real scans."""

    name: str
    lesson: Lesson
    swap_sides: bool = True  # mirrored samples exchange left and right

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""
        return self.lesson.ids

    @property
    def told(self) -> dict[str, Any]:
        """Lesson and kind of flips."""
        return {**self.lesson.told, "swap_sides": self.swap_sides, "learning_rate": RATE}

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Label a scan; the first time, train before that."""
        result = segment(scan, self.model, TARGET, flip=False)
        values = merge(TARGET, EVALUATION).apply(result.image.voxels)
        record = self.model.record
        return Found(
            result.image.with_voxels(values), facts={key: record[key] for key in ("steps", "minutes", "hardware")}
        )

    @cached_property
    def model(self) -> Model:
        """The trained model: read where the training was finished, gone on with where it was cut off."""
        folder = self.lesson.place(self.folder_name)
        if not self.lesson.resume:
            shutil.rmtree(folder, ignore_errors=True)
        checkpoint, device = folder / CHECKPOINT, torch.device(self.lesson.device)
        if (folder / "model" / "model.json").is_file() and not checkpoint.exists():
            made = load_model(folder / "model")
        else:
            names = [scan.subject for scan in self.lesson.scans]
            self.lesson.say(f"training {self.name} on {', '.join(names)}, {self.lesson.minutes:g} minutes")
            templates = pack_scans(names, self.lesson.pairs(), EVALUATION, TARGET).to(device)
            config = TrainConfig(minutes=self.lesson.minutes, learning_rate=RATE, validate_every=10**9)
            made = train(self._recipe, templates, config, Run(folder, resume=checkpoint.is_file()))
            if made.record["minutes"] < self.lesson.minutes - 0.1:
                raise KeyboardInterrupt  # the user stopped the training, which the next run goes on with
            checkpoint.unlink()  # as large as ten models, and of no more use
        made.network.eval().to(device)
        return made

    @property
    def folder_name(self) -> str:
        """Folder among those of the lesson."""
        return "supervised" if self.swap_sides else "naive"

    @property
    def _recipe(self) -> Recipe:
        recipe = load_recipe("supervised")
        assert recipe.pose is not None
        return dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, flip_swaps_sides=self.swap_sides))


@dataclass(frozen=True, eq=False)
class NnUNetTool:
    """NnU-Net by its own package; `mirror` is what it does unless it is told not to."""

    name: str
    lesson: Lesson
    mirror: bool

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""
        return self.lesson.ids

    @property
    def told(self) -> dict[str, Any]:
        """Lesson, and whether it mirrors."""
        return {**self.lesson.told, "mirror": self.mirror}

    @property
    def budget(self) -> NnUNetBudget:
        """Minutes of the lesson."""
        return NnUNetBudget(minutes=self.lesson.minutes, device=self.lesson.device, mirror=self.mirror)

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Label a scan; the first time, train before that.

        Raises:
            TrainingError: nnU-Net is not installed, or fails.
        """
        (image,) = predict_nnunet(self.model, {name: scan}, label_set(TARGET), self.budget).values()
        values = merge(TARGET, EVALUATION).apply(image.voxels)
        return Found(image.with_voxels(values), facts={"minutes": self.lesson.minutes})

    @cached_property
    def model(self) -> Path:
        """Folder of the trained model; nnU-Net goes on with what was cut off."""
        self.lesson.say(f"{self.name}: training for {self.lesson.minutes:g} minutes, if that is not done")
        place = self.lesson.place("nnunet" if self.mirror else "nnunet-unmirrored")
        if not self.lesson.resume:
            shutil.rmtree(place, ignore_errors=True)
        return train_nnunet(place, self.lesson.pairs(), label_set(TARGET), self.budget)
