"""Brain masks across species and modalities: Dice, HD95 and volume error of each scan, for one model or several.

    python benchmarks/stripping.py SCANS LABEL_MAPS [--models strip,head,RUN/model] [--number 4] [--csv FILE]
                                   [--picture FILE] [--speed]

SCANS holds the scans named below; LABEL_MAPS as for `phantomseg train`. What counts as brain:

- `mouse_t1_head`: a manual mask;
- `flair_head_5p5mm`: labels of the same person's brain (GIF 3), closed by 4 mm, so that sulci are within;
- `t1_head_0p7mm`, `ct_head`: the mask of the model `head`, as nobody has drawn one;
- stripped scans: all that is more than 0, holes filled;
- heads synthesised from the label maps, with contrasts of T1-weighted scans and of the recipe `head`: labels of the
  brain, closed by 4 mm.

All masks are the network's own (`--no-keep-stripped`). What stripped scans lose, by the network alone and as
`phantomseg strip` writes them, follows. Then scans that show no brain (noise, a ball, a leg, two legs), which are to
get an empty mask, and with `--speed` the seconds and the memory that a scan of 256³ voxels of 1 mm takes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from accuracy import ready, save
from heads import RECIPE, drawn_head, load_fine
from matplotlib.figure import Figure
from scipy import ndimage

from phantomseg.evaluation.surface import surface_distances
from phantomseg.image.files import read_image, read_labels
from phantomseg.image.grid import canonical, content_box
from phantomseg.image.image import Image
from phantomseg.image.intensity import windowed
from phantomseg.inference.strip import SULCI_MM, Stripped, strip
from phantomseg.inference.topology import closed
from phantomseg.labels import merge
from phantomseg.memory import forget_peak, peak_bytes
from phantomseg.models import find_model
from phantomseg.network.model import Model
from phantomseg.report.figures import slice_of
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import Recipe, load_recipe, parse_recipe, record
from phantomseg.synth.templates import Templates

STRIPPED = ("t2_brain_1mm", "infant_t1_brain", "fetal_t2_brain", "stroke_t1", "stroke_t2", "stroke_flair")
PICTURED = ("t1_head_0p7mm", "ct_head", "flair_head_5p5mm", "mouse_t1_head", *STRIPPED[:4])
BY_HEAD = {"t1_head_0p7mm": "T1 0.7 mm, whole head", "ct_head": "CT, whole head"}  # the model `head` made their masks
T1_LIKE = 5
SEED = 2**31 + 11  # the command line takes smaller ones
Case = tuple[str, Image, np.ndarray]
KINDS: dict[str, Callable[[str], bool]] = {
    "all": lambda title: True,
    "real and T1-like heads": lambda title: "whole head" in title or "T1-like" in title,
    "stripped": lambda title: "stripped" in title,
}


def real_cases(folder: Path) -> Iterator[Case]:
    """Scans with their masks, boolean on the same grid."""
    mouse = read_labels(folder / "mouse_t1_head_mask.nii.gz").voxels > 0
    yield "mouse T1, whole head", read_image(folder / "mouse_t1_head.nii.gz"), mouse
    flair = read_image(folder / "flair_head_5p5mm.nii.gz")
    yield "FLAIR 5.5 mm, whole head", flair, gif_mask(folder / "flair_head_5p5mm_gif-labels_1mm.nii.gz", flair)
    for name, title in BY_HEAD.items():
        scan = read_image(folder / f"{name}.nii.gz")
        yield title, scan, strip(scan, find_model("head"), fluid="sulci").image.voxels > 0
    for name in STRIPPED:
        scan = read_image(folder / f"{name}.nii.gz")
        yield f"{name}, stripped", scan, ndimage.binary_fill_holes(scan.voxels > 0)


def gif_mask(path: Path, scan: Image) -> np.ndarray:
    """Brain of a GIF label map on the grid of a scan of the same person."""
    labels = read_labels(path)
    values = merge("gif", "evaluation").apply(labels.voxels)
    brain = closed((values > 0) & (values != 24), labels.spacing_mm, SULCI_MM).astype(np.uint8)
    to_labels = np.linalg.inv(labels.affine) @ scan.affine
    on_scan = ndimage.affine_transform(brain, to_labels[:3, :3], to_labels[:3, 3], scan.shape, order=0)
    return np.asarray(on_scan > 0)


def synthetic_recipe() -> Recipe:
    """Whole heads as the head model was trained on, all in view; left and right look alike, as in any real scan."""
    table = record(load_recipe("head"))
    table["target"] = "brain"
    table["pose"] |= {"crop_voxels": [192, 224, 192], "anywhere_probability": 0.0, "neck_probability": 0.0}
    table["pose"]["translation_mm"] = {"uniform": [-5, 5]}
    table["tissues"]["shared_sides_probability"] = 1.0
    return parse_recipe(
        {key: value for key, value in table.items() if key not in ("strip", "slab", "view", "fine_voxels_per_mm")}
    )


def synthetic_cases(templates: Templates, number: int) -> Iterator[Case]:
    """Whole heads of drawn contrasts with their brains; five in that of T1-weighted scans come first."""
    for index in range(T1_LIKE):
        scan, values = drawn_head(parse_recipe(RECIPE), templates, SEED, index)
        brain = closed(merge("head", "brain").apply(values) == 1, np.ones(3), SULCI_MM)
        yield f"synthetic T1-like head {index + 1}", scan, brain
    recipe = synthetic_recipe()
    for index in range(number):
        batch = generate(recipe, templates, SEED, range(index, index + 1))
        brain = closed(batch.target[0].numpy() == 1, np.ones(3), SULCI_MM)
        yield f"synthetic head {index + 1}", Image(batch.image[0, 0].numpy(), np.eye(4)), brain


def brainless() -> Iterator[tuple[str, Image]]:
    """Scans of what is no brain."""
    rng = np.random.default_rng(0)
    shape, affine = (128, 128, 128), np.diag([2.0, 2.0, 2.0, 1.0])
    i, j, k = np.indices(shape) - 63.5
    noise = rng.normal(5, 3, shape)
    tube = np.hypot(i, j)
    muscles = 30 * np.sin(i / 6) * np.cos(j / 7) * ((tube < 34) & (tube > 12))
    leg = 80.0 * (tube < 40) + 60 * (tube < 34) - 110 * (tube < 12) + 90 * (tube < 7) + muscles
    pair = np.minimum(np.hypot(i - 30, j), np.hypot(i + 30, j))
    legs = 90.0 * (pair < 26) + 50 * (pair < 22) - 110 * (pair < 7) + 80 * (pair < 4)
    made = {
        "noise": rng.normal(100, 20, shape),
        "noise of a magnitude image": np.hypot(*rng.normal(0, 20, (2, *shape))),
        "ball": 100.0 * (np.sqrt(i**2 + j**2 + k**2) < 45) + noise,
        "leg": leg + noise,
        "two legs": legs + noise,
    }
    for name, voxels in made.items():
        yield name, Image(voxels.clip(0).astype(np.float32), affine)


def score(found: Stripped, reference: np.ndarray) -> tuple[float, float, float]:
    """Dice, HD95 in mm, and volume error in percent."""
    mask = found.image.voxels > 0
    dice = 2 * (mask & reference).sum() / max(1, mask.sum() + reference.sum())
    distances = surface_distances(mask, reference, found.image.spacing_mm)
    return float(dice), distances.hd95_mm, float(100 * (mask.sum() / reference.sum() - 1))


def table_of(cases: list[Case], models: dict[str, Model]) -> list[tuple[str, ...]]:
    """Header, a row a case, and the median and worst Dice of each model, of all and of two kinds of scans."""
    header = ["scan"] + [f"{name}: {what}" for name in models for what in ("Dice", "HD95, mm", "volume, %")]
    rows = [tuple(header)]
    dice: dict[str, dict[str, float]] = {name: {} for name in models}
    for title, scan, reference in cases:
        row = [title]
        for name, model in models.items():
            if name == "head" and (title.startswith("mouse") or title in BY_HEAD.values()):
                row += [""] * 3
                continue
            found = score(strip(scan, model, fluid="sulci"), reference)
            dice[name][title] = found[0]
            row += [f"{found[0]:.3f}", f"{found[1]:.1f}", f"{found[2]:+.1f}"]
        rows.append(tuple(row))
        print("  ".join(f"{cell:>10}" if n else f"{cell:28}" for n, cell in enumerate(row)), flush=True)
    for kind, belongs in KINDS.items():
        for word, measure in (("median", np.median), ("worst", np.min)):
            values = ([value for title, value in dice[name].items() if belongs(title)] for name in models)
            rows.append((f"{kind}: {word}", *(x for one in values for x in (f"{measure(one):.3f}", "", ""))))
            print("  ".join(f"{cell:>10}" if n else f"{cell:28}" for n, cell in enumerate(rows[-1])))
    return rows


def print_lost(cases: list[Case], models: dict[str, Model]) -> None:
    """Share of each stripped scan that is outside its mask, by the network alone and as written."""
    for title, scan, reference in cases:
        if not title.startswith(STRIPPED):
            continue
        words = []
        for name, model in models.items():
            masks = [strip(scan, model, fluid=fluid).image.voxels > 0 for fluid in ("sulci", "kept")]
            own, written = (100 * (reference & ~mask).sum() / reference.sum() for mask in masks)
            words.append(f"{name} {own:.1f} %, as written {written:.1f} %")
        print(f"{title} loses: {'; '.join(words)}", flush=True)


def draw_masks(path: Path, found: dict[str, tuple[Image, Stripped]]) -> None:
    """Three slices of each scan through the middle of its mask, which is outlined; two scans a row."""
    figure = Figure(figsize=(13, 2.15 * -(-len(found) // 2)), layout="constrained", facecolor="black")
    axes = figure.subplots(-(-len(found) // 2), 6, squeeze=False)
    for place, (name, (scan, result)) in enumerate(found.items()):
        image, mask = canonical(scan), canonical(result.image).voxels
        low, high = content_box(mask > 0)
        voxels = windowed(image.voxels)
        dark, bright = np.percentile(voxels[::2, ::2, ::2], [0.5, 99.5])
        for plane in range(3):
            axis = axes[place // 2, 3 * (place % 2) + plane]
            others = [a for a in range(3) if a != plane]
            at = int(low[plane] + high[plane]) // 2
            aspect = image.spacing_mm[others[1]] / image.spacing_mm[others[0]]
            axis.imshow(slice_of(voxels, plane, at), cmap="gray", vmin=dark, vmax=bright, aspect=aspect)
            axis.contour(slice_of(mask, plane, at), [0.5], colors="#ff5a3c", linewidths=1)
            axis.set_title(name.replace("_", " ") if plane == 1 else "", color="white", fontsize=8)
            axis.axis("off")
    figure.savefig(path, dpi=90)


def ellipsoid_head() -> Image:
    """A head in 256³ voxels of 1 mm, its brain an ellipsoid with half-axes of 70, 88 and 65 mm."""
    i, j, k = np.indices((256, 256, 256)) - 127.5
    rng = np.random.default_rng(0)
    away = np.sqrt((i / 70) ** 2 + (j / 88) ** 2 + (k / 65) ** 2)
    voxels = np.where(away < 1.35, 60.0, 0.0) + np.where(away < 1.1, -40, 0) + np.where(away < 1, 90, 0)
    voxels += 20 * ((away < 0.8) & (np.sin(i / 9) * np.cos(j / 11) > 0)) + rng.normal(4, 3, away.shape)
    return Image(voxels.astype(np.float32), np.eye(4))


def speed(model: Model) -> None:
    """Seconds and peak memory that such a head takes, without reading, report and writing."""
    scan = ellipsoid_head()
    strip(scan, model)
    forget_peak()
    started = time.perf_counter()
    found = strip(scan, model)
    print(f"256³ voxels of 1 mm: {time.perf_counter() - started:.2f} s, peak {peak_bytes() / 1e9:.2f} GB, ", end="")
    print(f"brain of {found.brain_ml:.0f} ml (drawn: {4 / 3 * math.pi * 70 * 88 * 65 / 1000:.0f})")


def main() -> None:
    """Print the tables, and draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("templates", type=Path)
    parser.add_argument("--models", default="universal,shapes,head")
    parser.add_argument("--number", type=int, default=4)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    models = {name: ready(name) for name in arguments.models.split(",")}
    cases = [*real_cases(arguments.scans), *synthetic_cases(load_fine(arguments.templates), arguments.number)]
    save(table_of(cases, models), arguments.csv)
    print_lost(cases, models)
    for title, scan in brainless():
        masks = [f"{name} {strip(scan, model).brain_ml:.0f} ml" for name, model in models.items()]
        print(f"no brain, {title}: {', '.join(masks)}")
    first = next(iter(models.values()))
    if arguments.picture:
        scans = {name: read_image(arguments.scans / f"{name}.nii.gz") for name in PICTURED}
        own = {name: (scan, strip(scan, first, fluid="sulci")) for name, scan in scans.items()}
        draw_masks(arguments.picture, own)
    if arguments.speed:
        speed(first)


if __name__ == "__main__":
    main()
