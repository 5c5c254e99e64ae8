"""Seconds for the surface distances of 33 structures at 1 mm, beside surface-distance and MONAI, in one run.

    python benchmarks/distances.py LABEL_MAPS [--runs 3]

LABEL_MAPS holds label maps with the values of the set `generation`. One of them, and the same after a drawn warp of
2 mm, stand for reference and prediction: the 32 structures of `freesurfer`, and all of them together. Every tool is
given the two label maps and finds HD95, mean distance and surface Dice of each structure; ours and surface-distance's
must agree to 1e-6.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from phantomseg.evaluation.boxes import masks_of
from phantomseg.evaluation.surface import surface_distances
from phantomseg.labels import label_set, merge
from phantomseg.synth.pose import Pose, look_up
from phantomseg.synth.templates import load_templates

Scores = list[tuple[float, float, float]]  # HD95, mean distance, surface Dice at 1 mm
CROP = (192, 224, 192)
BRAIN = 33


def label_maps(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference with values 0 to 32."""
    templates = load_templates(folder)
    middle = (templates.brain_low[0] + templates.brain_high[0]) / 2
    maps = []
    for warp_mm in (2.0, 0.0):
        pose = Pose(0, CROP, (0.0,) * 3, (1.0,) * 3, (0.0,) * 3, tuple(middle.tolist()), warp_mm, 25.0, 1, False)
        values = label_set("generation").ids[look_up([pose], templates)[0].numpy()]
        ids = merge("head", "freesurfer").apply(merge("generation", "head").apply(values))
        maps.append(label_set("freesurfer").index_of_ids(ids))
    return maps[0], maps[1]


def whole(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks of all structures, and of the brain."""
    for number in range(1, BRAIN):
        yield one == number, other == number
    yield one > 0, other > 0


def ours(one: np.ndarray, other: np.ndarray) -> Scores:
    """By PhantomSeg."""
    pairs = [*masks_of(one, other, BRAIN - 1), (one > 0, other > 0)]
    found = [surface_distances(*pair, np.ones(3)) for pair in pairs]
    return [(each.hd95_mm, each.mean_mm, each.nsd(1.0)) for each in found]


def deepmind(one: np.ndarray, other: np.ndarray) -> Scores:
    """By surface-distance."""
    from surface_distance import metrics

    rows = []
    for pair in whole(one, other):
        found = metrics.compute_surface_distances(*pair, (1, 1, 1))
        sums = [
            float((found[f"distances_{way}"] * found[f"surfel_areas_{way[: way.index('_')]}"]).sum())
            for way in ("gt_to_pred", "pred_to_gt")
        ]
        mean = sum(sums) / sum(float(found[f"surfel_areas_{name}"].sum()) for name in ("gt", "pred"))
        hd95 = metrics.compute_robust_hausdorff(found, 95)
        rows.append((hd95, mean, metrics.compute_surface_dice_at_tolerance(found, 1.0)))
    return rows


def monai(one: np.ndarray, other: np.ndarray) -> Scores:
    """By MONAI, whose surfaces are made of voxels."""
    import monai.metrics as m

    rows = []
    for pair in whole(one, other):
        tensors = [torch.from_numpy(mask)[None, None] for mask in pair]
        hd95 = m.compute_hausdorff_distance(*tensors, include_background=True, percentile=95).item()
        mean = m.compute_average_surface_distance(*tensors, include_background=True, symmetric=True).item()
        dice = m.compute_surface_dice(*tensors, class_thresholds=[1.0], include_background=True).item()
        rows.append((hd95, mean, dice))
    return rows


def fastest(work: Callable[[np.ndarray, np.ndarray], Scores], maps: tuple[np.ndarray, np.ndarray], runs: int):
    """Seconds of the quickest of some runs, and what it found."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        found = work(*maps)
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of peers about names that are to go
    maps = label_maps(arguments.label_maps)
    base, found = fastest(ours, maps, arguments.runs)
    print(f"{'PhantomSeg':20}{base:8.2f} s")
    for name, work in (("surface-distance", deepmind), ("MONAI", monai)):
        seconds, theirs = fastest(work, maps, arguments.runs)
        apart = np.nanmax(np.abs(np.array(found) - np.array(theirs)))
        print(f"{name:20}{seconds:8.2f} s{seconds / base:8.1f} times as long; largest difference {apart:.1e}")
        if name == "surface-distance" and not np.allclose(found, theirs, atol=1e-6, equal_nan=True):
            raise SystemExit("the distances are not those of surface-distance")


if __name__ == "__main__":
    main()
