"""Adding classes to a trained network: each new class is initialised from its parent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from phantomseg.labels import label_set, merge
from phantomseg.network.model import NETWORKS, build_network, network_name
from phantomseg.training.state import Checkpoint


def parent_channels(new: str, old: str, count: int) -> np.ndarray:
    """Channel among the `count` classes of the set `old` that each class of the set `new` is a part of, (C,).

    Raises:
        LabelError: `new` does not merge into `old`, or is `old` and never had so many labels.
    """
    return label_set(new).channels_before(count) if new == old else merge(new, old).channels


def split_classes(found: Checkpoint, parents: np.ndarray) -> Checkpoint:
    """A checkpoint whose network predicts more classes, each a part of one that it predicted before.

    Each class passes on an even share of its probability to its parts, so that merged probabilities do not change.
    """
    kind = found.settings["config"]["network"]
    tensors = {
        what: _split(values, kind, parents, is_weights=what in ("network", "average"))
        for what, values in found.tensors.items()
    }
    network = {**found.settings["network"], "classes": len(parents)}
    return dataclasses.replace(found, tensors=tensors, settings={**found.settings, "network": network})


def with_more_classes(network: nn.Module, parents: np.ndarray) -> nn.Module:
    """A network that predicts more classes, as `split_classes` has it."""
    kind = network_name(network)
    config = {**dataclasses.asdict(network.config), "classes": len(parents)}  # type: ignore[call-overload]
    larger = build_network(kind, config)
    larger.load_state_dict(_split(network.state_dict(), kind, parents, is_weights=True))
    return larger


def _split(
    values: Mapping[str, torch.Tensor], kind: str, parents: np.ndarray, is_weights: bool
) -> dict[str, torch.Tensor]:
    """Rows of the class outputs repeated; `is_weights` tells a network's own from what an optimiser knows of them."""
    rows = torch.from_numpy(parents.astype(np.int64))
    _, network = NETWORKS[kind]
    shared, *others = network.class_outputs  # type: ignore[attr-defined]
    split = dict(values)
    for name in (f"{output}.{part}" for output in (shared, *others) for part in ("weight", "bias")):
        if name in values and values[name].dim():
            split[name] = values[name][rows]
    if is_weights:
        split[f"{shared}.bias"] = split[f"{shared}.bias"] - torch.bincount(rows)[rows].float().log()
    return split
