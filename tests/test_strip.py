"""Brain extraction by a network that takes what is bright for brain: scale, geometry, borders, no brain, errors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import bright
import numpy as np
import pytest
import torch

from phantomseg.errors import MemoryLimitError, ScanError
from phantomseg.image.image import Image
from phantomseg.inference.look import content_of
from phantomseg.inference.species import AUTO, check_species, spacing_for, species_ml
from phantomseg.inference.strip import find_brain, strip
from phantomseg.memory import used_bytes
from phantomseg.network.losses import distance_dice
from phantomseg.network.model import Model, load_model

pytestmark = pytest.mark.usefixtures("one_thread")
RADIUS_MM = 24.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bright.model(tmp_path_factory.mktemp("bright") / "model"))


def ball_scan(spacing_mm: float = 2.0, radius_mm: float = RADIUS_MM) -> Image:
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    return Image(bright.ball(radius_mm, spacing_mm), affine)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_mask_is_the_ball_on_the_grid_of_the_scan(model: Model) -> None:
    scan = ball_scan()
    found = strip(scan, model)
    assert found.image.shape == scan.shape and np.array_equal(found.image.affine, scan.affine)
    assert found.image.voxels.dtype == np.uint8
    assert dice(found.image.voxels > 0, scan.voxels > 100) > 0.97
    assert found.brain_ml == pytest.approx(4 / 3 * math.pi * RADIUS_MM**3 / 1000, rel=0.05)
    assert [finding.level for finding in found.findings] == ["ok"]
    (structure,) = found.structures
    assert structure.name == "brain" and structure.volume_mm3 == structure.hard_mm3 == found.brain_ml * 1000


@pytest.mark.parametrize("spacing_mm", [0.1, 0.5, 2.0, 4.0])
def test_brains_of_any_size_are_brought_to_one_scale(model: Model, spacing_mm: float) -> None:
    scan = ball_scan(spacing_mm, RADIUS_MM * spacing_mm / 2)
    found = strip(scan, model)
    assert dice(found.image.voxels > 0, scan.voxels > 100) > 0.97
    assert found.spacing_mm == pytest.approx(spacing_for(found.brain_ml, 2.0), rel=0.05)


def test_unknown_words_for_fluid_are_named(model: Model) -> None:
    with pytest.raises(ScanError, match="fluid is 'some', wanted kept, sulci, none"):
        strip(ball_scan(), model, fluid="some")


def test_species_sets_the_scale_alone(model: Model) -> None:
    scan = ball_scan(1.0, 12.0)
    found = strip(scan, model, species="macaque")
    assert found.spacing_mm == pytest.approx(2.0 * (90 / 1300) ** (1 / 3))
    assert dice(found.image.voxels > 0, scan.voxels > 100) > 0.95


def test_distances_are_signed_in_mm_and_borders_move_the_mask(model: Model) -> None:
    scan = ball_scan()
    found = strip(scan, model)
    distance = found.distance_mm.voxels
    assert distance.dtype == np.float32 and distance.shape == scan.shape
    assert distance.max() == pytest.approx(found.reach_mm) and distance.min() < 0
    assert found.reach_mm == pytest.approx(bright.REACH * found.spacing_mm)
    assert np.array_equal(found.image.voxels > 0, distance < 0)
    sizes = [int(strip(scan, model, border_mm=mm).image.voxels.sum()) for mm in (-2.0, 0.0, 2.0)]
    assert sizes[0] < sizes[1] < sizes[2]
    for border_mm, told in ((90.0, "90"), (math.nan, "nan")):
        with pytest.raises(ScanError, match=f"border is {told} mm, wanted at most .* mm either way"):
            strip(scan, model, border_mm=border_mm)


@pytest.mark.parametrize("border_mm", [-3.0, 3.0])
def test_borders_open_no_hole_and_bring_back_no_piece(model: Model, border_mm: float) -> None:
    scan = ball_scan()
    voxels = scan.voxels.copy()
    voxels[18:21, 18:21, 18:21] = 40.0
    voxels[1:5, 1:5, 1:5] = 200.0
    found = strip(scan.with_voxels(voxels), model, border_mm=border_mm).image.voxels
    assert found[18:21, 18:21, 18:21].all() and not found[:8, :8, :8].any()


def test_holes_are_filled_and_other_pieces_left_out(model: Model) -> None:
    scan = ball_scan()
    voxels = scan.voxels.copy()
    middle = slice(17, 22)
    voxels[middle, middle, middle] = 40.0
    voxels[1:4, 1:4, 1:4] = 200.0
    found = strip(scan.with_voxels(voxels), model).image.voxels
    assert found[middle, middle, middle].all() and not found[1:4, 1:4, 1:4].any()


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_a_scan_without_a_brain_has_an_empty_mask_and_a_warning(model: Model, value: float) -> None:
    scan = Image(np.full((40, 40, 40), value, dtype=np.float32), np.eye(4))
    found = strip(scan, model)
    assert not found.image.voxels.any() and found.brain_ml == 0
    (finding,) = found.findings
    assert finding.level == "warning" and "no brain was found; the mask is empty" in finding.what
    assert not strip(scan, model, border_mm=500.0).image.voxels.any()


def test_what_is_far_too_long_for_its_volume_is_no_brain(model: Model) -> None:
    voxels = np.zeros((160, 160, 160), np.float32)
    voxels[5:155, 78:81, 78:81] = 100.0
    found = strip(Image(voxels, np.diag([1.5, 1.5, 1.5, 1])), model, most_bytes=used_bytes() + 4e9)
    assert not found.image.voxels.any() and found.findings[0].level == "warning"


def test_species_are_told_when_they_are_too_small_for_the_scan_or_its_brain(model: Model) -> None:
    with pytest.raises(ScanError, match=r"voxels of 0.14 mm, wanted at most 16 million; choose a larger --species"):
        strip(ball_scan(), model, species="mouse")
    (finding,) = strip(ball_scan(), model, species="human").findings  # 58 ml
    assert finding.level == "warning" and "usual in human: 800 to 1900 ml" in finding.what


def test_computed_tomography_is_seen_in_the_window_of_soft_tissue(model: Model) -> None:
    scan = ball_scan()
    units = np.where(scan.voxels > 100, 60.0, -1000.0).astype(np.float32)
    units[2:6, 2:6, 2:6] = 3000.0  # metal; without a window the ball were darker than half of it
    found = strip(scan.with_voxels(units), model).image.voxels
    assert dice(found > 0, scan.voxels > 100) > 0.95


def test_values_may_be_negative_or_whole_numbers(model: Model) -> None:
    scan = ball_scan()
    wanted = strip(scan, model).image.voxels
    assert np.array_equal(strip(scan.with_voxels(scan.voxels - 700), model).image.voxels, wanted)
    assert dice(strip(scan.with_voxels(scan.voxels.astype(np.int16)), model).image.voxels > 0, wanted > 0) > 0.99


def test_a_single_slice_keeps_its_contrast(model: Model) -> None:
    scan = ball_scan()
    voxels = scan.voxels[:, :, 19:20] + 10.0 * (scan.voxels[:, :, 19:20] == 0)  # air is not 0 there
    voxels = voxels * np.linspace(0.9, 1, len(voxels), dtype=np.float32)[:, None, None]  # few are the brightest
    look = find_brain(Image(voxels, scan.affine @ np.diag([1, 1, 4, 1])), model, AUTO, None)
    values = look.prepared.image[0, 0].numpy()
    assert (values == 1).mean() < 0.05 and np.unique(values[values < 1]).size > 20


def test_oblique_thick_scans_keep_their_grid(model: Model) -> None:
    scan = ball_scan()
    angle = math.radians(20)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ scan.affine[:3, :3] @ np.diag([1, 1, 3])
    thick = Image(scan.voxels[:, :, 1::3], affine)
    found = strip(thick, model)
    assert found.image.shape == thick.shape and np.array_equal(found.image.affine, affine)
    assert dice(found.image.voxels > 0, thick.voxels > 100) > 0.93


def test_too_little_memory_is_told(model: Model) -> None:
    with pytest.raises(MemoryLimitError, match=r"a look at .* voxels needs .* GB .*; raise --max-memory$"):
        strip(ball_scan(), model, most_bytes=1e6)


def test_content_is_what_is_not_dark() -> None:
    voxels = np.zeros((30, 30, 30), np.float32)
    voxels[10:20, 5:25, 12:16] = 50
    box = content_of(Image(voxels, np.diag([2.0, 2, 2, 1])))
    assert (box.high - box.low).tolist() == [20, 40, 8]


def test_sureness_by_hand(model: Model) -> None:
    look = find_brain(ball_scan(), model, AUTO, None)
    assert 0.7 < look.sureness <= 1
    piece = np.zeros((4, 4, 4), bool)
    piece[:2] = True
    wall = torch.where(torch.from_numpy(piece), 0.75, 0.25)  # 16 faces, 64 voxels of 3/16
    made = replace(look, probability=wall, piece=piece)
    assert made.sureness == pytest.approx(16 * 2 / 3 / 12)
    assert replace(made, probability=torch.from_numpy(piece).float()).sureness == 1
    assert replace(made, piece=~(piece | True)).sureness == 0


def test_species_table() -> None:
    assert list(species_ml())[0] == "human" and min(species_ml().values()) > 0
    assert spacing_for(species_ml()["mouse"], 2.0) == pytest.approx(0.14, abs=0.01)
    with pytest.raises(ScanError, match="species is 'unicorn', wanted auto, human, .*choose the nearest in size"):
        check_species("unicorn")


def test_loss_of_distances_by_hand() -> None:
    distance = torch.tensor([-4.0, 4.0]).view(1, 2, 1, 1)
    exact = torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
    assert distance_dice(exact, distance, 4.0).item() == pytest.approx(0, abs=1e-4)
    assert distance_dice(3 * exact, distance, 4.0).item() == pytest.approx(0, abs=1e-3)  # farther costs nothing
    p, q = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))
    crossed = 1 - (2 * 2 * p * q + 100) / (2 * (p * p + q * q) + 100)
    assert distance_dice(-exact, distance, 4.0).item() == pytest.approx(2 + crossed, abs=1e-5)


def test_loss_of_distances_without_an_inside_grows_with_what_is_found() -> None:
    distance = torch.full((1, 1, 1, 20000), 4.0)
    found = torch.ones(1, 1, 1, 1, 20000)
    assert distance_dice(found, distance, 4.0).item() == pytest.approx(0, abs=1e-3)
    found[..., :10000] = -9.0  # deep inside: half of the voxels are wrong by 10 reaches, and halve the Dice
    q = 1 / (1 + math.exp(4))  # where the reach ends
    dice = (2 * 1e4 * (q + q * q) + 1e4) / (1e4 + 1e4 * q * q + 2e4 * q * q + 1e4)
    assert distance_dice(found, distance, 4.0).item() == pytest.approx(5 + 1 - dice, rel=1e-4)


def test_loss_of_distances_on_coarse_voxels_takes_the_mean() -> None:
    fine = torch.tensor([-2.0, 2.0]).repeat_interleave(4).view(1, 2, 2, 2)
    assert distance_dice(torch.zeros(1, 1, 1, 1, 1), fine, 4.0).item() == pytest.approx(0, abs=1e-6)


def test_models_of_labels_strip_humans_alone(head: Model) -> None:
    with pytest.raises(ScanError, match="knows the human head alone; choose --model universal"):
        strip(ball_scan(), head, species="mouse")
    found = strip(ball_scan(), head)
    assert found.image.shape == ball_scan().shape and set(np.unique(found.image.voxels)) <= {0, 1}


@pytest.fixture
def head(tmp_path: Path) -> Model:
    import lively

    return load_model(lively.model(tmp_path / "lively"))
