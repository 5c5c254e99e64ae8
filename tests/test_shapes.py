"""Label maps out of nothing: solids by hand, what is drawn, and what no template is needed for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import command
import numpy as np
import pytest
import torch

from phantomseg.errors import RecipeError, TemplateError
from phantomseg.labels import label_set, merge
from phantomseg.rng import Constant, Uniform, sample_rng
from phantomseg.synth import fillings, pumba, templates
from phantomseg.synth.generate import apply_draws, draw_sample, generate, read_draw, with_border
from phantomseg.synth.pumba import PumbaSettings, draw_pumba
from phantomseg.synth.recipe import Recipe, load_recipe, parse_recipe, record
from phantomseg.synth.shapes import Shapes, ShapesSettings, draw_shapes
from phantomseg.synth.solids import ENDLESS, Solid, distance_to, joined, places, random_axes, straightened
from phantomseg.synth.source import SHAPES, brain_channels, intracranial_channels, target_channels
from phantomseg.synth.templates import no_templates
from phantomseg.synth.tissues import TissueSettings, draw_tissues

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SMALL = ShapesSettings(crop_voxels=(32, 32, 32))
BRAIN = torch.from_numpy(brain_channels(SHAPES))


def grid(size: int) -> torch.Tensor:
    axes = places((size,) * 3, 1)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def small_recipe(name: str = "shapes", size: int = 32) -> Recipe:
    table = record(load_recipe(name))
    table[name]["crop_voxels"] = [size] * 3
    return parse_recipe(table)


def drawn(kind: str, count: int = 400, settings: ShapesSettings = SMALL) -> Shapes:
    found = (draw_shapes(settings, sample_rng(5, index)) for index in range(count))
    return next(shapes for shapes in found if shapes.kind == kind)


def test_distance_to_a_ball_is_exact() -> None:
    where = grid(15)
    away = where.square().sum(0).sqrt()
    found = distance_to(Solid((0, 0, 0), (5, 5, 5)), where)
    assert torch.allclose(found[away > 0.5], (away - 5)[away > 0.5], atol=1e-4)


def test_distance_to_a_turned_ellipsoid_and_a_box_is_right_near_their_surfaces() -> None:
    axes = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)  # its longest axis runs along the second of the grid
    found = distance_to(Solid((1, 0, 0), (9, 4, 6), axes), grid(31))
    middle = 15
    assert found[middle + 1, middle + 9, middle].item() == pytest.approx(0, abs=1e-4)
    assert found[middle + 1, middle, middle + 4].item() == pytest.approx(0, abs=1e-4)
    assert found[middle + 7, middle, middle].item() == pytest.approx(0, abs=1e-4)
    assert found[middle + 8, middle, middle].item() == pytest.approx(1, abs=0.2)
    box = distance_to(Solid((0, 0, 0), (6, 6, 6), exponent=8.0), grid(31))
    assert box[middle + 8, middle, middle].item() == pytest.approx(2, abs=0.1)
    assert box[middle + 5, middle + 5, middle + 5].item() < 0  # a ball of this radius ends before


def test_tube_has_no_end() -> None:
    tube = distance_to(Solid((0, 0, 0), (ENDLESS, 3, 3)), grid(21))
    assert torch.allclose(tube[0], tube[20]) and tube[0, 10, 13].item() == pytest.approx(0, abs=1e-4)


def test_random_axes_turn_without_mirroring() -> None:
    for index in range(20):
        matrix = np.array(random_axes(sample_rng(0, index))).reshape(3, 3)
        assert np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) == pytest.approx(1)


def test_joined_solids_and_straightened_distances() -> None:
    apart = [torch.tensor([0.0, 5.0]), torch.tensor([9.0, 5.0])]
    assert joined(apart, 1.0).tolist() == pytest.approx([0.0, 5 - math.log(2)], abs=1e-3)
    bent = 3 * distance_to(Solid((0, 0, 0), (5, 5, 5)), grid(15))
    assert straightened(bent)[7, 7, 13].item() == pytest.approx(1, abs=0.02)


def test_every_kind_is_drawn_and_only_heads_hold_brain() -> None:
    for kind in ("head", "phantom", "limb", "body", "nothing"):
        labels = fillings.draw_labels([drawn(kind)], CPU)
        assert labels.shape == (1, 32, 32, 32) and labels.dtype == torch.uint8
        assert bool(BRAIN[labels.long()].any()) == (kind == "head")
        assert bool((labels > 0).any()) == (kind != "nothing")


SHELLS = replace(
    SMALL,
    crop_voxels=(48, 48, 48),
    usual_share=Constant(0.4),
    usual_probability=1.0,
    no_brain_probability=0.0,
    gap_probability=1.0,
    gap_share=Constant(0.3),
    skull_probability=1.0,
    skull_share=Constant(0.3),
    flesh_share=Constant(0.4),
    bare_probability=0.0,
    head_probability=0.0,
    neck_probability=0.0,
    stem_probability=0.0,
    lobe_probability=0.0,
    unevenness=Constant(0.0),
    off_centre=Constant(0.0),
    warp_share=Constant(0.0),
    lumps_share=Constant(0.0),
    hull_probability=0.0,
    open_probability=0.0,
)


def test_shells_lie_in_order_around_the_brain() -> None:
    names = label_set(SHAPES).names
    for index in range(4):
        labels = fillings.draw_labels([draw_shapes(SHELLS, sample_rng(0, index))], CPU)[0]
        middle = [names[value] for value in labels[24, 24, 24:].tolist()]
        shells = [next(i for i, name in enumerate(middle) if word in name) for word in ("gap", "bone", "background")]
        assert shells == sorted(shells)
        assert "brain" in middle[0] or "fold" in middle[0]
        gap, outer = labels == fillings.channel("gap fluid"), ~BRAIN[labels.long()]
        assert gap.any() and outer[0].all()
        beside = torch.nn.functional.max_pool3d(BRAIN[labels.long()][None].float(), 3, 1, 1)[0] > 0
        bone = labels == fillings.channel("cortical bone")
        assert not (bone & beside).any()  # the gap keeps bone and brain apart


def test_shells_may_be_open() -> None:
    settings = replace(SHELLS, open_probability=1.0, open_level=Constant(0.2))
    for index in range(4):
        labels = fillings.draw_labels([draw_shapes(settings, sample_rng(0, index))], CPU)[0].long()
        beside = torch.nn.functional.max_pool3d(BRAIN[labels][None].float(), 3, 1, 1)[0] > 0
        around = labels[beside & ~BRAIN[labels]]
        in_gap = float((around == fillings.channel("gap fluid")).float().mean())
        assert 0.1 < in_gap < 0.9 and bool((around >= fillings.outer(0)).any())


def test_straightened_leaves_a_distance_as_it_is_and_mends_a_bent_one() -> None:
    plane = (torch.arange(8.0) - 4.3).view(8, 1, 1).expand(8, 8, 8)
    assert torch.allclose(straightened(plane), plane) and torch.allclose(straightened(3 * plane), plane)


def test_sizes_run_from_small_to_large_and_aspects_vary() -> None:
    shapes = [draw_shapes(ShapesSettings(), sample_rng(1, index)) for index in range(300)]
    heads = [one for one in shapes if one.kind == "head"]
    longest = np.array([2 * max(one.brain[0].half_axes) / 96 for one in heads])
    assert 0.15 <= longest.min() < 0.35 and 1.1 < longest.max() <= 0.83 * 4 ** (1 / 3) + 1e-6
    mean = np.array([2 * one.brain[0].radius / 96 for one in heads])
    assert 0.65 < ((mean >= 0.65) & (mean <= 0.83)).mean() < 0.95  # as in use
    flat = np.array([min(one.brain[0].half_axes) / max(one.brain[0].half_axes) for one in heads])
    assert flat.min() < 0.55 and flat.max() > 0.9
    assert 0.12 < 1 - len(heads) / len(shapes) < 0.3  # some show no brain
    assert {one.outside.bare for one in heads} == {True, False}


def test_a_brain_alone_is_never_of_one_substance() -> None:
    shapes = [draw_shapes(SMALL, sample_rng(2, index), stripped=True) for index in range(50)]
    assert {one.kind for one in shapes} == {"head"} and min(one.inside.parts for one in shapes) == 2


def test_folds_open_to_the_surface() -> None:
    shapes = next(
        one for index in range(400)
        if (one := draw_shapes(replace(SMALL, folds_probability=1.0), sample_rng(3, index))).inside.fluid > 0.5
        and one.kind == "head" and one.outside.bare is False and one.outside.gap > 1
    )  # fmt: skip
    labels = fillings.draw_labels([shapes], CPU)
    fluid = (labels == fillings.channel("fold fluid")).float()
    gap = labels == fillings.channel("gap fluid")
    assert (torch.nn.functional.max_pool3d(fluid, 3, 1, 1)[gap] > 0).any()


def test_draws_replay_from_their_record_and_samples_repeat() -> None:
    for name in ("shapes", "pumba"):
        recipe, nothing = small_recipe(name), no_templates()
        draw = draw_sample(recipe, nothing, 3, 1)
        again = read_draw(json.loads(json.dumps(draw.record(), allow_nan=False)))
        assert again == draw
        first, second = (apply_draws([one], nothing) for one in (draw, again))
        assert torch.equal(first.image, second.image) and torch.equal(first.target, second.target)
        batch = generate(recipe, nothing, 3, range(3))
        assert torch.equal(batch.target[1], first.target[0])
        assert torch.allclose(batch.image[1], first.image[0], atol=1e-5)
        assert float(first.image.min()) >= 0 and float(first.image.max()) <= 1


def test_no_folder_of_templates_is_needed_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a template was read")

    monkeypatch.setattr(templates, "load_templates", refuse)
    monkeypatch.setattr(templates, "prepare_template", refuse)
    monkeypatch.chdir(tmp_path)
    text = (Path(templates.__file__).parents[1] / "recipes" / "shapes.toml").read_text(encoding="utf-8")
    (tmp_path / "small.toml").write_text(text.replace("[96, 96, 96]", "[32, 32, 32]"), encoding="utf-8")
    flags = ("--recipe", "small.toml", "--device", "cpu", "--threads", 1)
    assert command.run("train", "-o", "run", "--steps", 2, "--features", "4,8", *flags) == 0
    assert (tmp_path / "run" / "model" / "weights.safetensors").is_file()
    assert command.run("synthesize", "-o", "samples", "-n", 2, *flags) == 0
    assert (tmp_path / "samples" / "contact_sheet.png").is_file()


def test_recipes_that_need_templates_say_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (("synthesize", "-n", 1), ("train", "--steps", 1)):
        assert "this recipe needs templates" in command.refused(capfd, tmp_path / "out", *words)
    with pytest.raises(TemplateError, match="this recipe poses templates"):
        draw_sample(load_recipe("head"), no_templates(), 0, 0)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pumba": {}}, r"recipe has 2 of the tables \[pose\], \[shapes\] and \[pumba\], wanted one"),
        ({"shapes": None}, "recipe has 0 of the tables"),
        ({"findings": {}}, r"\[shape\] or \[findings\] without \[pose\]"),
        ({"distance_voxels": 6}, "distance_voxels 6 and target 'border', wanted 2 to 8 and target 'mask'"),
        ({"target": "mask", "distance_voxels": 9}, "distance_voxels 9 and target 'mask'"),
    ],
)
def test_recipes_of_shapes_that_cannot_be_used(changes: dict, message: str) -> None:
    table = record(load_recipe("shapes")) | changes
    with pytest.raises(RecipeError, match=message):
        parse_recipe({key: value for key, value in table.items() if value is not None})


def test_channels_of_shapes() -> None:
    names = label_set(SHAPES).names
    assert {n for n, is_brain in zip(names, brain_channels(SHAPES), strict=True) if is_brain} == {
        *(f"brain part {k}" for k in range(1, 17)),
        "fold fluid",
        "hole in the brain",
    }
    outer = intracranial_channels(SHAPES) & ~brain_channels(SHAPES)
    assert [names[i] for i in np.flatnonzero(outer)] == ["gap fluid"]
    assert target_channels("border", SHAPES).tolist() == target_channels("mask", SHAPES).tolist()
    assert merge("head", "mask").apply(np.array([2, 24, 515])).tolist() == [1, 0, 0]


def test_border_is_one_layer_with_corners() -> None:
    mask = torch.zeros(1, 7, 7, 7, dtype=torch.uint8)
    mask[:, 1:6, 1:6, 1:6] = 1
    found = with_border(mask)
    assert torch.bincount(found.flatten().long()).tolist() == [343 - 125, 27, 125 - 27]


def test_parts_of_the_brain_may_look_alike() -> None:
    settings = TissueSettings(alike_probability=1.0, alike_std=Constant(1.0), mean=Uniform(50, 200))
    tissues = draw_tissues(settings, False, sample_rng(0, 0), SHAPES)
    mean = np.array(tissues.mean)
    parts = np.array([name.startswith("brain part") for name in label_set(SHAPES).names])
    assert np.ptp(mean[parts]) < 8 and np.ptp(mean[~parts]) > 50


def test_holes_look_like_the_background_and_fluids_like_each_other() -> None:
    mean = draw_tissues(TissueSettings(), False, sample_rng(0, 4), SHAPES).mean
    at = {name: mean[index] for index, name in enumerate(label_set(SHAPES).names)}
    assert at["cavity"] == at["hole in the brain"] == at["background"] and at["gap fluid"] == at["fold fluid"]


def test_pumba_draws_what_its_code_does() -> None:
    draws = [draw_pumba(PumbaSettings(), sample_rng(0, index)) for index in range(200)]
    heads = np.array([one.head.diameters for one in draws])
    brains = np.array([one.brain.diameters for one in draws])
    skulls = np.array([one.skull.diameters for one in draws])
    assert (heads.min(), heads.max()) == (120, 125)
    assert (heads - skulls).min() >= 5 and (heads - skulls).max() <= 49
    gap = skulls - brains
    assert gap[:, :2].min() == 0 and gap[:, :2].max() == 19 and gap[:, 2].min() == 10 and gap[:, 2].max() == 29
    assert brains.mean(0) == pytest.approx([86, 86, 76], abs=3)
    assert {len(one.holes) for one in draws} == {2, 3, 4} and {len(one.beside) for one in draws} == {5}
    offsets = np.abs([small.middle for one in draws for small in one.beside])
    assert offsets.min() == 20 and offsets.max() == 30
    assert all(len(set(hole.middle)) == 1 for one in draws for hole in one.holes)
    half = draw_pumba(PumbaSettings(crop_voxels=(64, 64, 64)), sample_rng(0, 0))
    assert np.array(half.head.diameters) * 2 == pytest.approx(draws[0].head.diameters)


def test_pumba_labels_are_boxes_of_two_ellipsoids() -> None:
    still = PumbaSettings((64, 64, 64), warp_voxels=Constant(0.0), rotation_deg=Constant(0.0))
    draw = replace(draw_pumba(still, sample_rng(0, 1)), holes=(), beside=())
    labels = pumba.draw_labels([draw], CPU)[0]
    brain = BRAIN[labels.long()]
    volume = math.pi / 6 * math.prod(draw.brain.diameters)
    assert brain.sum().item() == pytest.approx(volume, rel=0.02)
    assert labels[brain].unique().tolist() == list(range(1, 9))
    assert len(labels[~brain].unique()) == 1 + 8
    assert labels[32, 32, 32] == 8 and labels[31, 31, 31] == 1
