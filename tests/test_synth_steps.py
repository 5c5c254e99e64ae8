"""Each step of the generator against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from phantomseg.image.intensity import rescale
from phantomseg.image.separable import apply_along_axes, gaussian_matrix, interpolation_matrix
from phantomseg.labels import label_set
from phantomseg.rng import Constant, Uniform, sample_rng
from phantomseg.synth import pose as posing
from phantomseg.synth.bias import Bias, BiasSettings, apply_bias, draw_bias
from phantomseg.synth.channels import channel
from phantomseg.synth.gamma import GammaSettings, apply_gamma, draw_gamma
from phantomseg.synth.pose import Pose, PoseSettings, draw_pose, integrate, look_up
from phantomseg.synth.resolution import Resolution, ResolutionSettings, acquire, draw_resolution
from phantomseg.synth.source import target_channels
from phantomseg.synth.strip import Strip, StripSettings, apply_strip, draw_strip, mirror_channels
from phantomseg.synth.templates import Templates
from phantomseg.synth.tissues import SUBCLASSES, Tissues, TissueSettings, draw_tissues, paint


def still(templates: Templates, size: int, **changes: object) -> Pose:
    """A pose that shows template 0 about its middle, undistorted."""
    centre = ((templates.shapes[0] - 1) / 2).tolist()
    pose = Pose(0, (size, size, size), (0, 0, 0), (1, 1, 1), (0, 0, 0), tuple(centre), 0.0, 25.0, 0, False)
    return dataclasses.replace(pose, **changes)  # type: ignore[arg-type]


def test_interpolation_matrix_reads_a_ramp_exactly() -> None:
    nodes = torch.arange(5.0) * 2
    matrix = interpolation_matrix(torch.tensor([-1.0, 0.5, 3.0, 9.0]), nodes)
    assert torch.equal(matrix @ nodes, torch.tensor([0.0, 0.5, 3.0, 8.0]))


def test_gaussian_matrix_is_the_gaussian_filter() -> None:
    signal = np.zeros(41)
    signal[20] = 1.0
    wanted = ndimage.gaussian_filter1d(signal, 2.0, truncate=8)
    assert np.allclose(gaussian_matrix(41, 2.0).numpy() @ signal, wanted, atol=1e-5)


def test_apply_along_axes_is_a_product_an_axis() -> None:
    volume = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    matrices = [torch.randn(2, n, m, generator=torch.Generator().manual_seed(n)) for n, m in ((3, 4), (7, 5), (2, 6))]
    wanted = torch.einsum("bcijk,bxi,byj,bzk->bcxyz", volume, *matrices)
    assert torch.allclose(apply_along_axes(volume, matrices), wanted, atol=1e-4)


def test_still_pose_shows_the_template(templates: Templates) -> None:
    volume = templates.volume(0)
    size = 16
    low = [(n - size) // 2 for n in volume.shape]
    labels = look_up([still(templates, size, centre_voxel=tuple(c + (size - 1) / 2 for c in low))], templates)[0]
    assert np.array_equal(labels.numpy(), volume[tuple(slice(a, a + size) for a in low)])


def test_outside_the_template_is_background(templates: Templates) -> None:
    labels = look_up([still(templates, 16, centre_voxel=(500.0, 500.0, 500.0))], templates)
    assert labels.max() == 0


def test_neck_goes_on_as_the_lowest_slices_do(templates: Templates) -> None:
    down = still(templates, 16, centre_voxel=(*((templates.shapes[0][:2] - 1) / 2).tolist(), -30.0))
    assert look_up([down], templates).max() == 0
    neck = look_up([dataclasses.replace(down, neck=True)], templates)[0]
    middle = [(n - 16) // 2 for n in templates.volume(0).shape]
    lowest = templates.volume(0)[middle[0] : middle[0] + 16, middle[1] : middle[1] + 16, posing.NECK_SLICE]
    assert lowest.any() and all(np.array_equal(neck[:, :, k].numpy(), lowest) for k in range(16))


def test_neck_below_a_cut_brain_is_cord_and_fluid(templates: Templates) -> None:
    volume = templates.labels.clone().view(-1)
    count = int(templates.shapes[0].prod())
    volume[:count] = channel(16)
    cut = dataclasses.replace(templates, labels=volume)
    pose = still(templates, 8, centre_voxel=(20.0, 20.0, -30.0), neck=True)
    assert (look_up([pose], cut) == channel(512)).all()


def test_scaling_by_two_doubles_the_head(templates: Templates) -> None:
    once = look_up([still(templates, 64)], templates)
    twice = look_up([still(templates, 64, scaling=(2.0, 1.0, 1.0))], templates)
    putamen = channel(12)
    ratio = (twice == putamen).sum() / (once == putamen).sum()
    assert ratio == pytest.approx(2.0, rel=0.15)


def test_rotation_by_90_degrees_about_superior_moves_right_to_anterior(templates: Templates) -> None:
    putamen = look_up([still(templates, 48, rotation_deg=(0.0, 0.0, 90.0))], templates)[0] == channel(51)
    i, j, _ = np.argwhere(putamen.numpy()).mean(0) - 23.5
    # the right putamen lies 7 voxels to the right and 3 ahead; the crop shows it turned by a quarter
    assert (round(abs(i)), round(abs(j))) == (3, 7)


def test_flip_mirrors_about_the_middle(templates: Templates) -> None:
    plain = look_up([still(templates, 48)], templates)
    mirrored = look_up([still(templates, 48, flip=True)], templates)
    assert (plain.flip(1) == mirrored).float().mean() > 0.995


def test_constant_velocity_is_a_shift_in_mm() -> None:
    velocity = torch.zeros(1, 3, 9, 9, 9)
    velocity[:, 1] = 3.5
    displacement = integrate(velocity)
    assert torch.allclose(displacement[:, 1], torch.tensor(3.5), atol=1e-4)
    assert displacement[:, [0, 2]].abs().max() == 0


def test_integration_follows_the_flow_of_a_linear_velocity() -> None:
    # dx/dt = 0.1 x takes x to e^0.1 x
    positions = (torch.arange(21.0) - 10) * posing.FIELD_SPACING_MM
    velocity = torch.zeros(1, 3, 21, 21, 21)
    velocity[:, 0] = 0.1 * positions[:, None, None]
    displacement = integrate(velocity)[0, 0, 5:16, 10, 10]
    assert torch.allclose(displacement, (math.exp(0.1) - 1) * positions[5:16], atol=0.02)


def test_warp_of_std_4_moves_by_millimetres(templates: Templates) -> None:
    poses = [still(templates, 96, warp_std_mm=4.0, warp_seed=seed) for seed in range(8)]
    field, positions = posing._coarse_map(poses, (96, 96, 96), torch.device("cpu"))
    here = torch.stack(torch.meshgrid(*positions, indexing="ij")) + torch.tensor(poses[0].centre_voxel).view(3, 1, 1, 1)
    moved_mm = (field - here).norm(dim=1).mean().item()
    assert 2.5 < moved_mm < 6.0  # the paper's settings give 3.3 mm


def test_drawn_centre_stays_near_the_brain(templates: Templates) -> None:
    settings = PoseSettings(translation_mm=Uniform(-2, 2))
    for index in range(20):
        pose = draw_pose(settings, templates, sample_rng(0, index))
        middle = (templates.brain_low[pose.template] + templates.brain_high[pose.template]) / 2
        assert (torch.tensor(pose.centre_voxel) - middle).abs().max() <= 2


def test_crops_anywhere_reach_away_from_the_brain(templates: Templates) -> None:
    settings = PoseSettings(crop_voxels=(8, 8, 8), anywhere_probability=1.0)
    centres = np.array([draw_pose(settings, templates, sample_rng(0, index)).centre_voxel for index in range(50)])
    assert centres.std(0).min() > 5
    settings = replace(settings, translation_mm=Constant(0))
    assert len({draw_pose(settings, templates, sample_rng(0, i), brain_alone=True).centre_voxel for i in range(9)}) <= 2


def test_paint_is_mean_plus_std_times_noise() -> None:
    labels = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    labels[:, 10:] = 1
    mean, std = [100.0, 50.0], [5.0, 0.0]
    image = paint(labels, [Tissues(tuple(mean), tuple(std), 7)])
    assert image[0, 0, 10:].unique().tolist() == [50.0]
    assert image[0, 0, :10].mean().item() == pytest.approx(100, abs=0.5)
    assert image[0, 0, :10].std().item() == pytest.approx(5, abs=0.3)


def test_contrast_groups_look_alike_and_sides_differ_unless_shared() -> None:
    apart = draw_tissues(TissueSettings(), False, sample_rng(0, 0))
    assert apart.mean[channel(4)] == apart.mean[channel(5)]
    assert apart.mean[channel(17)] == apart.mean[channel(18)]
    assert apart.mean[channel(12)] != apart.mean[channel(51)]
    shared = draw_tissues(TissueSettings(shared_sides_probability=1.0), False, sample_rng(0, 0))
    assert shared.mean[channel(12)] == shared.mean[channel(51)]


def test_subclasses_spread_about_the_mean_of_their_tissue() -> None:
    settings = TissueSettings(subclass_probability=1.0, subclass_spread=Constant(10.0), shared_sides_probability=1.0)
    rng = sample_rng(0, 0)
    table = np.array(draw_tissues(settings, False, rng).mean).reshape(-1, SUBCLASSES)
    whole = np.array(draw_tissues(replace(settings, subclass_probability=0.0), False, sample_rng(0, 0)).mean)
    assert {len(np.unique(row)) for row in table} == {1, 2, 3, 4} and len(np.unique(table[0])) == 1
    assert 7 < (table - whole[:, None])[[len(np.unique(row)) == 4 for row in table]].std() < 13


def test_regions_are_drawn_outside_the_brain_alone() -> None:
    settings = TissueSettings(regions_probability=1.0)
    table = np.array(draw_tissues(settings, False, sample_rng(0, 0)).mean).reshape(-1, SUBCLASSES)
    assert len(np.unique(table[channel(507)])) == 4 and len(np.unique(table[channel(2)])) == 1


def test_subclasses_make_regions_of_one_value_each() -> None:
    labels = torch.full((1, 32, 32, 32), channel(2), dtype=torch.uint8)
    mean = np.arange(len(label_set("generation")) * SUBCLASSES, dtype=float)
    image = paint(labels, [Tissues(tuple(mean), tuple(0 * mean), 3, subclass_mm=8.0)])
    wanted = SUBCLASSES * channel(2) + np.arange(SUBCLASSES)
    assert image.unique().tolist() == wanted.tolist()
    assert (image.diff(dim=2) == 0).float().mean() > 0.7  # regions, not noise


def test_texture_is_smooth_and_keeps_the_spread() -> None:
    labels = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    rough, smooth = (
        paint(labels, [Tissues((100.0,), (10.0,), 5, texture=share, texture_mm=4.0)])[0, 0] for share in (0.0, 1.0)
    )
    assert smooth.std().item() == pytest.approx(10, rel=0.15) and rough.std().item() == pytest.approx(10, rel=0.05)
    assert smooth.diff(dim=0).std() < 0.5 * rough.diff(dim=0).std()


def test_bone_is_dark_as_often_as_the_recipe_says() -> None:
    settings = TissueSettings(mean=Constant(200.0), dark_bone_probability=0.5)
    means = [draw_tissues(settings, False, sample_rng(0, index)).mean for index in range(300)]
    dark = [mean[channel(515)] <= 40 for mean in means]
    assert 0.42 < np.mean(dark) < 0.58 and all(mean[channel(516)] == 200 for mean in means)


def test_fluid_is_dark_as_often_as_the_recipe_says() -> None:
    settings = TissueSettings(mean=Constant(200.0), dark_fluid_probability=0.5)
    means = [draw_tissues(settings, False, sample_rng(0, index)).mean for index in range(300)]
    dark = [mean[channel(24)] <= 60 and mean[channel(4)] <= 60 for mean in means]
    assert 0.42 < np.mean(dark) < 0.58 and all(mean[channel(2)] == 200 for mean in means)


def test_ct_has_dark_air_bright_bone_and_a_window() -> None:
    for index in range(20):
        drawn = draw_tissues(TissueSettings(ct_probability=1.0), False, sample_rng(1, index))
        mean = np.array(drawn.mean).reshape(-1, SUBCLASSES)
        air, fluid, white, bone = (mean[channel(v)].mean() for v in (0, 24, 2, 515))
        assert air < fluid < white < bone and air < 25 and drawn.most == 255
        assert np.array_equal(mean[channel(12)], mean[channel(51)])


def test_background_is_dark_as_often_as_the_recipe_says() -> None:
    settings = TissueSettings(background_zero_probability=0.3, background_dark_probability=0.3)
    means = [draw_tissues(settings, False, sample_rng(3, index)).mean[0] for index in range(400)]
    assert 0.24 < np.mean([m == 0 for m in means]) < 0.36
    assert 0.24 < np.mean([0 < m <= 15 for m in means]) < 0.40


def test_bias_of_spread_zero_changes_nothing_and_gain_is_smooth() -> None:
    image = torch.ones(2, 1, 32, 32, 32)
    result = apply_bias(image, [Bias(0.0, 50.0, 1), Bias(0.5, 50.0, 1)])
    assert torch.equal(result[0], image[0])
    steps = result[1].log().diff(dim=1).abs()
    assert result[1].min() > 0 and result[1].std() > 0.01 and steps.max() < 0.2
    assert draw_bias(BiasSettings(probability=0.0), sample_rng(0, 0)).log_std == 0


def test_gamma_is_a_power_for_each_sample() -> None:
    image = torch.full((2, 1, 2, 2, 2), 0.25)
    assert apply_gamma(image, [0.5, 2.0])[:, 0, 0, 0, 0].tolist() == [0.5, 0.0625]
    assert draw_gamma(GammaSettings(Constant(0.0)), sample_rng(0, 0)) == 1.0


def test_rescale_puts_percentiles_at_0_and_1() -> None:
    image = torch.linspace(-3, 5, 9 * 11 * 13).view(1, 1, 9, 11, 13)
    scaled = rescale(image)
    assert (scaled.min().item(), scaled.max().item()) == (0.0, 1.0)
    assert scaled.mean().item() == pytest.approx(0.5, abs=0.01)
    assert rescale(torch.full((1, 1, 2, 2, 2), 7.0)).max() == 0


def test_rescale_sees_all_planes() -> None:
    # every fifth voxel of this volume would lie in its first plane
    image = torch.arange(5.0).expand(1, 1, 256, 256, 5)
    assert rescale(image).unique().tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_fine_acquisition_changes_nothing() -> None:
    image = torch.rand(1, 1, 12, 14, 10, generator=torch.Generator().manual_seed(0))
    same = acquire(image, [Resolution((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.0, 0)])
    assert torch.allclose(same, image, atol=1e-6)


def test_thick_slices_blur_one_axis_alone() -> None:
    image = torch.zeros(1, 1, 33, 33, 33)
    image[..., 16, 16, 16] = 1.0
    result = acquire(image, [Resolution((1.0, 1.0, 4.0), (0.0, 0.0, 2.0), 0.0, 0)])[0, 0]
    assert result[16, 16].count_nonzero() > 5
    assert result[15].abs().max() == 0 and result[:, 15].abs().max() == 0


def test_samples_of_a_batch_have_their_own_resolution() -> None:
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1, 1)
    looks = [Resolution((1.0, 1.0, 1.0), (0.0,) * 3, 0.0, 0), Resolution((3.0, 1.0, 1.0), (1.0, 0.0, 0.0), 0.1, 5)]
    both = acquire(image, looks)
    for index, look in enumerate(looks):
        assert torch.allclose(both[index], acquire(image[:1], [look])[0], atol=1e-6)


def test_noise_is_drawn_before_upsampling() -> None:
    flat = torch.zeros(1, 1, 24, 24, 24)
    noisy = acquire(flat, [Resolution((6.0, 1.0, 1.0), (0.0,) * 3, 0.1, 3)])[0, 0]
    # neighbours along the thick axis share slices of 6 mm, neighbours across do not
    assert noisy.diff(dim=0).std() < 0.5 * noisy.diff(dim=1).std()


@pytest.mark.parametrize(("coils", "floor"), [(0, 0.0), (1, 1.2533), (2, 1.8800), (4, 2.7416)])
def test_noise_of_a_magnitude_image_has_its_floor(coils: int, floor: float) -> None:
    # means of the chi distribution with 2, 4 and 8 degrees of freedom: √(π/2) times 1, 3/2 and 35/16
    look = Resolution((1.0,) * 3, (0.0,) * 3, 0.1, 3, coils)
    noisy = acquire(torch.zeros(1, 1, 40, 40, 40), [look])
    assert noisy.mean().item() == pytest.approx(0.1 * floor, abs=0.003)


def test_g_factor_makes_noise_uneven_but_not_rough() -> None:
    looks = [Resolution((1.0,) * 3, (0.0,) * 3, 0.1, 3, 0, spread) for spread in (0.0, 1.0)]
    even, uneven = (acquire(torch.zeros(1, 1, 32, 32, 32), [look]) for look in looks)
    scale = (uneven / even)[0, 0]
    assert scale.std() > 0.05 and scale.log().diff(dim=0).abs().max() < 0.5


def test_drawn_resolution_keeps_to_the_recipe() -> None:
    settings = ResolutionSettings(fine_probability=0, isotropic_probability=0, slices_mm=Uniform(3, 9))
    for index in range(30):
        look = draw_resolution(settings, sample_rng(0, index))
        thick = [s for s in look.spacing_mm if s > 1]
        assert len(thick) == 1 and 3 <= thick[0] <= 9
        sigma = look.sigma_mm[look.spacing_mm.index(thick[0])]
        assert 0.733 * 0.95 <= sigma <= 0.733 * 1.05 * thick[0]


def test_strip_keeps_what_it_says() -> None:
    values = [12, 24, 515, 4]
    row = torch.tensor([channel(v) for v in values], dtype=torch.uint8).view(1, 4, 1, 1)
    kept = {
        keep: (apply_strip(row, [Strip(keep, margin)]) > 0).flatten().tolist()
        for keep, margin in (("head", 0.0), ("brain", 0.0), ("intracranial", 0.0))
    }
    assert kept["head"] == [True, True, True, True]
    assert kept["brain"] == [True, False, False, True] and kept["intracranial"] == [True, True, False, True]


def test_strip_with_a_margin_keeps_anything_near_the_brain() -> None:
    row = torch.tensor([channel(v) for v in (2, 24, 520, 515, 511)], dtype=torch.uint8).view(1, 5, 1, 1)
    assert (apply_strip(row, [Strip("brain", 2.5)]) > 0).flatten().tolist() == [True, True, True, False, False]
    fine = row.repeat_interleave(2, 1)  # half a millimetre a voxel
    assert (apply_strip(fine, [Strip("brain", 1.5)], per_mm=2) > 0).sum() == 2 + 3


def test_strips_are_drawn_as_often_as_the_recipe_says() -> None:
    settings = StripSettings(0.4, 0.25, 0.2, Uniform(1, 3))
    drawn = [draw_strip(settings, sample_rng(1, index)) for index in range(400)]
    counts = [sum(d == Strip(k, 0.0) for d in drawn) for k in ("brain", "intracranial", "head")]
    assert [round(c / 400, 1) for c in counts] == pytest.approx([0.4, 0.25, 0.15], abs=0.08)
    assert all(1 <= d.margin_mm <= 3 for d in drawn if d.margin_mm)


def test_flip_swaps_sides_of_labels() -> None:
    assert mirror_channels(True)[channel(12)] == channel(51)
    assert mirror_channels(True)[channel(16)] == channel(16)


def test_target_channels_follow_the_merge() -> None:
    head = label_set("head")
    assert head.ids[target_channels("head")[channel(85)]] == 530  # the chiasm counts as optic nerve
    freesurfer = label_set("freesurfer")
    assert freesurfer.ids[target_channels("freesurfer")[channel(515)]] == 0


def test_thin_margins_of_stripped_samples_are_kept_whole_and_edges_are_soft_by_chance() -> None:
    settings = StripSettings(0.0, 0.0, 1.0, Uniform(0, 5), masked_probability=1.0, soft_probability=0.5)
    draws = [draw_strip(settings, np.random.default_rng(n)) for n in range(60)]
    assert {draw.kept_whole for draw in draws if draw.margin_mm > 1.5} == {False}
    assert {draw.kept_whole for draw in draws if draw.margin_mm <= 1.5} == {True}
    assert {draw.soft for draw in draws} == {True, False}
    sharp = [draw_strip(replace(settings, masked_probability=0.0), np.random.default_rng(n)) for n in range(60)]
    assert not any(draw.soft for draw in sharp)
