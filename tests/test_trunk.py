"""A run that never ends, its stages and its branches; what a checkpoint holds; who may work in a run's folder."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import nn

from phantomseg.errors import LabelError, TrainingError
from phantomseg.labels import label_set, merge
from phantomseg.network.model import Model, build_network, load_model, save_model
from phantomseg.network.scale_invariant import FILTER_NORM, equalise_filter_norms, filter_norms, scale_invariant_kernels
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.templates import Templates
from phantomseg.training.classes import parent_channels, split_classes
from phantomseg.training.compact import read_tensors, round_off, write_tensors
from phantomseg.training.config import TrainConfig
from phantomseg.training.inherit import configure_branch, configure_new, configure_resumed
from phantomseg.training.initialise import Origin, initialise
from phantomseg.training.loop import Run, train
from phantomseg.training.optimiser import Muon, build_optimisers, rotate_filters
from phantomseg.training.stages import stages
from phantomseg.training.state import CHECKPOINT, TrainState, fill, read_checkpoint, save_checkpoint

ENDLESS = TrainConfig(endless=True, validate_every=999, warm_up_steps=0)


@pytest.fixture
def recipe() -> Recipe:
    recipe = load_recipe("head")
    return replace(recipe, pose=replace(recipe.pose, crop_voxels=(16, 16, 16)))


def tiny(target: str = "head", kind: str = "fast") -> Model:
    torch.manual_seed(0)
    size = {"features": [4, 8], "convolutions": [1, 1], "detail": 2} if kind == "fast" else {"levels": 2, "features": 2}
    labels = label_set(target)
    return Model(build_network(kind, {"classes": len(labels), **size}), labels)


def stop_after(step: int, number: int = signal.SIGINT) -> Callable[[TrainState, float], None]:
    def report(state: TrainState, progress: float) -> None:
        if state.step == step:
            signal.raise_signal(number)

    return report


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def test_a_step_turns_filters_by_the_stated_angle_and_keeps_their_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(5, 2, 3, 3, 3, generator=generator)
    before = kernel.clone()
    rotate_filters(kernel, torch.randn(kernel.shape, generator=generator), 0.01)
    cosines = torch.cosine_similarity(kernel.flatten(1), before.flatten(1))
    torch.testing.assert_close(cosines.acos(), torch.full((5,), 0.01).atan(), rtol=2e-2, atol=0)
    torch.testing.assert_close(filter_norms(kernel), filter_norms(before))


def test_filters_with_a_norm_behind_them_are_held_and_all_others_are_not() -> None:
    network = tiny().network
    held = {id(p) for p in scale_invariant_kernels(network)}
    names = {name for name, p in network.named_parameters() if id(p) in held}
    assert names == {"down.0.0.conv.weight", "down.1.0.conv.weight", "up.0.conv.weight"}
    muon, adam = build_optimisers(network, "muon", 1e-3, 1e-2)
    assert [(g["fixed_norm"], g["peak"], len(g["params"])) for g in muon.param_groups] == [
        (True, 1e-2, 3),
        (False, 1e-3, 1),
    ]
    assert scale_invariant_kernels(tiny(kind="unet").network) == [] and adam.param_groups[0]["peak"] == 1e-3


def test_even_lengths_change_nothing_that_the_network_says() -> None:
    network = tiny().network
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for kernel in scale_invariant_kernels(network):
        kernel.data.mul_(torch.linspace(20, 60, len(kernel)).view(-1, 1, 1, 1, 1))
    with torch.no_grad():
        before = network(image)
        equalise_filter_norms(network)
        torch.testing.assert_close(network(image), before, rtol=1e-4, atol=1e-4)
    assert all(torch.allclose(filter_norms(k), torch.tensor(FILTER_NORM)) for k in scale_invariant_kernels(network))


def test_momentum_in_bfloat16_does_as_well_as_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 steps down to the least squares of a convolution, from the same start, with the same gradients' noise."""

    def left(kind: torch.dtype) -> float:
        monkeypatch.setattr("phantomseg.training.optimiser.MOMENTUM_FORMAT", kind)
        generator = torch.Generator().manual_seed(3)
        wanted, kernel = (torch.randn(8, 4, 3, 3, 3, generator=generator) for _ in range(2))
        kernel = nn.Parameter(kernel)
        muon = Muon([kernel], lr=0.05)
        for step in range(500):
            muon.param_groups[0]["lr"] = 0.05 * (1 - step / 500)
            kernel.grad = kernel.detach() - wanted + 0.3 * torch.randn(kernel.shape, generator=generator)
            muon.step()
        assert muon.state[kernel]["momentum"].dtype == kind
        return (kernel - wanted).square().mean().sqrt().item()

    exact, rounded = left(torch.float32), left(torch.bfloat16)
    assert exact < 0.1 and rounded < 1.05 * exact


def test_tensors_come_back_bit_by_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 4, 3, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last_3d)
    tensors = {
        "a": a,
        "near/a": a + 0.01,
        "negative": -a,
        "b": a.bfloat16(),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-42]),
        "count": torch.tensor(7),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"near/a": "a", "negative": "a"}, {"key": [1, "é"]})
    found, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"key": [1, "é"]} and set(found) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert found[name].dtype == tensor.dtype


def test_rounding_keeps_nan() -> None:
    bits = torch.tensor([0x7FFFFFFF, 0x7FC00000, -(2**22)], dtype=torch.int32)  # of a GPU, of a CPU, negative
    values = bits.view(torch.float32)
    round_off(values)
    assert values.isnan().all()


def test_rounding_leaves_14_bits_of_mantissa() -> None:
    values = torch.tensor([1.0, 1 + 2**-14, 1 + 2**-15, 1 + 2**-16, -3.0, 0.0])
    round_off(values)
    assert values.tolist() == [1.0, 1 + 2**-14, 1 + 2**-14, 1.0, -3.0, 0.0]


def test_checkpoint_of_the_shipped_network_fits_into_40_mb(tmp_path: Path) -> None:
    """With moments that are all noise, and an average a tenth away from the weights."""
    network = build_network("fast", {"classes": 51})
    average = copy.deepcopy(network)
    state = TrainState(network, average, build_optimisers(network, "muon", 1e-3, 1e-3))
    generator = torch.Generator().manual_seed(0)
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        value.grad = torch.randn(value.shape, generator=generator)
        with torch.no_grad():
            mean.add_(torch.randn(value.shape, generator=generator), alpha=0.1 * float(value.square().mean().sqrt()))
        round_off(mean.data)
    for optimiser in state.optimisers:
        optimiser.step()
    state.round_off()
    save_checkpoint(tmp_path / CHECKPOINT, state, {})
    assert sum(p.numel() for p in network.parameters()) > 6.3e6
    assert 36e6 < (tmp_path / CHECKPOINT).stat().st_size < 40e6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_endless_run_ends_with_a_signal_and_goes_on(
    tmp_path: Path, templates: Templates, recipe: Recipe, number: int
) -> None:
    config = replace(ENDLESS, batch=2)
    train(recipe, templates, config, Run(tmp_path, start=tiny(), report=stop_after(3, number)))
    model = train(recipe, templates, config, Run(tmp_path, resume=True, report=stop_after(5, number)))
    found = read_checkpoint(tmp_path / CHECKPOINT)
    assert found.counts["step"] == model.record["steps"] == 5 and found.counts["samples"] == 10
    assert {float(line.split(",")[2]) for line in (tmp_path / "log.csv").read_text().splitlines()[1:]} == {4e-3}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_budget_may_grow(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    train(recipe, templates, TrainConfig(steps=2), Run(tmp_path, start=tiny()))
    assert train(recipe, templates, TrainConfig(steps=3), Run(tmp_path, resume=True)).record["steps"] == 3


def test_stages_are_recorded(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    train(recipe, templates, ENDLESS, Run(tmp_path, start=tiny(), report=stop_after(3)))
    other = replace(recipe, gamma=None, pose=replace(recipe.pose, crop_voxels=(24, 16, 16)))
    with pytest.raises(TrainingError, match=r"made with other settings \(recipe.gamma, recipe.pose.crop_vox"):
        train(other, templates, ENDLESS, Run(tmp_path, resume=True))
    with pytest.raises(TrainingError, match=r"made with other settings \(processes\)"):
        initialise(recipe, templates, ENDLESS, tmp_path, Origin(resume=True), processes=2)
    config = replace(ENDLESS, seed=5, relative_step=0.001)
    model = train(other, templates, config, Run(tmp_path, resume=True, new_stage=True, report=stop_after(5)))
    first, second = stages(model.record)
    assert (first["steps"], second["steps"]) == (3, 2)
    assert first["config"]["relative_step"] == 0.01 and second["config"]["relative_step"] == 0.001
    assert "gamma" in first["recipe"] and "gamma" not in second["recipe"]
    assert model.crop_voxels == (24, 16, 16)


@pytest.mark.parametrize("what", ["optimiser", "network"])
def test_stage_keeps_network_and_optimiser(tmp_path: Path, templates: Templates, recipe: Recipe, what: str) -> None:
    train(recipe, templates, ENDLESS, Run(tmp_path, start=tiny(), report=stop_after(1)))
    config = replace(ENDLESS, optimiser="adam") if what == "optimiser" else ENDLESS
    start = tiny("head", "unet") if what == "network" else None
    with pytest.raises(TrainingError, match=f"made with another {what}"):
        train(recipe, templates, config, Run(tmp_path, resume=True, new_stage=True, start=start))


def test_branch_begins_where_the_trunk_is_and_leaves_it_alone(
    tmp_path: Path, templates: Templates, recipe: Recipe
) -> None:
    trunk = train(
        recipe, templates, replace(ENDLESS, batch=2), Run(tmp_path / "trunk", start=tiny(), report=stop_after(7))
    )
    before = (tmp_path / "trunk" / CHECKPOINT).read_bytes()
    config, _ = configure_branch(tmp_path / "trunk")
    assert (config.steps, config.warm_up_steps, config.batch, config.endless) == (1, 0, 2, False)
    config, same = configure_branch(tmp_path / "trunk", steps=4)
    assert same == recipe
    branch = Run(tmp_path / "branch", branch=tmp_path / "trunk")
    model = train(recipe, templates, config, branch)
    assert (tmp_path / "trunk" / CHECKPOINT).read_bytes() == before
    assert [run["steps"] for run in stages(model.record)] == [7, 4]
    rates = [float(line.split(",")[2]) for line in (tmp_path / "branch" / "log.csv").read_text().splitlines()[1:]]
    assert rates[-4:] == pytest.approx([4e-3, 3e-3, 2e-3, 1e-3])
    assert read_checkpoint(tmp_path / "branch" / CHECKPOINT).counts["samples"] == 7 * 2 + 4 * 2
    assert not torch.equal(weights(model.network), weights(trunk.network))


@pytest.mark.parametrize("taken_over", [configure_branch, configure_resumed])
def test_nothing_to_take_over_is_one_sentence(
    tmp_path: Path, taken_over: Callable[[Path], tuple[TrainConfig, Recipe]]
) -> None:
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        taken_over(tmp_path)


def test_what_is_not_given_is_taken_over(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    config = configure_new(endless=True, seed=3, relative_step=0.002, features=(4, 8), warm_up_steps=7)
    assert config.ema_decay == 0.999 and configure_new(steps=1).ema_decay == 0.995
    train(recipe, templates, config, Run(tmp_path, report=stop_after(1)))
    assert configure_resumed(tmp_path) == (config, recipe)
    assert configure_resumed(tmp_path, seed=4)[0] == replace(config, seed=4)
    assert configure_resumed(tmp_path, minutes=2)[0] == replace(config, endless=False, minutes=2, ema_decay=0.995)
    told = {"warm_up_steps": 0, "constant_fraction": 0.0}
    assert configure_branch(tmp_path, steps=9, batch=2)[0] == replace(
        config, endless=False, steps=9, batch=2, ema_decay=0.995, **told
    )
    with pytest.raises(TrainingError, match="--branch is given with --endless"):
        configure_branch(tmp_path, endless=True)


@pytest.mark.parametrize("kind", ["fast", "unet"])
def test_added_classes_keep_what_the_others_say(
    tmp_path: Path, templates: Templates, recipe: Recipe, kind: str
) -> None:
    coarse, fine = replace(recipe, target="siam"), recipe
    config = replace(ENDLESS, network=kind)
    train(coarse, templates, config, Run(tmp_path, start=tiny("siam", kind), report=stop_after(3)))
    found = read_checkpoint(tmp_path / CHECKPOINT)
    split = split_classes(found, parent_channels("head", "siam", 17))
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    channels = torch.from_numpy(merge("head", "siam").channels).long()
    for what in ("network", "average"):
        old, new = (build_network(kind, c.settings["network"]).eval() for c in (found, split))
        old.load_state_dict(found.tensors[what])
        new.load_state_dict(split.tensors[what])
        with torch.no_grad():
            merged = torch.zeros(old(image).shape).index_add_(1, channels, new(image).softmax(1))
            torch.testing.assert_close(merged, old(image).softmax(1), rtol=1e-4, atol=1e-5)
    model = train(fine, templates, config, Run(tmp_path, resume=True, new_stage=True, report=stop_after(5)))
    assert model.labels.name == "head" and [run["steps"] for run in stages(model.record)] == [3, 2]
    with pytest.raises(LabelError, match="no merge from 'tissue' to 'head'"):
        train(replace(recipe, target="tissue"), templates, config, Run(tmp_path, resume=True, new_stage=True))


def test_moments_of_added_classes_are_their_parents(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    train(replace(recipe, target="siam"), templates, ENDLESS, Run(tmp_path, start=tiny("siam"), report=stop_after(2)))
    split = split_classes(read_checkpoint(tmp_path / CHECKPOINT), parent_channels("head", "siam", 17))
    network = build_network("fast", split.settings["network"])
    state = TrainState(network, network, build_optimisers(network, "muon", 1e-3, 1e-3))
    fill(state, split)
    moment = state.optimisers[1].state[network.classify.weight]["exp_avg"]
    parents = torch.from_numpy(merge("head", "siam").channels).long()
    assert moment.shape[0] == len(label_set("head")) and torch.equal(moment[parents == 2][0], moment[parents == 2][-1])


def test_one_process_a_folder(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(TrainingError, match="another process trains in"):
        train(recipe, templates, TrainConfig(steps=1), Run(tmp_path / "run", start=tiny()))
    (tmp_path / "run" / ".abcd_012.safetensors").write_bytes(b"half")
    (tmp_path / "run" / ".mine").write_bytes(b"not ours")
    train(recipe, templates, TrainConfig(steps=1, validate_every=9), Run(tmp_path / "run", start=tiny()))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".mine", CHECKPOINT, "log.csv", "loss.png", "model"}


def test_full_disk_names_the_file(
    tmp_path: Path, templates: Templates, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=f"No space left on device.*{CHECKPOINT}"):
        train(recipe, templates, TrainConfig(steps=1, validate_every=9), Run(tmp_path, start=tiny()))


KILLED = """
import os, sys, threading, time
from dataclasses import replace
from pathlib import Path
import phantomseg
import torch
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import load_templates
from phantomseg.network.model import load_model
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train

def run(folder, start, templates, seconds):
    recipe = load_recipe("head")
    recipe = replace(recipe, pose=replace(recipe.pose, crop_voxels=(16, 16, 16)))
    config = TrainConfig(endless=True)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), 9))
    begin = lambda state, progress: timer.is_alive() or timer.start()
    resume = (folder / "checkpoint.safetensors").exists()
    first = None if resume else load_model(start)
    train(recipe, load_templates(templates), config, Run(folder, resume, first, report=begin, save_minutes=0.0005))

torch.set_num_threads(1)
folder, start, templates, kills = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
for kill in range(kills):
    child = os.fork()
    if not child:
        run(folder, start, templates, 0.05 + 0.011 * kill)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.usefixtures("same_threads")
def test_survives_20_kills(tmp_path: Path, template_folder: Path, templates: Templates, recipe: Recipe) -> None:
    torch.set_num_threads(1)  # as in the killed runs
    save_model(tmp_path / "start", tiny())
    words = [sys.executable, "-c", KILLED, tmp_path / "run", tmp_path / "start", template_folder, "20"]
    subprocess.run(words, check=True, timeout=120, capture_output=True)
    found = read_checkpoint(tmp_path / "run" / CHECKPOINT)
    config = TrainConfig(endless=True)
    last = found.counts["step"] + 1
    model = train(recipe, templates, config, Run(tmp_path / "run", resume=True, report=stop_after(last)))
    assert model.record["steps"] == last > 20
    steps = [int(line.split(",")[0]) for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert steps == list(range(1, last + 1))  # none lost, none twice
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CHECKPOINT, "log.csv", "loss.png", "model"}
    straight = Run(tmp_path / "straight", start=load_model(tmp_path / "start"), report=stop_after(last))
    assert torch.equal(weights(model.network), weights(train(recipe, templates, config, straight).network))
