"""Fit what predicts the Dice and the volume intervals of a model, on synthetic scans whose truth is known.

    python scripts/calibrate.py LABEL_MAPS MODEL_FOLDER --rows FILE [--number 240]

Samples come from the model's own recipe, made worse: thicker slices, more noise, stronger gain, more artefacts. One in
four shows a whole head, the others the crop of training; one in three is also segmented without its mirror image. Four
in five fit the model, the fifth measures it: `held_out` in MODEL_FOLDER/calibration.json holds the correlation with the
true Dice and the coverage of the intervals there.
What is measured is kept in the file of `--rows`; another run goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from phantomseg.evaluation.overlap import overlap
from phantomseg.image.files import write_atomically
from phantomseg.inference.predict import predict
from phantomseg.inference.quality import FEATURES, LEAST_LOSS, SMALLEST_MM3, Signs, design, log_share, logit, read_signs
from phantomseg.inference.refine import refine
from phantomseg.inference.restore import highest
from phantomseg.inference.tables import write_json
from phantomseg.inference.tissues import REFINED
from phantomseg.inference.topology import keep_largest
from phantomseg.labels import label_set
from phantomseg.network.model import Model, load_model
from phantomseg.rng import LogUniform, Uniform
from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import Recipe, parse_recipe
from phantomseg.synth.sample import Batch
from phantomseg.synth.templates import Templates, load_templates

MEASURED = "refined, each set as by itself"  # how; rows that were measured in another way are not gone on with
SEED = 2**31 + 7  # no training takes it
SETS = ("freesurfer", "head", "lesions", "siam", "tissue", "brain", "intracranial")
WHOLE_HEAD = (160, 192, 160)
RIDGE = 1.0
LEAST_VOXELS = 20  # of a structure's truth, for its Dice to count
COVERAGE, LEAST_SAMPLES = 0.9, 20  # of intervals; a structure that fewer samples show has none
HELD_OUT = 5  # one sample in so many; prime to what the kinds of sample repeat by
THRESHOLD_DICE = 0.65  # what the documented threshold asks of the true mean

Row = dict[str, dict[str, dict[str, np.ndarray]]]  # with or without flip, label set, sign


def worse(recipe: Recipe) -> Recipe:
    """The recipe with acquisitions that it is weak at drawn more often."""
    assert recipe.resolution and recipe.artefacts and recipe.bias
    return dataclasses.replace(
        recipe,
        slab=None,  # whose repeated planes are no part of the scan in use
        resolution=dataclasses.replace(
            recipe.resolution,
            fine_probability=0.25,
            isotropic_probability=0.25,
            isotropic_mm=LogUniform(1, 6),
            slices_mm=Uniform(1, 10),
            noise_std=LogUniform(0.005, 0.2),
        ),
        bias=dataclasses.replace(recipe.bias, log_std=Uniform(0, 0.8)),
        artefacts=dataclasses.replace(
            recipe.artefacts,
            motion_probability=0.1,
            ghost_probability=0.1,
            spike_probability=0.05,
            slices_probability=0.05,
            saturation_probability=0.05,
        ),
    )


def main() -> None:
    """Measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--number", type=int, default=240)
    parser.add_argument("--rows", type=Path, required=True)
    arguments = parser.parse_args()
    set_threads()
    keep_freed_memory()
    model = load_model(arguments.model)
    rows = measure(model, load_templates(arguments.templates), arguments.number, arguments.rows)
    sets = {name: {kind: fit(rows, name, kind) for kind in ("flip", "no flip")} for name in SETS if model.reaches(name)}
    content = {"weights_sha256": model.weights_sha256, "features": list(FEATURES), "sets": sets}
    write_json(arguments.model / "calibration.json", content)
    for name, kinds in sets.items():
        print(name, json.dumps(kinds["flip"]["held_out"]), json.dumps(kinds["no flip"]["held_out"]))


def measure(model: Model, templates: Templates, number: int, path: Path) -> list[Row]:
    """Signs and truth of every sample, kept in a file as they come; those that it holds already are not made again."""
    recipe = worse(parse_recipe(model.record["recipe"]))
    large = dataclasses.replace(recipe, pose=dataclasses.replace(recipe.pose, crop_voxels=WHOLE_HEAD))
    key = (model.weights_sha256, MEASURED)
    kept = pickle.loads(path.read_bytes()) if path.is_file() else {}
    rows: list[Row] = kept.get(key, [])
    for index in range(len(rows), number):
        batch = generate(large if index % 4 == 1 else recipe, templates, SEED, range(index, index + 1))
        kinds = ("flip", "no flip") if index % 3 == 0 else ("flip",)
        rows.append({kind: _sample(model, batch, kind == "flip") for kind in kinds})
        write_atomically(path, lambda temporary: Path(temporary).write_bytes(pickle.dumps({key: rows})))
        print(f"\r{index + 1} of {number}", end="", flush=True)
    print()
    return rows


def _sample(model: Model, batch: Batch, flip: bool) -> dict[str, dict[str, np.ndarray]]:
    """Signs, Dice and true volume of each label, by label set."""
    names = [name for name in SETS if model.reaches(name)]
    predicted = predict(model, batch.image, names, flip)
    sets = dict(zip(names, predicted.sets, strict=True))
    if model.refines and model.reaches(REFINED):
        refine(sets, batch.image[0, 0], model)
    before = label_set(model.labels.name).channels_before(len(model.labels))
    truth = model.labels.ids[before[batch.hard_target()[0].numpy()]]
    found = {}
    offset = 0
    for name, probabilities in sets.items():
        labels = model.label_set(name)
        true = labels.index_of_ids(model.merge(name).apply(truth))
        share = keep_largest(probabilities, labels)
        agreement = None if predicted.agreements is None else predicted.agreements[offset : offset + len(labels)]
        offset += len(labels)
        signs = read_signs(probabilities, share, agreement, model.spacing_mm**3)
        counts = overlap(highest(probabilities, range(len(labels))).numpy(), true, np.arange(1, len(labels)))
        dice = np.where(counts.reference >= LEAST_VOXELS, counts.dice, np.nan)
        found[name] = {**vars(signs), "dice": dice, "true_mm3": counts.reference * model.spacing_mm**3}
    return found


def fit(rows: list[Row], name: str, kind: str) -> dict[str, Any]:
    """Everything that `assess` needs of one label set, and how well it does on samples held out."""
    keys = [field.name for field in dataclasses.fields(Signs)]
    tables = [row[kind][name] for row in rows if kind in row]
    held = np.array([index % HELD_OUT == 1 for index, row in enumerate(rows) if kind in row])
    table = {key: np.stack([t[key] for t in tables]) for key in (*keys, "dice", "true_mm3")}
    number = len(table["dice"])
    learn = ~held
    signs = [Signs(**{key: table[key][n] for key in keys}) for n in range(number)]
    shares = np.stack([log_share(table["true_mm3"][n]) for n in range(number) if learn[n]])
    present = np.isfinite(table["dice"][learn])
    mean = np.array(
        [np.median(shares[present[:, c], c]) if present[:, c].any() else 0.0 for c in range(shares.shape[1])]
    )
    std = np.array(
        [max(np.std(shares[present[:, c], c]), 0.1) if present[:, c].any() else 1.0 for c in range(len(mean))]
    )
    features = np.stack([design(s, mean, std) for s in signs])  # (number, C - 1, F)
    slopes, intercepts = _ridge(features[learn], table["dice"][learn])
    predicted = 1 / (1 + np.exp(-(intercepts + features @ slopes)))
    ratio = np.log((table["true_mm3"] + SMALLEST_MM3) / (table["volume_mm3"] + SMALLEST_MM3))
    scaled = ratio / (1 - predicted + LEAST_LOSS)
    low, high = _ends(scaled[learn], np.isfinite(table["dice"][learn]))
    score = _held_out(predicted[~learn], table["dice"][~learn], scaled[~learn], (low, high))
    return {
        "intercepts": intercepts.round(5).tolist(),
        "slopes": slopes.round(5).tolist(),
        "log_share_mean": mean.round(5).tolist(),
        "log_share_std": std.round(5).tolist(),
        "log_ratio_low": low.round(5).tolist(),
        "log_ratio_high": high.round(5).tolist(),
        "threshold": THRESHOLD_DICE,
        "held_out": score,
    }


def _ridge(features: np.ndarray, dice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes common to all structures and an intercept of each, by least squares on the logit scale."""
    number, count, width = features.shape
    known = np.isfinite(dice)
    one_hot = np.broadcast_to(np.eye(count), (number, count, count))
    x = np.concatenate([features, one_hot], 2)[known]
    y = logit(dice[known])
    weight = np.sqrt(np.clip(dice[known] * (1 - dice[known]), 0.02, None))  # errors of Dice, not of its logit, count
    penalty = np.diag([1e-3] * width + [RIDGE * 0.05] * count)
    offset = float(np.average(y, weights=weight**2))
    xw, yw = x * weight[:, None], (y - offset) * weight
    solution = np.linalg.solve(xw.T @ xw + penalty, xw.T @ yw)
    return solution[:width], solution[width:] + offset


def _ends(scaled: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of each structure's scaled errors, as conformal prediction ranks them."""
    ends = []
    for c in range(scaled.shape[1]):
        values = np.sort(scaled[known[:, c], c])
        count = len(values)
        if count < LEAST_SAMPLES:
            ends.append((np.nan, np.nan))
            continue
        tail = (1 - COVERAGE) / 2
        low = values[max(int(np.floor(tail * (count + 1))) - 1, 0)]
        high = values[min(int(np.ceil((1 - tail) * (count + 1))) - 1, count - 1)]
        ends.append((float(low), float(high)))
    low, high = np.array(ends).T
    return low, high


def _held_out(
    predicted: np.ndarray, dice: np.ndarray, scaled: np.ndarray, ends: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    known = np.isfinite(dice)
    covered = (scaled >= ends[0]) & (scaled <= ends[1])
    bounded = known & np.isfinite(ends[0])
    within = [
        stats.spearmanr(predicted[known[:, c], c], dice[known[:, c], c]).statistic
        for c in range(dice.shape[1])
        if known[:, c].sum() > 9
    ]
    means = np.array([np.nanmean(row) for row in dice if np.isfinite(row).any()])
    guessed = np.array([np.nanmean(np.where(k, p, np.nan)) for p, k in zip(predicted, known, strict=True) if k.any()])
    return {
        "samples": int(len(means)),
        "spearman_all": round(float(stats.spearmanr(predicted[known], dice[known]).statistic), 3),
        "spearman_within_structure": round(float(np.nanmean(within)), 3) if within else float("nan"),
        "spearman_scan_mean": round(float(stats.spearmanr(guessed, means).statistic), 3),
        "mean_error": round(float(np.abs(predicted[known] - dice[known]).mean()), 3),
        "coverage": round(float(covered[bounded].mean()), 3) if bounded.any() else float("nan"),
    }


if __name__ == "__main__":
    main()
