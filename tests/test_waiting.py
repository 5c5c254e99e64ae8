"""On a GPU a step only gives orders: nothing in it comes back to the host, which would have to wait.

There is none here, so the very functions run on the CPU, on the ways that a GPU takes, and each operation is looked at.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from phantomseg.image import distance
from phantomseg.labels import label_set
from phantomseg.network import losses
from phantomseg.network.model import build_network
from phantomseg.synth.generate import apply_draws, draw_sample
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.optimiser import build_optimisers
from phantomseg.training.state import TrainState
from phantomseg.training.step import Supervised, take_step

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "_unique2"}


def counts_on_the_host() -> bool:
    """Whether torch's Adam asks: the count of its steps is on the host, whatever the device."""
    return any(frame.filename.endswith("optim/adam.py") for frame in traceback.extract_stack())


class Watch(TorchDispatchMode):
    """Collects operations whose result the host must have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in WAITS and not counts_on_the_host():
            self.found.add(name)
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            self.found |= {f"{name} with a mask"} if masks else set()
        return function(*args, **(kwargs or {}))


def small(recipe: Recipe) -> Recipe:
    return replace(recipe, pose=replace(recipe.pose, crop_voxels=(48, 48, 48)))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(distance, "SEARCHED", ())
    monkeypatch.setattr(losses, "CHUNKED", ())
    yield Watch()


def test_watch_sees_what_waits(watch: Watch) -> None:
    values = torch.arange(4.0)
    with watch:
        values.sum().item()
        values[values > 2].add_(1)
        torch.bincount(values.long())
    assert watch.found == {"_local_scalar_dense", "index with a mask", "bincount"}


def test_nothing_waits_for_a_sample(watch: Watch, templates: Templates) -> None:
    recipe = small(load_recipe("head"))
    for index in range(40):  # every kind of step is drawn
        draws = [draw_sample(recipe, templates, 1, index)]
        with watch:
            batch = apply_draws(draws, templates)
        assert watch.found == set(), (index, watch.found)
    assert batch.image.isfinite().all()


def test_nothing_waits_for_a_step(watch: Watch, templates: Templates) -> None:
    recipe = small(load_recipe("head"))
    network = build_network("fast", {"classes": len(label_set("head")), "features": [4, 8], "convolutions": [1, 1]})
    network = network.to(memory_format=torch.channels_last_3d)
    state = TrainState(network, network, build_optimisers(network, "muon", 1e-3, 1e-3))
    batch = apply_draws([draw_sample(recipe, templates, 1, index) for index in range(2)], templates)
    supervised, config = Supervised(network), TrainConfig(steps=9)
    take_step(config, state, supervised, batch, 0.5)
    with watch:
        loss, norm = take_step(config, state, supervised, batch, 0.5)
        state.update_average(0.99)
    assert watch.found == set() and loss.isfinite() and norm > 0


def test_loss_is_the_same_on_both_ways(watch: Watch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = (
        torch.randn(1, 5, 4, 4, 4, generator=generator),
        torch.randint(0, 5, (1, 8, 8, 8), generator=generator),
    )
    found = []
    for devices in ((), ("cpu",)):
        losses.CHUNKED = devices  # the fixture puts it back
        x = logits.clone().requires_grad_()
        loss = losses.dice_cross_entropy(x, target)
        loss.backward()
        found.append((loss.detach(), x.grad))
    torch.testing.assert_close(found[0], found[1])
