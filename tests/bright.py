"""A network whose brain is what is brighter than half, with exact distances near it, for tests of what surrounds it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantom
import torch

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, save_model

REACH = 6
SLOPE = 2.2  # of the output over that of the brightness, so that distances of a ball are about right
SIZES = {"classes": 1, "features": [4, 8], "convolutions": [1, 1], "detail": 2}


def model(folder: Path, human_mm: float = 2.0) -> Path:
    """Saved as brain extraction is: distances over a reach, human brains seen at 2 mm."""
    network = build_network("fast", SIZES)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # the last input of the head is the image; all else of the network adds nothing
        network.head.weight[0, -1, 1, 1, 1] = 1.0  # type: ignore[operator, index, union-attr]
        network.classify.weight[0, 0] = -SLOPE  # type: ignore[operator, index, union-attr]
        network.classify.bias[0] = SLOPE / 2  # type: ignore[operator, index, union-attr]
    record = {"recipe": {"distance_voxels": REACH, "shapes": {"crop_voxels": [96, 96, 96]}}}
    save_model(folder, Model(network, label_set("mask"), human_mm, record))
    return folder


def fluid_model(folder: Path, human_mm: float = 2.0) -> Path:
    """A quarter to three quarters of the brightest are fluid, what is brighter is brain."""
    network = build_network("fast", {**SIZES, "classes": 4})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head.weight[0, -1, 1, 1, 1] = 1.0  # type: ignore[operator, index, union-attr]
        network.classify.weight[:, 0, 0, 0, 0] = torch.tensor([0.0, 60.0, 0.0, 20.0])  # type: ignore[operator, index, union-attr]
        network.classify.bias[:] = torch.tensor([0.0, -35.0, -50.0, -5.0])  # type: ignore[operator, index, union-attr]
    record = {"recipe": {"shapes": {"crop_voxels": [96, 96, 96]}}}
    save_model(folder, Model(network, label_set("border"), human_mm, record))
    return folder


def ball(radius_mm: float, spacing_mm: float, size: int = 40) -> np.ndarray:
    """A bright ball that fades out around its radius, in dark air, (size, size, size)."""
    away = np.sqrt((((np.indices((size,) * 3) - (size - 1) / 2) * spacing_mm) ** 2).sum(0))
    return (200 * (0.5 - (away - radius_mm) / (0.4 * radius_mm)).clip(0, 1)).astype(np.float32)


def save(path: Path, voxels: np.ndarray, spacing_mm: float) -> Path:
    return phantom.save(path, voxels, np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0]))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)
