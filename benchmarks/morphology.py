"""Cortical thickness obtained against thickness drawn, and its cost: distances at 1 mm, dilation at 1, 0.5 and 0.25 mm.

    python benchmarks/morphology.py [--runs 3]

The head is a ball of white matter of 20 mm in a shell of cortex of 4 mm, in a volume of 64 mm; the answer is known.
Dilation grows the white matter by whole voxels along faces and edges, as SIAM does at 0.25 mm, on a grid refined
from 1 mm and averaged back. The cost is that of one crop of the `head` recipe, 112 × 144 × 112 mm.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from torch.nn import functional as F

from phantomseg.runtime import keep_freed_memory, set_threads
from phantomseg.synth.channels import channel, is_any
from phantomseg.synth.shape import CORTEX, CSF, WHITE, Shape, apply_shape

DRAWN_MM = (1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25)
CROP_MM = (112, 144, 112)
INNER_MM, OUTER_MM = 20.0, 24.0


def ball(shape: tuple[int, int, int]) -> torch.Tensor:
    """Labels of the test head, centred between voxels."""
    centre = np.array(shape) / 2 - np.array([0.7, 0.1, 0.4])
    radius = np.linalg.norm(np.indices(shape).reshape(3, -1).T - centre, axis=1).reshape(shape)
    white, cortex, fluid = channel(WHITE[0]), channel(CORTEX[0]), channel(CSF[0])
    labels = np.where(radius <= INNER_MM, white, np.where(radius <= OUTER_MM, cortex, fluid))
    return torch.from_numpy(labels.astype(np.uint8))


def by_distance(labels: torch.Tensor, thickness_mm: float) -> torch.Tensor:
    """The package's way: a threshold on a distance."""
    shape = Shape(("thickness",), (thickness_mm,), 0.0, 25.0, 0)
    return is_any(apply_shape(labels[None], [shape])[0], CORTEX).float()


def by_dilation(labels: torch.Tensor, thickness_mm: float, voxel_mm: float) -> torch.Tensor:
    """Fractions of cortex after dilation of the white matter on a grid of `voxel_mm`, averaged to 1 mm."""
    times = round(1 / voxel_mm)
    fine = labels
    for axis in range(3):
        fine = fine.repeat_interleave(times, axis)
    white, was_cortex = is_any(fine, WHITE), is_any(fine, CORTEX)
    grown = white[None, None].to(torch.bfloat16)
    for _ in range(round(thickness_mm / voxel_mm)):
        # faces and edges: the union of three square dilations
        grown = torch.maximum(
            torch.maximum(F.max_pool3d(grown, (1, 3, 3), 1, (0, 1, 1)), F.max_pool3d(grown, (3, 1, 3), 1, (1, 0, 1))),
            F.max_pool3d(grown, (3, 3, 1), 1, (1, 1, 0)),
        )
    cortex = (grown[0, 0] > 0) & was_cortex & ~white
    return F.avg_pool3d(cortex[None, None].float(), times)[0, 0]


METHODS = {
    "distance, 1 mm": by_distance,
    "dilation, 1 mm": lambda labels, mm: by_dilation(labels, mm, 1.0),
    "dilation, 0.5 mm": lambda labels, mm: by_dilation(labels, mm, 0.5),
    "dilation, 0.25 mm": lambda labels, mm: by_dilation(labels, mm, 0.25),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    set_threads()
    keep_freed_memory()
    small, crop = ball((64, 64, 64)), ball(CROP_MM)
    inner = float(is_any(small, WHITE).sum())
    print(f"{'thickness in mm, drawn':24}" + "".join(f"{mm:8.2f}" for mm in DRAWN_MM) + f"{'error':>8}{'s a crop':>10}")
    for name, method in METHODS.items():
        obtained = []
        for mm in DRAWN_MM:
            outer = inner + float(method(small, mm).sum())
            obtained.append((outer * 3 / (4 * math.pi)) ** (1 / 3) - (inner * 3 / (4 * math.pi)) ** (1 / 3))
        method(crop, 2.0)
        seconds = []
        for _ in range(arguments.runs):
            started = time.perf_counter()
            method(crop, 2.0)
            seconds.append(time.perf_counter() - started)
        error = np.abs(np.array(obtained) - DRAWN_MM).mean()
        print(f"{name:24}" + "".join(f"{mm:8.2f}" for mm in obtained) + f"{error:8.2f}{min(seconds):10.3f}")


if __name__ == "__main__":
    main()
