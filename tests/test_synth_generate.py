"""The generator as a whole: replay, independence, chance in its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantom
import pytest
import torch

from phantomseg.errors import RecipeError, TemplateError
from phantomseg.labels import label_set
from phantomseg.rng import Constant, LogUniform, Normal, Uniform, parse_distribution, sample_rng
from phantomseg.synth.generate import apply_draws, draw_sample, generate, read_draw
from phantomseg.synth.recipe import Recipe, load_recipe, parse_recipe, record
from phantomseg.synth.slab import REACH_MM, SlabSettings
from phantomseg.synth.strip import StripSettings
from phantomseg.synth.templates import (
    Templates,
    derive_dura,
    keep_head,
    load_templates,
    prepare_template,
    save_templates,
)


def small(name: str = "head") -> Recipe:
    recipe = load_recipe(name)
    return replace(recipe, pose=replace(recipe.pose, crop_voxels=(32, 32, 32)))


@pytest.mark.parametrize("name", ["head", "synthseg"])
def test_sample_has_the_shape_range_and_labels_of_its_recipe(templates: Templates, name: str) -> None:
    batch = generate(small(name), templates, 0, range(3))
    assert batch.image.shape == (3, 1, 32, 32, 32) and batch.target.shape == (3, 32, 32, 32)
    assert batch.image.min() >= 0 and batch.image.max() <= 1 and batch.image.std() > 0.05
    assert batch.target.max() < len(label_set(small(name).target))


def test_record_replays_the_sample(templates: Templates) -> None:
    batch = generate(small(), templates, 3, range(5, 6))
    again = apply_draws([read_draw(json.loads(json.dumps(batch.draws[0].record())))], templates)
    assert torch.equal(batch.image, again.image) and torch.equal(batch.target, again.target)


def test_sample_does_not_depend_on_its_batch(templates: Templates) -> None:
    together = generate(small(), templates, 0, range(4))
    alone = generate(small(), templates, 0, range(2, 3))
    assert torch.equal(together.target[2:3], alone.target)
    assert torch.allclose(together.image[2:3], alone.image, atol=1e-5)


def test_scan_is_masked_after_it_was_acquired(templates: Templates) -> None:
    strip = StripSettings(1.0, masked_probability=1.0)
    calm = replace(small(), strip=strip, view=None, slab=None, fine_voxels_per_mm=1)
    masked = [draw_sample(calm, templates, 4, index) for index in range(4)]
    never = [replace(d, strip=replace(d.strip, masked=False)) for d in masked if d.strip]
    after, before = apply_draws(masked, templates), apply_draws(never, templates)
    outside = after.target == 0
    assert outside.any() and (~outside).any() and torch.equal(after.target, before.target)
    assert (after.image[:, 0][outside] == 0).all() and (before.image[:, 0][outside] > 0).any()
    # what lay beyond the edge is seen in it
    assert not torch.allclose(after.image[:, 0][~outside], before.image[:, 0][~outside], atol=0.05)


def test_ct_has_no_gain_field(templates: Templates) -> None:
    recipe = small()
    bias = replace(recipe.bias, probability=1.0, log_std=Constant(0.3)) if recipe.bias else None
    for share, wanted in ((1.0, 0.0), (0.0, 0.3)):
        drawn = draw_sample(
            replace(recipe, bias=bias, tissues=replace(recipe.tissues, ct_probability=share)), templates, 1, 0
        )
        assert drawn.bias is not None and drawn.bias.log_std == wanted


def test_samples_differ_by_seed_and_index(templates: Templates) -> None:
    images = [generate(small(), templates, seed, range(i, i + 1)).image for seed, i in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_global_random_state_is_left_alone(templates: Templates) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state itself
    generate(small(), templates, 0, range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002 - the state itself


def test_flipped_sample_has_its_left_on_the_left(templates: Templates) -> None:
    recipe = small()
    calm = replace(
        recipe.pose,
        rotation_deg=Constant(0),
        scaling=Constant(1),
        shear=Constant(0),
        translation_mm=Constant(0),
        warp_std_mm=Constant(0),
        anywhere_probability=0.0,
        flip_probability=1.0,
    )
    batch = generate(replace(recipe, pose=calm), templates, 0, range(1))
    head = label_set("head")
    assert batch.draws[0].pose.flip
    for name, is_left in (("left putamen", True), ("right putamen", False)):
        place = np.argwhere(batch.target[0].numpy() == head.names.index(name))[:, 0].mean()
        assert bool(place < 15.5) is is_left


def test_omitted_steps_are_not_drawn(templates: Templates) -> None:
    steps = ("shape", "findings", "strip", "bias", "gamma", "artefacts", "resolution", "view", "slab")
    bare = replace(small(), **dict.fromkeys(steps))
    draw = draw_sample(bare, templates, 0, 0)
    assert all(getattr(draw, step) is None for step in steps)
    assert apply_draws([draw], templates).image.shape == (1, 1, 32, 32, 32)


def test_image_and_target_of_a_slab_go_on_alike(templates: Templates) -> None:
    recipe = replace(small(), slab=SlabSettings(1.0, Constant(8.0)))
    for draw in (draw_sample(recipe, templates, 0, i) for i in range(3)):
        batch = apply_draws([draw], templates)
        first, end = draw.slab.planes(32)
        assert end - first <= 8
        for volume in (batch.image[0, 0], batch.target[0]):
            planes = volume.movedim(draw.slab.axis, 0)
            before, after = planes[max(first - REACH_MM, 0) : first], planes[end : end + REACH_MM]
            assert (before == planes[first]).all() and (after == planes[end - 1]).all()
            assert not planes[: max(first - REACH_MM, 0)].any() and not planes[end + REACH_MM :].any()


def test_finer_painting_gives_soft_targets_on_the_same_view(templates: Templates) -> None:
    plain = replace(small(), shape=None, view=None, slab=None, findings=None, fine_probability=1.0)
    coarse, fine = (generate(replace(plain, fine_voxels_per_mm=n), templates, 0, range(2)) for n in (1, 2))
    assert fine.image.shape == coarse.image.shape and fine.target.shape == (2, 64, 64, 64)
    assert coarse.hard_target() is coarse.target or torch.equal(coarse.hard_target(), coarse.target)
    assert (fine.hard_target() == coarse.target).float().mean() > 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_makes_the_same_labels(templates: Templates) -> None:
    here, there = (generate(small(), templates.to(torch.device(d)), 0, range(2)) for d in ("cpu", "cuda"))
    assert (here.target == there.target.cpu()).float().mean() > 0.999


def test_recipe_survives_its_record() -> None:
    for name in ("head", "synthseg"):
        recipe = load_recipe(name)
        assert parse_recipe(json.loads(json.dumps(record(recipe)))) == recipe


def test_synthseg_recipe_is_the_papers() -> None:
    recipe = load_recipe("synthseg")
    assert recipe.pose.rotation_deg == Uniform(-20, 20) and recipe.pose.scaling == Uniform(0.8, 1.2)
    assert recipe.pose.warp_std_mm == Uniform(0, 4) and recipe.tissues.std == Uniform(0, 35)
    assert recipe.bias is not None and recipe.bias.log_std == Uniform(0, 0.6)
    assert recipe.resolution is not None and recipe.resolution.slices_mm == Uniform(1, 9)
    assert recipe.gamma is not None and recipe.gamma.log_exponent == Normal(0, 0.632)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": {}}, "unknown key 'poses'"),
        ({"pose": {"crop": [1, 1, 1]}}, "unknown key 'pose.crop'"),
        ({"pose": {"crop_voxels": [1, 1]}}, "wanted 3 whole numbers"),
        ({"pose": {"rotation_deg": [1, 2]}}, "wanted a number or one of"),
        ({"pose": {"flip_probability": 2}}, "between 0 and 1"),
        ({"resolution": {"slices_mm": {"normal": [4, 1]}}}, "goes down to -inf"),
        ({"pose": 3}, "wanted a table"),
        ({"pose": {"scaling": {"uniform": [0, 1]}}}, "goes down to 0.0, wanted values above 0"),
        ({"tissues": {"shared_sides_probability": "no"}}, "wanted a number"),
    ],
)
def test_recipe_errors_name_the_key(change: dict[str, object], message: str) -> None:
    content = {"target": "head", "pose": {}, "tissues": {}} | change
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content)


def test_recipe_needs_its_target() -> None:
    with pytest.raises(RecipeError, match="lacks the key 'target'"):
        parse_recipe({"pose": {}, "tissues": {}})


def test_distributions_keep_to_their_bounds() -> None:
    for given in ({"uniform": [2, 3]}, {"loguniform": [2, 3]}):
        values = parse_distribution(given, "here").draw(sample_rng(0, 0), 100)
        assert 2 <= min(values) < 2.2 and 2.8 < max(values) <= 3
    assert np.std(Normal(0, 2).draw(sample_rng(0, 0), 1000)) == pytest.approx(2, rel=0.1)
    assert parse_distribution(4, "here") == Constant(4.0)
    assert isinstance(parse_distribution({"loguniform": [1, 2]}, "here"), LogUniform)


def test_template_is_turned_cropped_and_bordered(tmp_path: Path) -> None:
    values = phantom.head()
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    path = phantom.save(tmp_path / "flipped.nii.gz", values[::-1].copy(), affine)
    prepared = prepare_template(path)
    assert prepared.dtype == np.uint8
    for axis in range(3):
        assert np.take(prepared, 0, axis).max() == 0 and np.take(prepared, 1, axis).max() > 0
    plain = prepare_template(phantom.save(tmp_path / "plain.nii.gz", values))
    assert np.array_equal(prepared, plain)


def test_dura_is_the_csf_that_touches_bone() -> None:
    values = np.array([515, 24, 24, 3]).reshape(4, 1, 1)
    assert derive_dura(values).ravel().tolist() == [515, 520, 24, 3]
    drawn = np.array([515, 520, 24, 24, 515]).reshape(5, 1, 1)
    assert np.array_equal(derive_dura(drawn), drawn)


def test_specks_outside_the_head_are_dropped() -> None:
    values = phantom.head()
    values[0, 0, 0] = 511
    assert keep_head(values)[0, 0, 0] == 0 and (keep_head(values) > 0).sum() == (values > 0).sum() - 1


def test_prepared_file_holds_the_same_templates(templates: Templates, tmp_path: Path) -> None:
    save_templates(templates, tmp_path / "t.npz")
    again = load_templates(tmp_path / "t.npz")
    assert again.names == templates.names and torch.equal(again.labels, templates.labels)
    assert torch.equal(again.brain_low, templates.brain_low)


def test_damaged_prepared_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"no archive")
    with pytest.raises(TemplateError, match="t.npz is no prepared template file"):
        load_templates(tmp_path / "t.npz")


def test_template_of_2_mm_is_brought_to_1_mm(tmp_path: Path) -> None:
    values = phantom.head()[::2, ::2, ::2].copy()
    prepared = prepare_template(phantom.save(tmp_path / "coarse.nii.gz", values, np.diag([2.0, 2.0, 2.0, 1.0])))
    whole = prepare_template(phantom.save(tmp_path / "fine.nii.gz", phantom.head()))
    assert (prepared > 0).sum() == pytest.approx((whole > 0).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "head", "closed_voxels": 2}, "has closed_voxels 2 with target 'head'"),
        ({"target": "mask", "closed_voxels": -3}, "has closed_voxels -3"),
        ({"target": "mask", "closed_voxels": 2, "fine_voxels_per_mm": 2}, "fine_voxels_per_mm 2, wanted"),
        ({"also": [{"recipe": "shapes"}]}, "names another one with target, crop and distance_voxels"),
        ({"target": "border", "also": [{"recipe": "shapes", "weight": float("nan")}]}, "weight nan, wanted"),
        ({"also": "shapes"}, r"recipe key also is 'shapes', wanted tables; write \[\[also\]\]"),
        ({"target": "border", "also": [{"recipe": "universal", "weight": 1.0}]}, r"and no \[\[also\]\] in it"),
        ({"also": [{"recipe": "nothing"}]}, "there is no recipe 'nothing'"),
    ],
)
def test_recipes_that_cannot_be_mixed_or_closed_are_named(change: dict, message: str) -> None:
    content = {"target": "head", "pose": {"crop_voxels": [96, 128, 128]}, "tissues": {}}
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content | change)


def test_a_mixed_recipe_is_recorded_whole_and_draws_both() -> None:
    recipe = load_recipe("universal")
    assert parse_recipe(record(recipe)) == recipe and recipe.needs_templates and recipe.spacing_mm == 1.65
    assert [weight for weight, _ in recipe.parts] == [1.0, 1.0] and recipe.parts[1][1] == load_recipe("shapes")
