"""A small head on an unusual grid, and the record of a run of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import phantom

from phantomseg.image.image import Image
from phantomseg.labels import label_set

LABELS = label_set("head")


def head_images(shape: tuple[int, int, int] = (20, 22, 18)) -> tuple[Image, Image]:
    """Scan and labels with 2 × 2 × 3 mm voxels whose axes run to left, anterior, superior, a little oblique."""
    ids = phantom.head(shape)[::-1]
    angle = np.deg2rad(8)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-2.0, 2.0, 3.0])
    return Image(10.0 * np.sqrt(ids).astype(np.float32), affine), Image(ids.astype(np.int16), affine)


def structure(name: str, **values: Any) -> dict[str, Any]:
    """A row of the manifest of which nothing is known but the volume."""
    unknown = {"hard_mm3": None, "low_mm3": None, "high_mm3": None, "asymmetry_percent": None, "quality": None}
    label = int(LABELS.ids[LABELS.names.index(name)])
    return {"index": label, "name": name, "volume_mm3": 0.0, **unknown, **values}


def manifest(name: str = "sub-01_T1w", **values: Any) -> dict[str, Any]:
    """A record with everything in it, replaced by `values`."""
    left = structure(
        "left putamen", volume_mm3=5000.4, hard_mm3=5012.0, low_mm3=4500.0, high_mm3=5500.0, asymmetry_percent=-2.04,
        quality=0.7,
    )  # fmt: skip
    right = structure("right putamen", volume_mm3=5103.0, quality=0.5)
    return {
        "phantomseg": "0.1.0",
        "finished": "2026-11-21T18:00:00+00:00",
        "name": name,
        "scan": f"/data/{name}.nii.gz",
        "scan_sha256": "0123456789abcdef" * 4,
        "volume": None,
        "options": {"labels": "head", "flip": True},
        "model": {"name": "head", "weights_sha256": "fedcba9876543210" * 4},
        "hash": "00" * 32,
        "backend": "torch cpu",
        "machine": "2 threads, bfloat16",
        "seconds": 5.8,
        "peak_memory_mb": 1580,
        "grid": {"shape": [20, 22, 18], "spacing_mm": [2, 2, 3], "orientation": "LAS"},
        "findings": [
            {"level": "ok", "what": "values are finite", "fix": ""},
            {"level": "warning", "what": "slices are thick", "fix": "read the intervals"},
        ],
        "quality": 0.83,
        "quality_threshold": 0.65,
        "intracranial_mm3": 1_500_000.0,
        "structures": [left, structure("3rd ventricle", volume_mm3=61.26), right],
        "outputs": [{"path": f"{name}_dseg.nii.gz", "bytes": 123456, "sha256": "11" * 32}],
        **values,
    }


def nothing_known(name: str) -> dict[str, Any]:
    """A record in which whatever may be None is."""
    empty = {"quality": None, "quality_threshold": None, "intracranial_mm3": None, "findings": [], "outputs": []}
    return manifest(name, **empty, structures=[structure("left putamen"), structure("right putamen")])
