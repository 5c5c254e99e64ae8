"""Label maps that tell fewer labels apart: their tables, their lists, and what a network learns from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom
import pytest
import torch

from phantomseg.errors import LabelError, TemplateError
from phantomseg.image.size import enlargement
from phantomseg.labels import UNLABELLED, coarse_labels, coarse_names, label_set
from phantomseg.network.losses import dice_cross_entropy
from phantomseg.report.samples import write_samples
from phantomseg.rng import Constant
from phantomseg.synth.generate import apply_draws, closed_masks, draw_sample, generate, with_border
from phantomseg.synth.recipe import Part, Recipe, load_recipe
from phantomseg.synth.shape import Move, ShapeSettings
from phantomseg.synth.source import joined_classes
from phantomseg.synth.strip import Strip
from phantomseg.synth.template_list import list_templates
from phantomseg.synth.templates import Templates, load_templates, save_templates
from phantomseg.training.stages import facts_of
from phantomseg.training.validate import held_out_dice

GENERATION = label_set("generation")
HEAD = label_set("head")
# what the phantom's values are called in maps without sides
COARSE = {0: 0, 511: 9, 515: 8, 24: 7, 3: 1, 42: 1, 2: 2, 41: 2, 4: 3, 43: 3, 12: 4, 51: 4}
TABLE = """value,name,labels
0,background,0
1,cortex,3 42
2,white matter,2 41
3,ventricles,4 43
4,putamen,12 51
7,fluid,24
8,bone,515 516
9,skin,unlabelled
"""


def channel(value: int) -> int:
    return int(GENERATION.index_of_ids(np.array([value]))[0])


def head_channel(value: int) -> int:
    return int(HEAD.index_of_ids(np.array([value]))[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One map with all labels, one of a coarse table, and the list of both."""
    (tmp_path / "fine").mkdir()
    (tmp_path / "coarse").mkdir()
    values = phantom.head()
    phantom.save(tmp_path / "fine" / "one.nii.gz", values)
    lookup = np.vectorize(COARSE.get)
    phantom.save(tmp_path / "coarse" / "two.nii.gz", lookup(values).astype(np.int16))
    phantom.save(tmp_path / "coarse" / "left_out.nii.gz", lookup(values).astype(np.int16))
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "labels.toml").write_text(
        '[[templates]]\nfolder = "fine"\n\n'
        '[[templates]]\nfolder = "coarse"\nfiles = ["*.nii.gz"]\nomit = "left_*"\nlabels = "table.csv"\nweight = 3\n',
        encoding="utf-8",
    )
    return tmp_path


@pytest.fixture
def recipe() -> Recipe:
    recipe = load_recipe("head")
    pose = replace(recipe.pose, crop_voxels=(32, 48, 32), anywhere_probability=0.0, neck_probability=0.0)
    return replace(recipe, pose=pose, slab=None, view=None, findings=None)


def coarse_draw(recipe: Recipe, templates: Templates, keep: str = "head", flip: bool = False) -> int:
    """Number of the first sample of the coarse map that shows all of it."""
    for index in range(200):
        draw = draw_sample(recipe, templates, 1, index)
        if draw.pose.template == 1 and draw.strip.keep == keep and draw.pose.flip == flip:
            return index
    raise AssertionError("no such sample")


@pytest.mark.parametrize("name", coarse_names())
def test_shipped_tables_name_labels_that_exist_and_keep_brain_and_rest_apart(name: str) -> None:
    table = coarse_labels(name)
    assert table.values[0] == 0 and table.channels[0] == 0
    assert table.groups.shape == (len(GENERATION),)
    known = table.groups[table.groups != UNLABELLED]
    assert (table.groups[known] == known).all()  # the lowest of a group is its own
    joined, sides = table.groups[channel(2)] == table.groups[channel(41)], table.groups[channel(25)]
    assert (sides == table.groups[channel(57)]) or not joined


@pytest.mark.parametrize("name", coarse_names())
@pytest.mark.parametrize("target", ["head", "freesurfer", "brain", "intracranial", "siam"])
def test_shipped_tables_keep_the_background_apart_or_are_refused(name: str, target: str) -> None:
    table = coarse_labels(name)
    refused = {("siam", "freesurfer"), ("siam", "brain"), ("siam", "intracranial"), ("brainweb", "freesurfer"),
               ("brainweb", "brain")}  # fmt: skip
    if (name, target) in refused:
        with pytest.raises(LabelError, match=f"from what the label set {target!r} leaves out"):
            joined_classes(target, table.groups.tobytes(), False)
        return
    _, classes = joined_classes(target, table.groups.tobytes(), False)
    assert (classes == 0).sum() == 1


def test_lesions_are_no_class_where_white_matter_is_more_than_the_cerebrum_s() -> None:
    for name in ("siam", "brainweb"):
        groups = coarse_labels(name).groups
        assert len({int(groups[channel(value)]) for value in (2, 41, 7, 16, 25, 57)}) == 1
    groups = coarse_labels("fetal").groups
    assert groups[channel(25)] == groups[channel(57)] != groups[channel(2)]


def test_nearest_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(LabelError, match="it holds value 251, which becomes the nearest of the labels 2, 41, and none"):
        coarse_labels("freesurfer").apply(np.array([0, 251]).reshape(2, 1, 1))


def test_freesurfer_maps_keep_their_sides() -> None:
    table = coarse_labels("freesurfer")
    assert table.groups[channel(2)] != table.groups[channel(41)]
    assert GENERATION.ids[table.apply(np.array([2, 41, 31, 77]))].tolist() == [2, 41, 136, 25]
    assert table.groups[channel(136)] == table.groups[channel(137)] != table.groups[channel(163)]


def test_corpus_callosum_of_freesurfer_goes_to_the_nearest_side() -> None:
    line = np.array([2, 251, 255, 251, 41, 0]).reshape(6, 1, 1)
    found = GENERATION.ids[coarse_labels("freesurfer").apply(line)].ravel().tolist()
    assert found[:2] == [2, 2] and found[3:] == [41, 41, 0] and found[2] in (2, 41)


def test_siam_has_a_value_that_says_nothing() -> None:
    table = coarse_labels("siam")
    assert table.groups[table.apply(np.array([17]))[0]] == UNLABELLED
    with pytest.raises(LabelError, match="it holds value 18 in 2 voxels, which the label set 'siam' does not know"):
        table.apply(np.array([18, 0, 18]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("value,labels\n1,5000\n", "line 2 has value '1' and labels '5000', wanted a whole number, and ids of"),
        ("value,labels\nx,2\n", "line 2 has value 'x'"),
        ("value,labels\n1,2\n1,3\n", "has the value 1 twice"),
        ("value,labels\n", "is empty"),
        ("value,labels\n1,unlabelled\n2,85 506 508 509\n", "has unlabelled voxels and all of"),
        ("value,labels\n1,\n", "line 2 has value '1' and labels ''"),
        ("value,labels\n0,unlabelled\n", "ids of the set 'generation' or, but for 0, the word unlabelled"),
        ("value,labels\n1,nearest\n", "line 2 has value '1' and labels 'nearest'"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=message):
        coarse_labels(str(path))


def test_unknown_table_is_named() -> None:
    with pytest.raises(LabelError, match="no table of the label maps 'nothing'; choose one of generation, brainweb"):
        coarse_labels("nothing")


def test_list_names_files_labels_and_weights(folder: Path) -> None:
    for source in (folder, folder / "labels.toml"):
        files = list_templates(source)
        assert [(f.path.name, f.weight) for f in files] == [("one.nii.gz", 1.0), ("two.nii.gz", 3.0)]
        assert files[1].labels == str(folder / "table.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is no TOML"),
        ("[templates]", r"has the keys templates, wanted \[\[templates\]\] alone"),
        ("a = 1", "has the keys a, wanted"),
        ('[[templates]]\nfolders = "x"', "table 1 has the key 'folders'"),
        ('[[templates]]\nfolder = "x"', "names the folder .*x, which does not exist"),
        ('[[templates]]\nfolder = "coarse"\nfiles = "*.mgz"', "and .*coarse holds none"),
        ("[[templates]]\nweight = 0", "has weight = 0, wanted a number above 0"),
        ('[[templates]]\nenlarge = "yes"', "has enlarge = 'yes', wanted true or false"),
        ("[[templates]]\nfiles = 3", "has files = 3, wanted patterns"),
        ('[[templates]]\nfolder = "fine"\nlabels = "saim"', "labels.toml: there is no table of the label maps 'saim'"),
        ('[[templates]]\nfolder = "fine"\n[[templates]]\nfolder = "fine"', "lists .*one.nii.gz more than once"),
    ],
)
def test_wrong_lists_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "labels.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match=message):
        list_templates(folder)


def test_maps_are_drawn_as_often_as_they_weigh(folder: Path, recipe: Recipe) -> None:
    templates = load_templates(folder)
    assert templates.names == ("one", "two") and templates.weights == (1.0, 3.0)
    drawn = [draw_sample(recipe, templates, 1, index).pose.template for index in range(400)]
    assert 0.68 < np.mean(drawn) < 0.82


def test_samples_with_unlabelled_voxels_are_written(folder: Path, recipe: Recipe) -> None:
    templates = load_templates(folder)
    index = coarse_draw(recipe, templates)
    write_samples(folder / "out", recipe, templates, 1, range(index, index + 1))
    written = np.asarray(nib.load(folder / "out" / f"sample-1-{index}_dseg.nii.gz").dataobj)
    assert set(np.unique(written)) <= {0, 2, 3, 4, 12, 24, 515}


def test_record_tells_label_sets_and_weights(folder: Path) -> None:
    facts = facts_of(load_templates(folder))
    assert facts["template_labels"] == ["generation", "table.csv"] and facts["weights"] == [1.0, 3.0]
    assert "template_labels" not in facts_of(load_templates(folder / "fine"))
    (folder / "finer").mkdir()
    shutil.copy(folder / "fine" / "one.nii.gz", folder / "finer" / "other.nii.gz")
    (folder / "two.toml").write_text(
        '[[templates]]\nfolder = "fine"\n\n[[templates]]\nfolder = "finer"\nweight = 3\n', encoding="utf-8"
    )
    twice = facts_of(load_templates(folder / "two.toml"))
    assert twice["weights"] == [1.0, 3.0] and "template_labels" not in twice


def test_fluid_at_the_surface_of_a_mask_is_fluid(folder: Path) -> None:
    mask = torch.tensor([0, 3, 1, 1, 1, 0]).view(1, 1, 1, 6).expand(1, 9, 9, 6).to(torch.uint8)
    assert with_border(mask)[0, 4, 4].tolist() == [0, 3, 1, 1, 2, 0]


def test_prepared_file_keeps_weights_and_groups(folder: Path) -> None:
    templates = load_templates(folder)
    save_templates(templates, folder / "t.npz")
    again = load_templates(folder / "t.npz")
    assert again.weights == templates.weights and np.array_equal(again.groups, templates.groups)
    plain = load_templates(folder / "fine")
    assert plain.weights == () and plain.groups is None


def test_target_of_a_coarse_map_holds_the_lowest_of_what_a_voxel_may_be(folder: Path, recipe: Recipe) -> None:
    templates = load_templates(folder)
    for flip in (False, True):
        index = coarse_draw(recipe, templates, flip=flip)
        batch = generate(recipe, templates, 1, range(index, index + 1))
        assert batch.classes is not None and batch.classes.shape == (1, len(HEAD))
        held = set(batch.target.unique().tolist())
        assert UNLABELLED in held  # skin
        assert held <= {UNLABELLED, *(head_channel(value) for value in (0, 2, 3, 4, 12, 24, 515))}
        assert batch.classes[0, head_channel(42)] == head_channel(3)
        assert batch.classes[0, head_channel(57)] == head_channel(25)
        assert batch.classes[0, head_channel(17)] == head_channel(17)  # not in the map, and apart


def test_sides_of_a_table_follow_the_mirror() -> None:
    rows = np.arange(len(GENERATION), dtype=np.uint8)
    rows[channel(13)] = channel(12)  # left pallidum and putamen are one, the right ones are not
    _, plain = joined_classes("head", rows.tobytes(), False)
    _, mirrored = joined_classes("head", rows.tobytes(), True)
    assert plain[head_channel(13)] == head_channel(12) and plain[head_channel(52)] == head_channel(52)
    assert mirrored[head_channel(52)] == head_channel(51) and mirrored[head_channel(13)] == head_channel(13)


def test_masks_are_taught_by_any_map(folder: Path) -> None:
    table, classes = joined_classes("mask", coarse_labels("siam").groups.tobytes(), False)
    assert table.max() == 1 and classes.tolist() == [0, 1]


def test_map_without_ventricles_is_not_stripped_to_the_brain_alone(folder: Path, recipe: Recipe) -> None:
    (folder / "table.csv").write_text(TABLE.replace("7,fluid,24\n", "7,fluid,24 4 43\n"), encoding="utf-8")
    coarse_labels.cache_clear()
    templates = load_templates(folder)
    assert [templates.tells_brain_from_fluid(number) for number in (0, 1)] == [True, False]
    kept = {draw_sample(recipe, templates, 1, index).strip.keep for index in range(200)
            if draw_sample(recipe, templates, 1, index).pose.template == 1}  # fmt: skip
    assert kept == {"head", "intracranial"}
    coarse_labels.cache_clear()


def test_loss_of_joined_classes_is_that_of_their_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 2, 2, 2, generator=generator).requires_grad_()
    target = torch.tensor([0, 1, 1, 0, 3, 3, 1, 0]).view(1, 2, 2, 2)
    loss = dice_cross_entropy(logits, target, np.array([[0, 1, 1, 3]]))
    p = logits.detach().double().softmax(1)
    summed = torch.stack([p[:, 0], p[:, 1] + p[:, 2], p[:, 3]], 1).log()
    wanted = dice_cross_entropy(summed.float(), torch.tensor([0, 1, 1, 0, 2, 2, 1, 0]).view(1, 2, 2, 2))
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    loss.backward()
    # joined classes keep their odds where one is not preferred: gradients are shares of one
    share = logits.grad[:, 1:3] / p[:, 1:3].float()
    torch.testing.assert_close(share[:, 0], share[:, 1], rtol=1e-3, atol=1e-5)


def test_unlabelled_voxels_teach_nothing() -> None:
    logits = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    target = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    target[0, 0] = UNLABELLED
    dice_cross_entropy(logits, target, np.array([[0, 1, 2]])).backward()
    assert (logits.grad[0, :, 0] == 0).all() and (logits.grad[0, :, 1] != 0).all()


def test_plain_and_coarse_samples_share_a_batch(folder: Path, recipe: Recipe) -> None:
    templates = load_templates(folder)
    recipe = replace(recipe, fine_voxels_per_mm=2, fine_probability=0.5)
    draws = [draw_sample(recipe, templates, 1, index) for index in range(8)]
    assert {draw.fine_voxels_per_mm for draw in draws} == {1, 2}
    batch = apply_draws(draws, templates)
    assert batch.image.shape == (8, 1, 32, 48, 32) and batch.target.shape == (8, 64, 96, 64)
    assert batch.classes.shape == (8, len(HEAD))
    logits = torch.zeros(8, len(HEAD), 32, 48, 32)
    assert torch.isfinite(dice_cross_entropy(logits, batch.target, batch.classes))


def test_samples_of_recipes_with_other_steps_share_a_batch(folder: Path, recipe: Recipe) -> None:
    plain = Recipe(target="head", tissues=recipe.tissues, pose=recipe.pose)
    mixed = replace(recipe, fine_voxels_per_mm=1, also=(Part(recipe=plain, weight=1.0),))
    templates = load_templates(folder / "fine")
    draws = [draw_sample(mixed, templates, 1, index) for index in range(6)]
    assert {draw.shape is None for draw in draws} == {True, False}
    together = apply_draws(draws, templates)
    for number, draw in enumerate(draws):
        alone = apply_draws([draw], templates)
        assert torch.equal(together.target[number], alone.target[0])
        torch.testing.assert_close(together.image[number], alone.image[0], atol=1e-5, rtol=0)


def test_deep_grey_matter_that_is_called_cortex_is_not_thinned(folder: Path, recipe: Recipe) -> None:
    (folder / "table.csv").write_text(TABLE.replace("1,cortex,3 42", "1,grey matter,3 42 10 49 12 51")
                                      .replace("4,putamen,12 51\n", "4,caudate,11 50\n"), encoding="utf-8")  # fmt: skip
    always = Move(1.0, Constant(-1.0))
    recipe = replace(recipe, shape=ShapeSettings(pial=always, ventricles=always, thickness=Move(1.0, Constant(2.0))))
    templates = load_templates(folder)
    assert [templates.tells_cortex(index) for index in (0, 1)] == [True, False]
    fine, coarse = (
        next(d for d in (draw_sample(recipe, templates, 1, n) for n in range(99)) if d.pose.template == index)
        for index in (0, 1)
    )
    assert set(fine.shape.boundaries) == {"pial", "ventricles", "thickness"}
    assert coarse.shape.boundaries == ("ventricles",) and len(coarse.shape.sides) == 1


def test_masks_are_closed_up_to_the_faces_of_the_crop(folder: Path) -> None:
    recipe = load_recipe("universal")
    recipe = replace(recipe, also=(), pose=replace(recipe.pose, crop_voxels=(32, 48, 32)))
    draw = replace(draw_sample(recipe, load_templates(folder / "fine"), 1, 0), strip=None)
    mask = torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
    mask[:, 3:6], mask[:, 8:10] = 1, 1  # two voxels apart, and two and three from the faces
    closed = closed_masks(mask, mask, [draw])[0]
    assert closed[:, 6, 6].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_unlabelled_voxels_stay_unlabelled_where_they_were_stripped(folder: Path, recipe: Recipe) -> None:
    templates = load_templates(folder)
    index = coarse_draw(recipe, templates, keep="intracranial")
    target = generate(recipe, templates, 1, range(index, index + 1)).target
    assert (target == UNLABELLED).any() and (target == 0).any()


def test_held_out_scores_know_joined_classes(folder: Path, recipe: Recipe) -> None:
    class One(torch.nn.Module):
        """Says everything is of one class."""

        multiple, bytes_a_voxel = 2, 1

        def __init__(self, value: int) -> None:
            super().__init__()
            self.value = value
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def encode(self, image: torch.Tensor, norms: object = None) -> torch.Tensor:
            return image

        def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: tuple[slice, ...]) -> torch.Tensor:
            logits = torch.zeros(1, len(HEAD), *(s.stop - s.start for s in block))
            logits[:, head_channel(self.value)] = 9
            return logits

    (folder / "only.toml").write_text(
        '[[templates]]\nfolder = "coarse"\nomit = "left_*"\nlabels = "table.csv"\n', encoding="utf-8"
    )
    templates = load_templates(folder / "only.toml")
    left, right = (held_out_dice(One(value), replace(recipe, strip=None), templates, 4) for value in (2, 41))
    assert left == right and 0 < left["dice_held_out"] < 0.5


def test_stripped_sample_of_masks_is_kept_whole(folder: Path) -> None:
    recipe = load_recipe("universal")
    recipe = replace(recipe, also=(), pose=replace(recipe.pose, crop_voxels=(32, 48, 32)), view=None)
    templates = load_templates(folder / "fine")
    draw = draw_sample(recipe, templates, 1, 0)
    still = replace(
        draw.pose, rotation_deg=(0.0,) * 3, scaling=(1.0,) * 3, shear=(0.0,) * 3, warp_std_mm=0.0, neck=False
    )
    middle = (templates.brain_low[0] + templates.brain_high[0]).numpy() / 2
    still = replace(still, centre_voxel=tuple(middle.tolist()))
    fluid = {}
    for keep in ("head", "intracranial"):
        one = replace(draw, pose=still, shape=None, strip=Strip(keep, 0.0))
        target = apply_draws([one], templates).target[0]
        assert set(target.unique().tolist()) == {0, 1, 2, 3}
        fluid[keep] = int((target == 3).sum())
    # between the surface of the brain and the skull lies 2 mm of fluid, which is part of what was stripped; of a head,
    # that between the steps of its surface alone
    assert fluid["intracranial"] > 5 * fluid["head"]


def test_small_heads_alone_are_enlarged() -> None:
    assert enlargement(1500.0) == enlargement(900.0) == enlargement(20.0) == enlargement(0.0) == 1.0
    assert enlargement(1700.0 / 8) == pytest.approx(2.0)


def test_small_head_is_prepared_at_the_size_of_an_adult(tmp_path: Path) -> None:
    phantom.save(tmp_path / "small.nii.gz", phantom.head(), np.diag([2.5, 2.5, 2.5, 1]))
    (tmp_path / "labels.toml").write_text("[[templates]]\nenlarge = true\n", encoding="utf-8")
    assert load_templates(tmp_path).smallest_head_ml == pytest.approx(1700, rel=0.05)


def test_size_of_the_smallest_head_is_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = load_templates(folder)
    save_templates(templates, folder / "t.npz")
    # the map with all labels has the smaller one, as its outermost fluid is dura
    inside = np.isin(GENERATION.ids[templates.volume(0)], (24, 3, 42, 2, 41, 4, 43, 12, 51)).sum() / 1000
    assert templates.smallest_head_ml == pytest.approx(inside, abs=0.05)
    assert load_templates(folder / "t.npz").smallest_head_ml == templates.smallest_head_ml
    # volumes of templates on another device cannot be read as arrays
    monkeypatch.delattr(Templates, "volume")
    assert facts_of(templates)["smallest_head_ml"] == templates.smallest_head_ml
