"""Artefacts and fields of view against what they must do to simple volumes."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from phantomseg.rng import Constant, sample_rng
from phantomseg.synth.artefacts import Artefacts, ArtefactSettings, apply_artefacts, draw_artefacts
from phantomseg.synth.channels import channel
from phantomseg.synth.slab import Slab, SlabSettings, draw_slab, repeat_faces
from phantomseg.synth.view import View, ViewSettings, draw_view, hide_unseen, seen, wrap_around

NOTHING = Artefacts(0, 0.0, 0.0, 0.0, 4, 0.0, 0, 0.0, 4.0, False, 1.0, 5)
EVERYTHING_SEEN = View((0.0,) * 3, (0.0,) * 3, 0, 0.0, None, 0.0)


def ball(size: int = 32, radius: float = 9.0) -> torch.Tensor:
    place = torch.stack(torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij"))
    return (place.norm(dim=0) <= radius).float()[None, None]


def applied(image: torch.Tensor, **changes: object) -> torch.Tensor:
    return apply_artefacts(image, [replace(NOTHING, **changes)])  # type: ignore[arg-type]


def test_nothing_drawn_changes_nothing() -> None:
    image = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(apply_artefacts(image, [NOTHING, NOTHING]), image)


def test_inversion_and_saturation() -> None:
    image = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 4, 1, 1)
    assert applied(image, invert=True).flatten().tolist() == [1.0, 0.75, 0.5, 0.0]
    assert applied(image, saturation_level=0.5).flatten().tolist() == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ghosts_lie_along_the_phase_axis(axis: int) -> None:
    image = ball(size=48, radius=4.0)
    change = (applied(image, phase_axis=axis, ghost_strength=0.4, ghosts=4) - image)[0, 0].abs()
    inside = ball(size=48, radius=4.0)[0, 0] > 0
    along = inside.amax(axis, keepdim=True).expand_as(inside)
    assert change[along].max() > 0.02 and change[~along].max() < 1e-5
    # every fourth line is weak, so what changed repeats every quarter of the field
    profile = change.movedim(axis, 0)[:, 23:25, 23:25].mean((1, 2))
    assert profile.std() > 0.01 and torch.allclose(profile.roll(12), profile, atol=1e-5)


def test_motion_smears_but_leaves_the_head_where_it_is() -> None:
    image = ball()
    smeared = applied(image, phase_axis=1, motion_deg=2.0, motion_mm=3.0)
    assert 0.01 < (smeared - image).abs().mean() < 0.1
    place = torch.arange(32.0)
    for axis in (2, 3, 4):
        others = [a for a in range(5) if a != axis]
        middle = (smeared.sum(others) * place).sum() / smeared.sum()
        assert middle.item() == pytest.approx(15.5, abs=1.0)
    still = applied(image, phase_axis=1, motion_deg=0.0, motion_mm=1e-6)
    assert torch.allclose(still, image, atol=1e-4)


def test_spike_adds_one_frequency() -> None:
    stripes = applied(torch.full((1, 1, 16, 18, 20), 0.5), spike_strength=0.1) - 0.5
    assert stripes.abs().max().item() == pytest.approx(0.1, abs=0.01)
    power = torch.fft.fftn(stripes[0, 0]).abs().square()
    assert power.flatten().topk(54).values.sum() / power.sum() > 0.8  # of 5,760 samples


def test_slices_have_gains_of_their_own() -> None:
    gains = applied(torch.full((1, 1, 12, 10, 8), 0.5), slice_axis=2, slices_log_std=0.2, slices_mm=4.0)[0, 0]
    assert (gains == gains[:1, :1]).all()
    assert gains[0, 0].unique_consecutive().numel() == 2 and torch.equal(gains[0, 0, :4], gains[0, 0, :1].expand(4))


def test_artefacts_are_drawn_as_often_as_the_recipe_says() -> None:
    names = [f.name for f in fields(ArtefactSettings) if f.name.endswith("probability")]
    never = [draw_artefacts(ArtefactSettings(), sample_rng(0, i)) for i in range(20)]
    assert all(apply_artefacts(ball(8), [drawn]).equal(ball(8)) for drawn in never)
    always = ArtefactSettings(**dict.fromkeys(names, 1.0))
    drawn = draw_artefacts(always, sample_rng(0, 0))
    assert drawn.motion_mm and drawn.ghost_strength and drawn.spike_strength and drawn.slices_log_std
    assert drawn.invert and drawn.saturation_level < 1
    half = [draw_artefacts(replace(always, ghost_probability=0.5), sample_rng(0, i)) for i in range(300)]
    assert 0.42 < np.mean([bool(d.ghost_strength) for d in half]) < 0.58


def test_view_cuts_the_shares_it_drew() -> None:
    labels = torch.zeros(20, 10, 10, dtype=torch.uint8)
    cut = replace(EVERYTHING_SEEN, low=(0.1, 0.0, 0.0), high=(0.2, 0.0, 0.3))
    keep = seen(labels, cut)
    assert keep.sum() == 14 * 10 * 7 and keep[2:16, :, :7].all()
    assert seen(labels, EVERYTHING_SEEN).all() and EVERYTHING_SEEN.is_whole and not cut.is_whole


def test_what_is_not_seen_is_zero_in_image_and_target() -> None:
    cut = replace(EVERYTHING_SEEN, high=(0.5, 0.0, 0.0))
    image = torch.ones(2, 1, 4, 3, 2)
    target, labels = (torch.ones(2, 8, 6, 4, dtype=torch.uint8) for _ in range(2))  # twice as fine
    hide_unseen(image, target, labels, [cut, EVERYTHING_SEEN])
    assert image[0, 0, :2].all() and not image[0, 0, 2:].any() and image[1].all()
    assert target[0, :4].all() and not target[0, 4:].any() and target[1].all()


def test_defacing_cuts_in_front_of_and_below_the_brain() -> None:
    labels = torch.full((20, 40, 40), channel(507), dtype=torch.uint8)
    labels[5:15, 5:25, 15:35] = channel(2)
    keep = seen(labels, replace(EVERYTHING_SEEN, deface_margin_mm=5.0, deface_angle_deg=0.0))
    assert keep[:, :30].all() and not keep[:, 30:].any()  # the brain ends at 24; 5 mm on is kept
    tilted = seen(labels, replace(EVERYTHING_SEEN, deface_margin_mm=5.0, deface_angle_deg=45.0))
    assert tilted[labels == channel(2)].all() and not tilted[10, 39, 0] and tilted[10, 0, 39]
    no_brain = torch.zeros(4, 4, 4, dtype=torch.uint8)
    assert seen(no_brain, replace(EVERYTHING_SEEN, deface_margin_mm=1.0)).all()


def test_wrapped_slab_is_added_to_the_other_side_and_lost_on_its_own() -> None:
    image = torch.arange(10.0).view(1, 1, 10, 1, 1)
    view = draw_view(ViewSettings(wrap_probability=1.0, wrap_share=Constant(0.2)), sample_rng(0, 4))
    view = replace(view, wrap_axis=0, high=(0.2, 0.0, 0.0))
    assert wrap_around(image, [view]).flatten().tolist() == [8.0, 10.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert seen(torch.zeros(10, 1, 1, dtype=torch.uint8), view).flatten().tolist() == [True] * 8 + [False] * 2


def test_views_are_drawn_as_often_as_the_recipe_says() -> None:
    assert draw_view(ViewSettings(), sample_rng(0, 0)).high == (0.0, 0.0, 0.0)
    settings = ViewSettings(cut_probability=0.5, cut_share=Constant(0.3), deface_probability=0.25)
    drawn = [draw_view(settings, sample_rng(0, i)) for i in range(300)]
    assert 0.42 < np.mean([math.isclose(sum(d.low + d.high), 0.3) for d in drawn]) < 0.58
    assert 0.18 < np.mean([d.deface_margin_mm is not None for d in drawn]) < 0.32
    padded = draw_view(ViewSettings(padding_probability=1.0, padding_share=Constant(0.1)), sample_rng(0, 0))
    assert padded.low == padded.high == (0.1, 0.1, 0.1)


def test_planes_of_a_slab_go_on_beyond_its_faces() -> None:
    row = torch.arange(10.0).view(1, 10, 1, 1)
    assert repeat_faces(row.clone(), [Slab(0, 0.5, 4.0)]).flatten().tolist() == [3, 3, 3, 3, 4, 5, 6, 6, 6, 6]
    assert repeat_faces(row.clone(), [Slab(0, 0.1, 6.0)]).flatten().tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert torch.equal(repeat_faces(row.clone(), [Slab(0, 0.5, None)]), row)
    fine = row.expand(2, 10, 4, 4).clone()  # 5 mm of half a millimetre, of which the third and fourth are kept
    assert repeat_faces(fine, [Slab(0, 0.6, 2.0)] * 2, per_mm=2)[1, :, 0, 0].tolist() == [4, 4, 4, 4, 4, 5, 6, 7, 7, 7]
    long = repeat_faces(torch.arange(1.0, 41).view(1, 1, 1, 40), [Slab(2, 0.5, 2.0)]).flatten()
    assert long.tolist() == [0.0] * 3 + [20.0] * 17 + [21.0] * 17 + [0.0] * 3


@pytest.mark.parametrize(("middle", "mm"), [(0.0, 6.0), (0.999, 0.1), (0.5, 0.1), (0.5, 1000.0)])
def test_slab_lies_within_the_crop(middle: float, mm: float) -> None:
    first, end = Slab(0, middle, mm).planes(20)
    assert 0 <= first < end <= 20


def test_slabs_are_drawn_as_often_as_the_recipe_says() -> None:
    drawn = [draw_slab(SlabSettings(0.25, Constant(9.0)), sample_rng(0, i)) for i in range(300)]
    assert {d.mm for d in drawn} == {None, 9.0} and {d.axis for d in drawn} == {0, 1, 2}
    assert 0.18 < np.mean([d.mm is not None for d in drawn]) < 0.32
