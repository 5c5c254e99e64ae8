"""Samples of real scans with their label maps: looked up, mirrored, paired, refused, and learnt from."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import command
import numpy as np
import phantom
import pytest
import torch

from phantomseg.errors import LabelError, PhantomSegError, RecipeError, TemplateError
from phantomseg.image.image import Image
from phantomseg.image.intensity import rescale, rescaled, windowed
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model
from phantomseg.report.card import write_card
from phantomseg.rng import Constant
from phantomseg.synth.generate import apply_draws, draw_sample, generate, read_draw
from phantomseg.synth.pose import Pose, look_up_scans
from phantomseg.synth.real import check_recipe
from phantomseg.synth.recipe import Recipe, load_recipe, parse_recipe, record
from phantomseg.synth.scans import MARGIN_VOXELS, load_scans, pack_scans
from phantomseg.synth.slab import SlabSettings
from phantomseg.synth.templates import Templates
from phantomseg.training.compact import read_tensors, write_tensors
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train
from phantomseg.training.state import CHECKPOINT, TrainState
from phantomseg.training.validate import held_out_dice, real_scan_dice

pytestmark = pytest.mark.usefixtures("one_thread")
MANUAL = label_set("manual")
LEFT, RIGHT = (MANUAL.names.index(f"{side} putamen") for side in ("left", "right"))
SHAPE = (20, 22, 18)


def brain(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """The phantom's labels of the set `freesurfer`; bone and skin are background."""
    head = phantom.head(shape)
    return np.where(head < 100, head, 0).astype(np.int16)


def placed(voxels: np.ndarray, affine: np.ndarray | None = None) -> Image:
    return Image(voxels, np.eye(4) if affine is None else affine)


def pair(shape: tuple[int, int, int] = SHAPE) -> tuple[Image, Image]:
    return placed(command.head_scan(shape)), placed(brain(shape))


def numbered(shape: tuple[int, int, int] = (6, 7, 8)) -> Templates:
    """Two scans, the second of voxels 1000 i + 100 j + 10 k and of random labels, to be worked out by hand."""
    i, j, k = np.indices(shape)
    images = np.stack([np.full(shape, -5.0), 1000 * i + 100 * j + 10.0 * k]).astype(np.float32)
    labels = np.random.default_rng(0).integers(0, len(MANUAL), images.shape).astype(np.uint8)
    count = int(np.prod(shape))
    return Templates(
        names=("a", "b"),
        labels=torch.from_numpy(labels.ravel()),
        offsets=torch.tensor([0, count]),
        shapes=torch.tensor([shape, shape]),
        brain_low=torch.ones(2, 3, dtype=torch.int64),
        brain_high=torch.tensor([shape, shape]) - 1,
        images=torch.from_numpy(images.ravel()),
        source="manual",
    )


def still(centre: tuple[float, ...], size: int = 4, **changes: object) -> Pose:
    """A pose that shows the second scan about a place, undistorted."""
    pose = Pose(1, (size, size, size), (0, 0, 0), (1, 1, 1), (0, 0, 0), centre, 0.0, 25.0, 0, False)
    return dataclasses.replace(pose, **changes)  # type: ignore[arg-type]


def calm(recipe: Recipe | None = None, crop: int = 16, **changes: object) -> Recipe:
    """The recipe with a small crop, not deformed, without gain and contrast curve."""
    recipe = recipe or load_recipe("supervised")
    assert recipe.pose is not None
    none = dict.fromkeys(("rotation_deg", "shear", "translation_mm", "warp_std_mm"), Constant(0.0))
    pose = replace(recipe.pose, crop_voxels=(crop, crop, crop), scaling=Constant(1.0), **none)
    return replace(recipe, bias=None, gamma=None, pose=replace(pose, **changes))  # type: ignore[arg-type]


def tiny() -> Model:
    torch.manual_seed(0)
    return Model(build_network("fast", {**command.TINY, "classes": len(MANUAL)}), MANUAL)


# looking up


def test_still_pose_shows_image_and_labels_as_they_are() -> None:
    scans = numbered()
    images, labels = look_up_scans([still((2.5, 3.5, 4.5))], scans)
    assert images.shape == (1, 1, 4, 4, 4) and images.dtype == torch.float32
    assert images[0, 0, 0, 0, 0] == 1000 * 1 + 100 * 2 + 10 * 3
    i, j, k = np.indices((4, 4, 4))
    np.testing.assert_allclose(images[0, 0].numpy(), 1000 * (i + 1) + 100 * (j + 2) + 10 * (k + 3), rtol=1e-6)
    np.testing.assert_array_equal(labels[0].numpy(), scans.volume(1)[1:5, 2:6, 3:7])


@pytest.mark.parametrize(
    ("shift", "more"),
    [((0.5, 0, 0), 500.0), ((0, 0.5, 0), 50.0), ((0, 0, 0.5), 5.0), ((0.25, 0.75, -0.5), 250 + 75 - 5.0)],
)
def test_between_voxels_intensities_are_linear(shift: tuple[float, ...], more: float) -> None:
    centre = np.array([2.5, 3.5, 4.5])
    plain, _ = look_up_scans([still(tuple(centre))], numbered())
    moved, _ = look_up_scans([still(tuple((centre + shift).tolist()))], numbered())
    torch.testing.assert_close(moved, plain + more, rtol=1e-5, atol=1e-2)


def test_labels_are_never_mixed() -> None:
    scans = numbered()
    _, labels = look_up_scans([still((2.8, 3.2, 4.5))], scans)  # nearest: 3 and 3, from 1.3 and 1.7 on
    np.testing.assert_array_equal(labels[0].numpy(), scans.volume(1)[1:5, 2:6, 3:7])


def test_poses_of_one_batch_see_their_own_scans() -> None:
    scans = numbered()
    images, labels = look_up_scans([still((2.5, 3.5, 4.5), template=0), still((2.5, 3.5, 4.5))], scans)
    assert (images[0] == -5).all() and images[1, 0, 1, 1, 1] == 2000 + 300 + 40
    np.testing.assert_array_equal(labels[0].numpy(), scans.volume(0)[1:5, 2:6, 3:7])


def test_beyond_a_scan_is_its_border() -> None:
    scans = pack_scans(["a"], [pair()], "freesurfer")
    far = still((300.0, -300.0, 5.0), template=0)
    images, labels = look_up_scans([far], scans)
    assert not images.any() and not labels.any()


def test_images_move_along_with_labels() -> None:
    moved = numbered().to(torch.device("meta"))
    assert moved.labels.is_meta and moved.images is not None and moved.images.is_meta


# samples


def test_sample_of_a_still_pose_is_the_scan() -> None:
    image, labels = pair()
    scans = pack_scans(["a"], [(image, labels)], "freesurfer")
    # the middle of the brain lies between two voxels, as that of the crop does after half a voxel more
    assert ((scans.brain_low[0] + scans.brain_high[0]) % 2 == 0).all()
    batch = generate(calm(flip_probability=0.0, translation_mm=Constant(0.5)), scans, 0, range(1))
    low = (scans.brain_low[0] + scans.brain_high[0]) // 2 - 7
    box = tuple(slice(a, a + 16) for a in low.tolist())
    np.testing.assert_array_equal(batch.target[0].numpy(), scans.volume(0)[box])
    assert scans.images is not None
    seen = scans.images.float().view(tuple(scans.shapes[0].tolist()))[box]
    torch.testing.assert_close(batch.image, rescale(rescale(seen[None, None])), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("swaps", [True, False])
def test_mirrored_samples_exchange_sides_unless_flips_are_naive(swaps: bool) -> None:
    scans = pack_scans(["a"], [pair()], "freesurfer")
    plain = generate(calm(flip_probability=0.0), scans, 0, range(1))
    recipe = calm(flip_probability=1.0, flip_swaps_sides=swaps)
    mirrored = generate(recipe, scans, 0, range(1))
    torch.testing.assert_close(mirrored.image, plain.image.flip(2), rtol=1e-4, atol=1e-4)
    table = torch.from_numpy(MANUAL.mirror) if swaps else torch.arange(len(MANUAL))
    assert torch.equal(mirrored.target, table[plain.target.long()].flip(1).to(torch.uint8))
    left, right = (np.argwhere(mirrored.target[0].numpy() == side)[:, 0].mean() for side in (LEFT, RIGHT))
    assert bool(left < right) is swaps


def test_synthetic_samples_may_leave_sides_too(templates: Templates) -> None:
    recipe = load_recipe("head")
    assert recipe.pose is not None
    pose = replace(recipe.pose, crop_voxels=(32, 32, 32), flip_probability=1.0)
    draws = [
        draw_sample(replace(recipe, pose=replace(pose, flip_swaps_sides=s)), templates, 0, 0) for s in (True, False)
    ]
    true, naive = (apply_draws([draw], templates).target[0].long() for draw in draws)
    assert torch.equal(torch.from_numpy(label_set("head").mirror)[true], naive) and not torch.equal(true, naive)


def test_gain_contrast_artefacts_and_resolution_change_the_image_alone() -> None:
    scans = pack_scans(["a", "b"], [pair(), pair()], "freesurfer")
    head = load_recipe("head")
    assert head.artefacts is not None
    plain = generate(calm(), scans, 4, range(2))
    supervised = load_recipe("supervised")
    for changes in (
        {"bias": supervised.bias},
        {"gamma": supervised.gamma},
        {"artefacts": replace(head.artefacts, inversion_probability=1.0)},
        {"resolution": head.resolution},
    ):
        changed = generate(replace(calm(), **changes), scans, 4, range(2))
        assert not torch.allclose(changed.image, plain.image, atol=0.02), changes
        assert torch.equal(changed.target, plain.target)
        assert changed.image.min() >= 0 and changed.image.max() <= 1


def test_draw_is_replayed_from_its_record_and_from_one_without_the_new_key() -> None:
    scans = pack_scans(["a"], [pair()], "freesurfer")
    recipe = replace(load_recipe("supervised"), pose=calm().pose)
    batch = generate(recipe, scans, 3, range(1))
    written = json.loads(json.dumps(batch.draws[0].record()))
    again = apply_draws([read_draw(written)], scans)
    assert torch.equal(again.image, batch.image) and torch.equal(again.target, batch.target)
    del written["pose"]["swaps_sides"]
    assert read_draw(written) == batch.draws[0]


def test_recipe_takes_true_or_false() -> None:
    recipe = calm(flip_swaps_sides=False)
    assert parse_recipe(json.loads(json.dumps(record(recipe)))) == recipe
    content = {"target": "manual", "tissues": {}, "pose": {"flip_swaps_sides": 1}}
    with pytest.raises(RecipeError, match="pose.flip_swaps_sides is 1, wanted true or false"):
        parse_recipe(content)


def test_steps_that_paint_are_refused() -> None:
    head = load_recipe("head")
    with pytest.raises(
        RecipeError,
        match=r"has shape, findings, strip, view, slab, fine_voxels_per_mm, pose.neck_probability, which .*; leave",
    ):
        check_recipe(head, "head")
    fine = replace(calm(), fine_voxels_per_mm=2)
    with pytest.raises(RecipeError, match="has fine_voxels_per_mm, which"):
        check_recipe(fine, "manual")
    with pytest.raises(RecipeError, match="has shapes, strip, view, which"):
        check_recipe(load_recipe("shapes"), "border")
    with pytest.raises(RecipeError, match="target 'manual', but label maps of the scans were read as 'freesurfer'"):
        check_recipe(calm(), "freesurfer")
    check_recipe(load_recipe("supervised"), "manual")


# reading


def write_pairs(folder: Path, images: list[str], labels: list[str], apart: bool = False) -> tuple[Path, Path]:
    """Scans and label maps by these names, in one folder or in two."""
    where = folder / "images", folder / ("labels" if apart else "images")
    for place, names, voxels in ((where[0], images, pair()[0].voxels), (where[1], labels, pair()[1].voxels)):
        place.mkdir(exist_ok=True)
        for name in names:
            phantom.save(place / f"{name}.nii.gz", voxels)
    return where


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["b", "a"], ["a", "b"]),
        (["a", "b"], ["a_dseg", "b_dseg"]),
        (["a_SS", "a2_SS"], ["a_glm", "a2_glm"]),
        (["sub-01_T1w", "sub-02_T1w"], ["sub-01_desc-manual_dseg", "sub-02_desc-manual_dseg"]),
        (["case_0000", "dog_0000"], ["case", "dog"]),
        (["a", "a_b"], ["a", "a_b"]),  # the name itself counts before longer ones
    ],
)
def test_pairs_of_two_folders(tmp_path: Path, images: list[str], labels: list[str]) -> None:
    where = write_pairs(tmp_path, images, labels, apart=True)
    scans = load_scans(*where)
    assert list(scans.names) == sorted(images) and scans.source == "manual"


def test_pairs_of_one_folder_by_patterns(tmp_path: Path) -> None:
    folder, _ = write_pairs(tmp_path, ["a_SS", "b_SS"], ["a_glm", "b_glm"])
    assert load_scans(folder / "*_SS.nii.gz", folder / "*_glm.nii.gz").names == ("a", "b")


@pytest.mark.parametrize(
    ("images", "labels", "patterns", "message"),
    [
        (
            ["a_T1w", "b_T1w"],
            ["a_dseg"],
            "*_T1w *_dseg",
            "scan .*b_T1w.nii.gz has no label map; add one named b_dseg, or",
        ),
        (["a_T1w"], ["a_dseg", "c_dseg"], "*_T1w *_dseg", "label map .*c_dseg.nii.gz has no scan; add it, or take the"),
        (["a_T1w"], ["a_x", "a_y"], "*_T1w a_*", "has no label map"),
        (
            ["img_a"],
            ["a_x", "a_y"],
            "img_* *",
            "scan .*img_a.nii.gz fits 2 label maps, a_x.nii.gz and a_y.nii.gz, wanted",
        ),
        (["a_1", "a_2"], ["lab_a"], "* lab_*", "label map .*lab_a.nii.gz fits two scans, a_1.nii.gz and a_2.nii.gz"),
        (["a"], ["a_dseg"], "* *", ".*a.nii.gz is given as scan and as label map; tell the two apart with patterns"),
        (["a"], ["a_dseg"], "*_x *_dseg", r"images holds no .nii, .nii.gz or .mgz file like \*_x.nii.gz; check"),
        (["a"], ["a_dseg"], "** *_dseg", r"pattern .*\*\*.nii.gz has 2 \*, wanted one, which stands for the name"),
    ],
)
def test_files_that_make_no_pairs(
    tmp_path: Path, images: list[str], labels: list[str], patterns: str, message: str
) -> None:
    folder, _ = write_pairs(tmp_path, images, labels)
    first, second = (folder / f"{pattern}.nii.gz" for pattern in patterns.split())
    refused(TemplateError, message, first, second)


def test_folders_that_are_none(tmp_path: Path) -> None:
    folder, _ = write_pairs(tmp_path, ["a"], [])
    refused(TemplateError, "nothing is no folder of scans or label maps; check the path", tmp_path / "nothing", folder)
    (tmp_path / "empty").mkdir()
    refused(TemplateError, r"empty holds no .nii, .nii.gz or .mgz file like \*; check", folder, tmp_path / "empty")
    with pytest.raises(TemplateError, match="there is no scan to learn from; give at least one"):
        pack_scans([], [], "freesurfer")


def refused(kind: type[PhantomSegError], message: str, images: Path, labels: Path, values: str = "freesurfer") -> None:
    """The one sentence that loading stops with."""
    with pytest.raises(kind) as raised:
        load_scans(images, labels, values)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value) and not str(raised.value).endswith(".")


def test_pairs_that_cannot_be_used(tmp_path: Path) -> None:
    phantom.save(tmp_path / "a.nii.gz", pair()[0].voxels)
    bad = tmp_path / "a_dseg.nii.gz"
    where = tmp_path / "a.nii.gz", bad
    named = "label map .*a_dseg.nii.gz: "
    phantom.save(bad, brain((20, 22, 20)))
    refused(
        TemplateError,
        named + r"it has shape \(20, 22, 20\) and the scan \(20, 22, 18\), or .* to one grid",
        *exactly(where),
    )
    phantom.save(bad, brain(), np.eye(4))
    refused(TemplateError, named + "it has shape .* or their affines differ; bring both to one grid", *exactly(where))
    phantom.save(bad, np.zeros(SHAPE, np.int16) + np.eye(20, 22, dtype=np.int16)[..., None] * 999)
    refused(LabelError, named + r"label map holds value 999 \(360 voxels\)", *exactly(where))
    phantom.save(bad, brain() * 0)
    refused(TemplateError, named + "it holds background alone; give a label map of the brain", *exactly(where))
    phantom.save(bad, brain() + 0.5)
    refused(TemplateError, "a_dseg.nii.gz holds values that are not whole numbers", *exactly(where))
    bad.write_bytes(b"junk")
    refused(TemplateError, "a_dseg.nii.gz", *exactly(where))


def exactly(where: tuple[Path, Path]) -> tuple[Path, Path]:
    """Patterns that each stand for one file."""
    return where[0].with_name("*a.nii.gz"), where[1].with_name("*a_dseg.nii.gz")


def test_values_of_tools_and_of_label_sets() -> None:
    def become(values: str, *ids: int, target: str = "manual") -> list[int]:
        labels = np.zeros((6, 6, 6), np.int16)
        labels[1, 1, 1 : 1 + len(ids)] = ids
        packed = pack_scans(["a"], [(placed(command.head_scan((6, 6, 6))), placed(labels))], values, target)
        assert packed.source == target
        found = label_set(target).ids[packed.volume(0)]
        return found[found > 0].tolist()

    # 3rd ventricle, left putamen's neighbours, vermal lobules, cortex of right and left
    assert become("neuromorphometrics", 4, 71, 100, 101) == [14, 630, 42, 3]
    assert become("aseg", 251, 1000, 31) == [602, 3, 4]  # corpus callosum, Desikan cortex, choroid plexus
    assert become("manual", 602, 630, 12) == become("evaluation", 602, 630, 12) == [602, 630, 12]
    assert become("freesurfer", 12, 51, target="freesurfer") == [12, 51]
    assert become("head", 12, 515, 51, target="head") == [12, 515, 51]
    assert become("head", 12, 51, target="tissue") == [9, 9]
    lumped = "label map of a: 2 voxels hold 'ventricles' .655 in the set 'evaluation'., which the set 'manual' has no"
    with pytest.raises(LabelError, match=lumped):
        become("siam", 4, 4)
    with pytest.raises(
        LabelError, match="1 voxels hold 'cerebellum cortex' .630 .* 'freesurfer' has no place for; choose"
    ):
        become("neuromorphometrics", 71, target="freesurfer")
    with pytest.raises(LabelError, match="there is no merge from 'nothing' to 'evaluation'"):
        become("nothing", 1)
    with pytest.raises(LabelError, match="there is no label set 'nothing'"):
        become("freesurfer", 1, target="nothing")


def test_scan_is_cropped_to_its_labels_and_scaled_there() -> None:
    labels = np.zeros((40, 40, 40), np.int16)
    labels[18:22, 18:20, 2:6] = 12
    voxels = np.random.default_rng(0).gamma(2.0, 100.0, labels.shape).astype(np.float32)
    scans = pack_scans(["a"], [(placed(voxels), placed(labels))], "freesurfer")
    assert MARGIN_VOXELS == 12
    # 4 + 2 · 12 and a border on either side; along the last axis 2 voxels alone lie below the labels
    assert scans.shapes[0].tolist() == [30, 28, 20]
    assert scans.brain_low[0].tolist() == [13, 13, 3] and scans.brain_high[0].tolist() == [17, 15, 7]
    assert scans.images is not None and scans.images.dtype == torch.float16 and scans.labels.dtype == torch.uint8
    images = scans.images.float().numpy().reshape(30, 28, 20)
    box = voxels[6:34, 6:32, 0:18]
    np.testing.assert_allclose(images[1:-1, 1:-1, 1:-1], rescaled(box), atol=5e-4)
    for axis in range(3):
        for end in (0, -1):
            assert not np.take(images, end, axis).any() and not np.take(scans.volume(0), end, axis).any()


def test_scan_is_turned_to_canonical_axes() -> None:
    image, labels = pair()
    plain = pack_scans(["a"], [(image, labels)], "freesurfer")
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])
    turned[0, 3] = SHAPE[0] - 1
    flipped = [placed(one.voxels[::-1], turned) for one in (image, labels)]
    for mixed in ((flipped[0], flipped[1]), (flipped[0], labels)):
        again = pack_scans(["a"], [mixed], "freesurfer")
        assert torch.equal(again.labels, plain.labels) and plain.images is not None and again.images is not None
        assert torch.equal(again.images, plain.images)


def test_scan_of_2_mm_is_brought_to_1_mm() -> None:
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    image, labels = pair()
    scans = pack_scans(["a"], [(placed(image.voxels, coarse), placed(labels.voxels, coarse))], "freesurfer")
    assert scans.spacing_mm == 1.0 and (scans.labels > 0).sum() == pytest.approx(8 * (labels.voxels > 0).sum(), rel=0.1)
    kept = pack_scans(
        ["a"], [(placed(image.voxels, coarse), placed(labels.voxels, coarse))], "freesurfer", spacing_mm=2
    )
    assert kept.spacing_mm == 2.0 and (kept.labels > 0).sum() == (labels.voxels > 0).sum()


def test_tomography_is_windowed_as_in_use() -> None:
    rng = np.random.default_rng(0)
    hounsfield = np.where(brain() > 0, rng.normal(35, 10, SHAPE), -1000.0).astype(np.float32)
    hounsfield[0, 0] = 2000
    scans = pack_scans(["a"], [(placed(hounsfield), placed(brain()))], "freesurfer")
    assert scans.images is not None
    inner = scans.images.float().numpy().reshape(scans.shapes[0].tolist())[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(inner, rescaled(windowed(hounsfield)), atol=5e-4)


# learning


@pytest.fixture(scope="module")
def scans() -> Templates:
    return pack_scans(["a", "b"], [pair(), pair((22, 24, 20))], "freesurfer")


def test_trained_model_loads_and_segments(tmp_path: Path, scans: Templates) -> None:
    recipe = calm(load_recipe("supervised"))
    config = TrainConfig(steps=2, validate_every=99)
    scores = (lambda network: held_out_dice(network, recipe, scans, 2),)
    train(recipe, scans, config, Run(tmp_path / "run", start=tiny(), scores=scores))
    model = load_model(tmp_path / "run" / "model")
    assert model.labels.name == "manual" and model.record["supervised"] is True
    assert model.record["templates"] == ["a", "b"] and model.record["recipe"]["pose"]["flip_swaps_sides"] is True
    assert set(model.record["scores"]) == {"dice_learnt_scans"}
    scan, reference = pair()
    for flip in (False, True):
        result = segment(scan, model, "manual", flip=flip)
        assert result.labels.name == "manual" and result.image.shape == scan.shape
        assert set(np.unique(result.image.voxels)) <= set(MANUAL.ids.tolist())
    with pytest.raises(LabelError, match="no merge from 'manual' to 'freesurfer'"):
        segment(scan, model)


def test_scans_are_scored_with_sides_merged(tmp_path: Path, scans: Templates) -> None:
    class Case:
        """A scan at hand."""

        def read(self) -> tuple[Image, Image]:
            scan, labels = pair()
            return scan, labels.with_voxels(np.where(labels.voxels > 0, 2, 0))  # white matter of the left alone

    network = tiny().network
    for value, least in ((41, 0.2), (0, 0.0)):  # that of the right everywhere; nothing
        with torch.no_grad():
            for layer in (network.classify, network.coarse):
                layer.weight.zero_()  # type: ignore[operator, union-attr]
                channel = int(MANUAL.index_of_ids(np.array([value]))[0])
                layer.bias.copy_(9.0 * torch.eye(len(MANUAL))[channel])  # type: ignore[operator, union-attr]
        dice = real_scan_dice(network, calm(), [Case()])["dice_scans"]  # type: ignore[list-item]
        assert dice > least if value else dice == 0


def test_synthetic_runs_say_nothing_of_scans(tmp_path: Path, templates: Templates) -> None:
    recipe = load_recipe("head")
    assert recipe.pose is not None
    recipe = replace(recipe, pose=replace(recipe.pose, crop_voxels=(16, 16, 16)))
    start = Model(build_network("fast", command.TINY), label_set("head"))
    model = train(recipe, templates, TrainConfig(steps=1, validate_every=99), Run(tmp_path, start=start))
    assert model.record["supervised"] is False and model.record["values"] == ""


def test_training_refuses_a_recipe_for_paint(tmp_path: Path, scans: Templates) -> None:
    for recipe, message in (
        (replace(calm(), slab=SlabSettings()), "recipe has slab, which samples are painted with"),
        (
            replace(calm(), target="freesurfer"),
            "target 'freesurfer', but label maps of the scans were read as 'manual'",
        ),
    ):
        with pytest.raises(RecipeError, match=message):
            train(recipe, scans, TrainConfig(steps=1), Run(tmp_path, start=tiny()))
    assert not list(tmp_path.iterdir())


def test_interrupted_run_resumes_where_it_stopped(tmp_path: Path, scans: Templates) -> None:
    def interrupt(state: TrainState, progress: float) -> None:
        if state.step == 2:
            signal.raise_signal(signal.SIGINT)

    recipe, config = replace(load_recipe("supervised"), pose=calm().pose), TrainConfig(steps=4, validate_every=99)
    whole = train(recipe, scans, config, Run(tmp_path / "whole", start=tiny()))
    train(recipe, scans, config, Run(tmp_path / "halves", start=tiny(), report=interrupt))
    halves = train(recipe, scans, config, Run(tmp_path / "halves", resume=True, start=tiny()))
    for one, other in zip(whole.network.parameters(), halves.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_run_resumes_where_the_recipe_has_a_key_since(tmp_path: Path, scans: Templates) -> None:
    train(calm(), scans, TrainConfig(steps=1, validate_every=99), Run(tmp_path, start=tiny()))
    tensors, told = read_tensors(tmp_path / CHECKPOINT)
    del told["settings"]["recipe"]["pose"]["flip_swaps_sides"]
    write_tensors(tmp_path / CHECKPOINT, tensors, {}, told)
    again = Run(tmp_path, resume=True, start=tiny())
    assert train(calm(), scans, TrainConfig(steps=1, validate_every=99), again).record["steps"] == 1
    with pytest.raises(PhantomSegError, match=r"made with other settings \(recipe"):
        train(calm(flip_swaps_sides=False), scans, TrainConfig(steps=1, validate_every=99), again)


@pytest.mark.parametrize(
    ("earlier", "sentence"),
    [
        ([], "Trained on 2 real scans with their label maps. For research"),
        (
            [{"templates": ["x"]}],
            "Trained on 2 real scans with their label maps, and on synthetic samples of label maps.",
        ),
        ([{"templates": ["c"], "supervised": True}], "Trained on 3 real scans with their label maps. For research"),
    ],
)
def test_card_tells_of_the_scans(tmp_path: Path, scans: Templates, earlier: list[dict], sentence: str) -> None:
    usual = {"steps": 1, "minutes": 1.0, "config": {"batch": 1, "learning_rate": 1}, "last_loss": 1, "scores": {}}
    made = {**usual, "templates": ["a", "b"], "supervised": True, "earlier": [{**usual, **run} for run in earlier]}
    write_card(tmp_path / "card.md", "x", replace(tiny(), record=made), None, [], [])
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert sentence in text and "no real scan" not in text and "| scans | 2: a, b … |" in text
