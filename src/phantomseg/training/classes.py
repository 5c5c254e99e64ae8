"""Adding classes to a network in training: each new class is initialised from its parent."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from phantomseg.labels import merge
from phantomseg.network.model import NETWORKS
from phantomseg.training.state import Checkpoint


def split_classes(found: Checkpoint, old: str, new: str) -> Checkpoint:
    """A checkpoint whose network predicts the label set `new`, which merges into its set `old`.

    Each class passes on an even share of its probability to its parts, so that probabilities of the old set do not
    change.

    Raises:
        LabelError: `new` does not merge into `old`.
    """
    parents = torch.from_numpy(merge(new, old).channels.astype(np.int64))
    shares = torch.bincount(parents)[parents].float().log()
    _, kind = NETWORKS[found.settings["config"]["network"]]
    shared, *others = kind.class_outputs  # type: ignore[attr-defined]
    tensors = {}
    for what, values in found.tensors.items():
        split = dict(values)
        for name in (f"{output}.{part}" for output in (shared, *others) for part in ("weight", "bias")):
            if name in values and values[name].dim():
                split[name] = values[name][parents]
        if what in ("network", "average"):
            split[f"{shared}.bias"] = split[f"{shared}.bias"] - shares
        tensors[what] = split
    network = {**found.settings["network"], "classes": len(parents)}
    return dataclasses.replace(found, tensors=tensors, settings={**found.settings, "network": network})
