"""How good the averaged network is on synthetic samples it never trained on."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from phantomseg.evaluation.dataset import Case
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.evaluation.overlap import overlap
from phantomseg.inference.predict import predict
from phantomseg.inference.segment import segment
from phantomseg.labels import UNLABELLED, label_set
from phantomseg.network.model import Model
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import Recipe, record
from phantomseg.synth.templates import Templates
from phantomseg.training.stages import facts_of

HELD_OUT_SEED = 2**31  # the command line takes smaller ones
MANUAL = "manual"  # label set of real label maps, whose values are those of `evaluation`


def held_out_dice(network: nn.Module, recipe: Recipe, templates: Templates, count: int = 8) -> dict[str, float]:
    """Mean hard Dice over classes present (background left out) and over `count` held-out samples.

    Those of real scans are other views of the scans that are learnt from, and named so.
    """
    model = Model(network, label_set(recipe.target), record={"recipe": record(recipe)})
    dices: list[float] = []
    for index in range(count):
        batch = generate(recipe, templates, HELD_OUT_SEED, range(index, index + 1))
        (probabilities,) = predict(model, batch.image, [recipe.target], flip=False).sets
        predicted, target = probabilities.argmax(0).numpy(), batch.hard_target()[0].cpu().numpy()
        if batch.classes is not None:
            found = _likeliest(probabilities.float().numpy(), batch.classes[0])
            predicted = np.where(target == UNLABELLED, 0, found)
            target = np.where(target == UNLABELLED, 0, target)
        counts = overlap(predicted, target, np.arange(1, len(model.labels)))
        present = counts.reference > 0
        if present.any():  # a crop may show background alone
            dices.append(float(counts.dice[present].mean()))
    key = "dice_held_out" if templates.images is None else "dice_learnt_scans"
    return {key: round(sum(dices) / len(dices), 4)} if dices else {}


def _likeliest(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The lowest class of those that are likeliest together, (I, J, K)."""
    lowest = np.unique(classes)
    sums = np.stack([probabilities[classes == one].sum(0) for one in lowest])
    found: np.ndarray = lowest[sums.argmax(0)]
    return found


def real_scan_dice(
    network: nn.Module, recipe: Recipe, cases: list[Case], templates: Templates | None = None
) -> dict[str, float]:
    """Mean Dice over all structures and labelled scans, left and right merged.

    Raises:
        LabelError: the network's set does not merge into the one that is scored.
    """
    facts = facts_of(templates) if templates else {}
    model = Model(network, label_set(recipe.target), record={"recipe": record(recipe), **facts})
    scores = []
    for case in cases:
        scan, reference = case.read()
        found = segment(scan, model, scored_set(recipe.target), flip=False).image
        dice = structure_dice(found.voxels, reference.voxels, label_set("evaluation"), merged=True)
        scores += [value for value in dice.values() if not math.isnan(value)]
    return {"dice_scans": round(sum(scores) / len(scores), 4)}


def scored_set(target: str) -> str:
    """Label set that a network's results for real scans are scored in; its values are among those of `evaluation`.

    >>> scored_set("head"), scored_set("manual")
    ('freesurfer', 'manual')
    """
    return MANUAL if target == MANUAL else "freesurfer"
