"""Training: exact resume, interruption, guards, optimisers; on a network of a few thousand weights."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from phantomseg.errors import TrainingError
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model
from phantomseg.rng import Constant
from phantomseg.synth.recipe import Recipe, load_recipe
from phantomseg.synth.sample import Batch
from phantomseg.synth.templates import Templates
from phantomseg.synth.tissues import TissueSettings
from phantomseg.training import step
from phantomseg.training.config import TrainConfig
from phantomseg.training.feed import Series, feed
from phantomseg.training.loop import Run, train
from phantomseg.training.optimiser import Muon, build_optimisers, orthogonalise
from phantomseg.training.stages import stages
from phantomseg.training.state import TrainState
from phantomseg.training.validate import held_out_dice

CLASSES = len(label_set("head"))


@pytest.fixture
def recipe() -> Recipe:
    recipe = load_recipe("head")
    return replace(recipe, pose=replace(recipe.pose, crop_voxels=(16, 16, 16)))


def tiny(detail: int = 2) -> Model:
    torch.manual_seed(0)
    config = {"classes": CLASSES, "features": [4, 8], "convolutions": [1, 1], "detail": detail}
    return Model(build_network("fast", config), label_set("head"))


def stop_after(step: int) -> Callable[[TrainState, float], None]:
    def report(state: TrainState, progress: float) -> None:
        if state.step == step:
            signal.raise_signal(signal.SIGINT)

    return report


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def test_twice_10_steps_equal_20(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    config = TrainConfig(steps=20, batch=2, validate_every=7)
    scores = (lambda network: {"dice_some": float(weights(network).mean())},)
    whole = train(recipe, templates, config, Run(tmp_path / "whole", start=tiny(), scores=scores))
    first = Run(tmp_path / "halves", start=tiny(), scores=scores, report=stop_after(10))
    train(recipe, templates, config, first)
    second = Run(tmp_path / "halves", resume=True, start=tiny(), scores=scores)
    halves = train(recipe, templates, config, second)
    assert torch.equal(weights(whole.network), weights(halves.network))
    rows = [list(csv.DictReader((tmp_path / run / "log.csv").read_text().splitlines())) for run in ("whole", "halves")]
    for key in ("step", "loss", "learning_rate", "gradient_norm"):
        assert [row[key] for row in rows[0]] == [row[key] for row in rows[1]]
    assert len(rows[0]) == 20


def test_run_writes_log_picture_checkpoint_and_model(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    config = TrainConfig(steps=3, validate_every=2)
    scores = (lambda network: held_out_dice(network, recipe, templates, 2),)
    train(recipe, templates, config, Run(tmp_path, start=tiny(), scores=scores))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "log.csv", "loss.png", "model"}
    model = load_model(tmp_path / "model")
    assert model.record["steps"] == 3 and model.record["recipe"]["target"] == "head"
    assert 0 <= model.record["scores"]["dice_held_out"] <= 1


def test_brain_is_told_from_the_rest_after_200_steps(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    bright = TissueSettings(shared_sides_probability=0.7, std=Constant(5.0), background_zero_probability=1.0)
    steps = ("shape", "findings", "strip", "bias", "gamma", "artefacts", "resolution", "view", "slab")
    calm = replace(recipe, target="brain", tissues=bright, **dict.fromkeys(steps))
    calm = replace(calm, pose=replace(calm.pose, crop_voxels=(32, 32, 32), anywhere_probability=0.1))
    torch.manual_seed(0)
    start = Model(
        build_network("fast", {"classes": 3, "features": [8, 16, 16], "convolutions": [2, 2, 2]}), label_set("brain")
    )
    model = train(calm, templates, TrainConfig(steps=200, warm_up_steps=5, ema_decay=0.9), Run(tmp_path, start=start))
    assert held_out_dice(model.network, calm, templates, 16)["dice_held_out"] > 0.45


def test_budget_in_minutes_ends(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    progress: list[float] = []
    report = lambda state, share: progress.append(share)  # noqa: E731
    train(recipe, templates, TrainConfig(minutes=0.005), Run(tmp_path, start=tiny(), report=report))
    assert progress[-1] == 1.0 and progress == sorted(progress)


def test_loss_that_is_not_finite_names_the_sample(
    tmp_path: Path, templates: Templates, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "batch_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(
        TrainingError,
        match=r"loss is nan, gradient norm 0.0 at step 1, sample \(seed 4, index 0\), \(seed 4, index 1\)",
    ):
        train(recipe, templates, TrainConfig(steps=1, batch=2, seed=4), Run(tmp_path, start=tiny()))


def test_gradient_that_is_not_finite_ends_the_run(
    tmp_path: Path, templates: Templates, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steep(network: nn.Module, *_: object) -> torch.Tensor:
        return (torch.stack([p.sum() for p in network.parameters()]).sum() * 0).sqrt()

    monkeypatch.setattr(step, "batch_loss", steep)
    with pytest.raises(TrainingError, match="loss is 0.0, gradient norm nan at step 1"):
        train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_gradients_of_tiny_maps_do_not_depend_on_what_the_memory_held(recipe: Recipe) -> None:
    network = build_network("fast", {"classes": CLASSES}).to(memory_format=torch.channels_last_3d)
    image, target = torch.rand(1, 1, 32, 16, 16), torch.zeros((1, 32, 16, 16), dtype=torch.uint8)
    block = (slice(0, 8), slice(0, 4), slice(0, 4))
    for words in (100, 9_000, 40_000):
        for _ in range(10):
            used = [torch.full((words,), torch.inf) for _ in range(60)]
            del used
            network.zero_grad()
            step.batch_loss(step.Supervised(network), Batch(image, target, ()), block).backward()
            assert all(p.grad.isfinite().all() for p in network.parameters())


def test_resume_remembers_the_runs_before(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    first = train(recipe, templates, TrainConfig(steps=1), Run(tmp_path / "first", start=tiny()))
    run = Run(tmp_path / "second", start=first, report=stop_after(2))
    train(recipe, templates, TrainConfig(steps=3), run)
    with pytest.raises(TrainingError, match=r"made with other settings \(network"):
        train(recipe, templates, TrainConfig(steps=3), Run(tmp_path / "second", resume=True, start=tiny(3)))
    resumed = train(recipe, templates, TrainConfig(steps=3), Run(tmp_path / "second", resume=True, start=tiny()))
    assert [run["steps"] for run in stages(resumed.record)] == [1, 3]


def test_workers_make_the_same_samples(templates: Templates, recipe: Recipe) -> None:
    series = Series(recipe, templates, 3, 2)
    here, ahead = feed(series, 5), feed(series, 5, workers=2)
    for _ in range(3):
        mine, theirs = next(here), next(ahead)
        assert mine.draws == theirs.draws
        assert torch.equal(mine.target, theirs.target) and torch.allclose(mine.image, theirs.image, atol=1e-5)


def test_run_is_not_overwritten(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))
    with pytest.raises(TrainingError, match="holds a run already; add --resume"):
        train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))


def test_resume_refuses_what_does_not_fit(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, resume=True, start=tiny()))
    train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))
    with pytest.raises(TrainingError, match=r"made with other settings \(config.batch\); .* add --new-stage"):
        train(recipe, templates, TrainConfig(steps=1, batch=2), Run(tmp_path, resume=True, start=tiny()))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="is damaged or from another version"):
        train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, resume=True, start=tiny()))


def test_start_from_a_model_of_another_target_is_refused(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    message = "predicts 'head' with network 'fast' and distance_voxels None, this run wants 'brain'"
    with pytest.raises(TrainingError, match=message):
        train(replace(recipe, target="brain"), templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))


def test_schedule_warms_up_holds_and_decays() -> None:
    config = TrainConfig(steps=1000, learning_rate=1.0, warm_up_steps=100, constant_fraction=0.5)
    rates = [config.rate(step, config.progress(step, 0.0)) for step in (0, 49, 99, 499, 750, 1000)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, 0.5, 0.0])


def test_orthogonalise_brings_singular_values_near_one() -> None:
    for shape in ((6, 40), (40, 6)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalise(matrix))
        assert values.min() > 0.6 and values.max() < 1.3


def test_muon_takes_a_step_of_known_size_down_the_gradient() -> None:
    kernel = nn.Parameter(torch.zeros(4, 2, 3, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=0.1).step()
    assert (kernel * kernel.grad).sum() < 0
    # 4 singular values near 1, spread over 4 × 54 entries, times 0.1 · 0.2 · √54
    assert kernel.norm().item() == pytest.approx(0.1 * 0.2 * 54**0.5 * 2, rel=0.25)


def test_optimisers_share_out_all_weights() -> None:
    network = tiny().network
    for name in ("muon", "adam"):
        groups = [p for o in build_optimisers(network, name, 1e-3, 1e-3) for g in o.param_groups for p in g["params"]]
        assert {id(p) for p in groups} == {id(p) for p in network.parameters()}
        assert len(groups) == len(list(network.parameters()))


def test_a_score_that_fails_loses_no_training(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    def fail(network: nn.Module) -> dict[str, float]:
        raise TrainingError("no score")

    with pytest.raises(TrainingError, match="no score"):
        train(recipe, templates, TrainConfig(steps=4, validate_every=2), Run(tmp_path, start=tiny(), scores=(fail,)))
    resumed = train(recipe, templates, TrainConfig(steps=4, validate_every=2), Run(tmp_path, resume=True, start=tiny()))
    assert resumed.record["steps"] == 4


def test_the_model_to_start_from_is_left_as_it_was(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    start = tiny()
    before = weights(start.network)
    train(recipe, templates, TrainConfig(steps=2), Run(tmp_path, start=start))
    assert torch.equal(weights(start.network), before)


def test_training_leaves_the_global_random_state_alone(tmp_path: Path, templates: Templates, recipe: Recipe) -> None:
    before = torch.get_rng_state()
    train(recipe, templates, TrainConfig(steps=1), Run(tmp_path, start=tiny()))
    assert torch.equal(torch.get_rng_state(), before)
