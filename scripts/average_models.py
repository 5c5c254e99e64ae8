"""Average the weights of models of one lineage.

    python scripts/average_models.py MODEL MODEL -o FOLDER

A MODEL is a folder or the name of a shipped model. Scale-invariant filters are scaled to one norm first, which changes
no output. The record is that of the first model; `averaged` in it holds the checksums of all.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path

from phantomseg.models import find_model
from phantomseg.network.model import Model, save_model
from phantomseg.network.scale_invariant import equalise_filter_norms


def averaged(models: list[Model]) -> Model:
    """The mean of the weights of networks of one kind and size."""
    first = models[0]
    for model in models[1:]:
        if model.labels != first.labels or model.network.config != first.network.config:
            raise SystemExit(
                "the models differ in label set or size; average models that were trained from one another"
            )
    networks = [copy.deepcopy(model.network) for model in models]
    for network in networks:
        equalise_filter_norms(network)
    states = [network.state_dict() for network in networks]
    networks[0].load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    record = {**first.record, "averaged": [model.weights_sha256 for model in models]}
    return dataclasses.replace(first, network=networks[0], record=record, calibration=None)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    save_model(arguments.output, averaged([find_model(name) for name in arguments.models]))


if __name__ == "__main__":
    main()
