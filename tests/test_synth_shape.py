"""Moved boundaries against spheres, whose answer is known, and against walls that must hold."""

from __future__ import annotations

import math

import cc3d
import numpy as np
import pytest
import torch

from phantomseg.image.distance import squared_distance, surface_distance
from phantomseg.rng import Constant, sample_rng
from phantomseg.synth.channels import channel, is_any
from phantomseg.synth.findings import Findings, FindingSettings, apply_findings, draw_findings
from phantomseg.synth.shape import BOUNDARIES, Move, Shape, ShapeSettings, apply_shape, draw_shape

CENTRE = np.array([31.3, 32.1, 30.7])  # off the voxel centres, as real surfaces are


def radius_map(size: int = 64) -> torch.Tensor:
    place = np.indices((size,) * 3).reshape(3, -1).T - CENTRE
    return torch.from_numpy(np.linalg.norm(place, axis=1).reshape((size,) * 3))


def shells(*layers: tuple[int, float], beyond: int = 24, per_mm: int = 1) -> torch.Tensor:
    """Concentric spheres of generation channels, (value, outer radius in mm) from the inside, then one value."""
    radius = radius_map(64) / per_mm
    labels = torch.full(radius.shape, channel(beyond), dtype=torch.uint8)
    for value, outer in reversed(layers):
        labels[radius <= outer] = channel(value)
    return labels


def radius_of(labels: torch.Tensor, values: tuple[int, ...], per_mm: int = 1) -> float:
    """Radius in mm of the ball that has the volume of these values."""
    return float((is_any(labels, values).sum() * 3 / (4 * math.pi)) ** (1 / 3)) / per_mm


def moved(labels: torch.Tensor, name: str, mm: float, variation: float = 0.0, per_mm: int = 1) -> torch.Tensor:
    return apply_shape(labels[None], [Shape((name,), (mm,), variation, 25.0, 3)], per_mm)[0]


def test_surface_distance_is_negative_within() -> None:
    ball = radius_map() <= 12
    distance = surface_distance(ball, squared_distance(ball, 5))
    wanted = radius_map() - 12
    near = (wanted > -1) & (wanted < 4)
    assert (distance - wanted)[near].abs().max() < 0.7 and (distance - wanted)[near].abs().mean() < 0.15
    assert (distance[wanted < -1] < 0).all()


@pytest.mark.parametrize("per_mm", [1, 2])
@pytest.mark.parametrize("thickness", [1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25])
def test_rebuilt_cortex_has_the_thickness_drawn(thickness: float, per_mm: int) -> None:
    labels = shells((2, 20.0 / per_mm), (3, 20.0 / per_mm + 3.0), per_mm=per_mm)
    rebuilt = moved(labels, "thickness", thickness, per_mm=per_mm)
    obtained = radius_of(rebuilt, (2, 3), per_mm) - radius_of(labels, (2,), per_mm)
    assert obtained == pytest.approx(thickness, abs=0.2)
    assert radius_of(rebuilt, (2,)) == radius_of(labels, (2,))


@pytest.mark.parametrize("per_mm", [1, 2])
@pytest.mark.parametrize("mm", [-1.0, -0.75, -0.5, 0.5, 0.75, 1.0])
def test_boundary_moves_by_what_was_drawn(mm: float, per_mm: int) -> None:
    labels = shells((2, 20.0 / per_mm), (3, 24.0 / per_mm), beyond=24, per_mm=per_mm)
    after = moved(labels, "pial", mm, per_mm=per_mm)
    change = radius_of(after, (2, 3), per_mm) - radius_of(labels, (2, 3), per_mm)
    assert change == pytest.approx(mm, abs=0.2)


def test_variation_moves_a_boundary_here_more_than_there() -> None:
    labels = shells((2, 20.0), (3, 24.0))
    even, uneven = (radius_map()[moved(labels, "white", 1.5, v) == channel(2)] for v in (0.0, 0.5))
    assert uneven.max() > even.max() + 0.3  # reaches farther in places


def test_rebuilt_cortex_is_one_closed_sheet() -> None:
    rebuilt = moved(shells((2, 20.0), (3, 23.0)), "thickness", 1.25, 0.5).numpy()
    assert cc3d.connected_components(rebuilt == channel(3), connectivity=6).max() == 1
    # nothing leaks from the white matter to the CSF, not even across edges
    open_space = np.isin(rebuilt, [channel(2), channel(24)])
    assert cc3d.connected_components(open_space, connectivity=18).max() == 2


@pytest.mark.parametrize(
    ("name", "mm", "layers", "wall"),
    [
        ("white", 2.0, ((2, 20.0), (3, 22.0)), 3),
        ("skull", -2.0, ((24, 20.0), (515, 22.0), (507, 28.0)), 515),
        ("skin", -2.0, ((507, 20.0), (511, 22.0), (0, 40.0)), 511),
        ("ventricles", 3.0, ((4, 18.0), (2, 20.0), (3, 24.0)), 2),
    ],
)
def test_thin_walls_survive(name: str, mm: float, layers: tuple[tuple[int, float], ...], wall: int) -> None:
    labels = shells(*layers, beyond=24)
    after = moved(labels, name, mm, 0.5).numpy()
    assert (after == channel(wall)).sum() < (labels == channel(wall)).sum()
    open_space = after != channel(wall)
    assert cc3d.connected_components(open_space, connectivity=18).max() == 2
    assert cc3d.connected_components(after == channel(wall), connectivity=26).max() == 1


def test_cortex_thinner_than_what_it_loses_is_lost() -> None:
    labels = shells((2, 20.0), (3, 22.0), beyond=24)
    assert (moved(labels, "pial", -1.0) == channel(3)).any()
    assert not (moved(labels, "pial", -3.0) == channel(3)).any()


def test_a_move_of_one_side_leaves_the_other() -> None:
    labels = torch.full((20, 12, 12), channel(24), dtype=torch.uint8)
    labels[:6], labels[14:] = channel(3), channel(42)
    after = apply_shape(labels[None], [Shape(("pial",), (1.8,), 0.0, 25.0, 1, ("right",))])[0, :, 6, 6].tolist()
    assert after == [channel(3)] * 6 + [channel(24)] * 6 + [channel(42)] * 8


def test_old_age_takes_cortex_and_widens_ventricles_together() -> None:
    settings = ShapeSettings(ageing=Move(1.0, Constant(0.5)), nuclei=Move(1.0, Constant(1.0)), one_side_probability=1.0)
    drawn = draw_shape(settings, np.random.default_rng(0))
    assert dict(zip(drawn.boundaries, drawn.distances_mm, strict=True)) == {
        "nuclei": 1.0, "pial": -0.5, "ventricles": 1.5, "third_ventricle": 0.75
    }  # fmt: skip
    assert drawn.sides[0] in ("left", "right") and drawn.sides[1:] == ("", "", "")


def test_grown_voxels_take_the_side_of_their_neighbour() -> None:
    labels = torch.full((20, 12, 12), channel(24), dtype=torch.uint8)
    labels[:6], labels[14:] = channel(3), channel(42)
    after = moved(labels, "pial", 1.8)[:, 6, 6].tolist()
    assert after == [channel(3)] * 8 + [channel(24)] * 4 + [channel(42)] * 8


@pytest.mark.parametrize("name", BOUNDARIES)
def test_every_boundary_moves_both_ways_and_nothing_else(name: str) -> None:
    first, second = BOUNDARIES[name]
    labels = shells((second[0], 10.0), (first[0], 16.0), (second[0], 22.0), beyond=16)
    for mm in (0.8, -0.8):
        after = moved(labels, name, mm)
        grown = is_any(after, first).sum() - is_any(labels, first).sum()
        assert grown * mm > 0
        assert torch.equal(after == channel(16), labels == channel(16))


def test_moves_are_drawn_as_often_as_the_recipe_says() -> None:
    settings = ShapeSettings(pial=Move(0.5, Constant(0.3)), skull=Move(1.0, Constant(-1.0)))
    drawn = [draw_shape(settings, sample_rng(0, index)) for index in range(200)]
    assert all(d.distances_mm[d.boundaries.index("skull")] == -1.0 for d in drawn)
    assert 0.4 < np.mean(["pial" in d.boundaries for d in drawn]) < 0.6
    assert all(set(d.boundaries) <= {"pial", "skull"} for d in drawn)


def white_block() -> torch.Tensor:
    labels = torch.full((1, 40, 40, 40), channel(2), dtype=torch.uint8)
    labels[:, 20:] = channel(41)
    labels[:, 18:22, 18:22, 18:22] = channel(25)
    return labels


def test_lesions_are_removed_and_pasted_in_the_drawn_amount() -> None:
    labels = white_block()
    without = apply_findings(labels, [Findings(True, 0.0, 5.0, False, 1)])
    assert not is_any(without, (25, 57)).any() and is_any(without, (2, 41)).all()
    pasted = apply_findings(labels, [Findings(True, 0.05, 5.0, False, 1)])
    assert is_any(pasted, (25, 57)).float().mean().item() == pytest.approx(0.05, abs=0.01)
    assert (pasted[:, :18] != channel(57)).all() and (pasted[:, 22:] != channel(25)).all()
    blobs = cc3d.connected_components(is_any(pasted, (25, 57))[0].numpy(), connectivity=26)
    assert np.bincount(blobs.ravel())[1:].mean() > 20  # blobs, not specks


def test_hidden_vessels_become_what_surrounds_them() -> None:
    labels = torch.full((1, 24, 16, 16), channel(24), dtype=torch.uint8)
    labels[:, 12:] = channel(507)
    labels[:, 4, 8, :], labels[:, 20, 8, :], labels[:, 2, 2, 2] = channel(502), channel(514), channel(30)
    hidden = apply_findings(labels, [Findings(False, 0.0, 5.0, True, 0)])[0]
    assert hidden[4, 8, 8] == channel(24) and hidden[20, 8, 8] == channel(507) and hidden[2, 2, 2] == channel(12)
    assert not is_any(hidden, (502, 514, 30)).any()


def test_findings_are_drawn_as_often_as_the_recipe_says() -> None:
    settings = FindingSettings(0.5, 0.25, vessels_hidden_probability=0.75)
    drawn = [draw_findings(settings, sample_rng(0, index)) for index in range(300)]
    shares = [
        np.mean([bool(getattr(d, key)) for d in drawn]) for key in ("remove_lesions", "lesion_load", "hide_vessels")
    ]
    assert shares == pytest.approx([0.5, 0.25, 0.75], abs=0.08)
