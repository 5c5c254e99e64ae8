"""Average the weights of models of one lineage.

    python scripts/average_models.py MODEL MODEL -o FOLDER

A MODEL is a folder or the name of a shipped model. Scale-invariant filters are scaled to one norm first, which changes
no output. The record is that of the first model; `averaged` in it holds the checksums of all. A model that was trained
before its label set grew takes from the first one what tells the new labels from those that they were part of.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from phantomseg.errors import LabelError
from phantomseg.models import find_model
from phantomseg.network.model import Model, save_model
from phantomseg.network.scale_invariant import equalise_filter_norms


def averaged(models: list[Model]) -> Model:
    """The mean of the weights of networks of one kind and size."""
    first = models[0]
    networks = [copy.deepcopy(model.network) for model in models]
    for network in networks:
        equalise_filter_norms(network)
    states = [networks[0].state_dict()]
    for model, network in zip(models[1:], networks[1:], strict=True):
        if _kind(model, network) != _kind(first, networks[0]):
            raise SystemExit(
                "the models differ in label set, size or spacing; average models that were trained from one another"
            )
        states.append(_with_classes_of(network, first))
    networks[0].load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    record = {**first.record, "averaged": [model.weights_sha256 for model in models]}
    return dataclasses.replace(first, network=networks[0], record=record, calibration=None)


def _kind(model: Model, network: nn.Module) -> tuple[object, ...]:
    """All that must be the same, but the number of classes."""
    config = dataclasses.asdict(network.config) | {"classes": 0}
    return config, model.labels.name, model.spacing_mm, model.distance_voxels


def _with_classes_of(network: nn.Module, first: Model) -> dict[str, torch.Tensor]:
    """Weights with a row for each class of the first model."""
    state, model_state = network.state_dict(), first.network.state_dict()
    try:
        parents = torch.from_numpy(first.labels.channels_before(network.config.classes)).long()
    except LabelError as error:
        raise SystemExit(f"{error}; or give the model with the most classes first") from error
    if len(parents) == network.config.classes:
        return state
    whole = torch.from_numpy(first.labels.index_of_ids(np.array([int(x.parent or x.id) for x in first.labels.labels])))
    for output in network.class_outputs:
        for name in (f"{output}.weight", f"{output}.bias"):
            if name in state and state[name].dim():
                ours = model_state[name]
                state[name] = state[name][parents] + (ours - ours[whole])
    return state


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    save_model(arguments.output, averaged([find_model(name) for name in arguments.models]))


if __name__ == "__main__":
    main()
