"""A small random network that calls voxels many things, for tests of what is written about them."""

from __future__ import annotations

from pathlib import Path

import command
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
