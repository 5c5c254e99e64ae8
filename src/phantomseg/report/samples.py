"""Samples of a recipe as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from phantomseg.image.files import write_atomically, write_image
from phantomseg.image.image import Image
from phantomseg.labels import UNLABELLED, label_set
from phantomseg.report.figures import contact_sheet, middle_slice
from phantomseg.synth.generate import generate, label_maps
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.source import SHAPES
from phantomseg.synth.templates import Templates


def write_samples(folder: Path, recipe: Recipe, templates: Templates, seed: int, indices: range) -> Path:
    """Write image, target and record of each sample, and `contact_sheet.png`, whose path is returned.

    The sheet shows the image beside its target, or beside the shapes that it was painted from.
    """
    labels = label_set(recipe.target)
    pictures = {}
    for index in indices:
        batch = generate(recipe, templates, seed, range(index, index + 1))
        image, target = batch.image[0, 0].cpu().numpy(), batch.hard_target()[0].cpu().numpy()
        target = np.where(target == UNLABELLED, 0, target)
        affine = np.eye(4)
        affine[:3, 3] = -(np.array(image.shape) - 1) / 2
        name = f"sample-{seed}-{index}"
        write_image(folder / f"{name}.nii.gz", Image(image, affine))
        write_image(folder / f"{name}_dseg.nii.gz", Image(labels.ids[target].astype(np.int16), affine))
        _write_record(folder / f"{name}.json", batch.draws[0].record())
        shown, names = target, labels
        if batch.draws[0].source == SHAPES:  # the target says less than the shapes
            shown, names = label_maps(list(batch.draws), templates)[0].cpu().numpy(), label_set(SHAPES)
        pictures[f"{index}"] = middle_slice(index, image, shown, names)
    sheet = folder / "contact_sheet.png"
    contact_sheet(sheet, pictures)
    return sheet


def _write_record(path: Path, record: dict[str, object]) -> None:
    text = json.dumps(record, indent=1)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text + "\n", encoding="utf-8"))
