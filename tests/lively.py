"""A small random network that calls voxels many things, and what was written about them."""

from __future__ import annotations

import json
from pathlib import Path

import command
import nibabel as nib
import numpy as np
import torch

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, save_model


def model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = build_network("fast", command.TINY)
    with torch.no_grad():
        for layer in (network.classify, network.coarse):  # wide apart, so that no label wins everywhere
            layer.weight.mul_(30)  # type: ignore[operator, union-attr]
            layer.bias.zero_()  # type: ignore[operator, union-attr]
    save_model(folder, Model(network, label_set("head")))
    return folder


def contents(folder: Path) -> dict[str, object]:
    """What a folder of results says, whenever it was written."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.endswith(".nii.gz"):
            found[name] = np.asarray(nib.load(path).dataobj).tobytes()
        elif name.endswith("_manifest.json"):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {key: manifest[key] for key in ("scan", "hash", "structures", "findings", "outputs")}
        else:
            found[name] = path.is_file() and path.read_bytes()
    return found
