"""The search for the scale at which a network knows a brain, and the surface that its answer is cut at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bright
import lively
import numpy as np
import pytest
import torch

from phantomseg.errors import ScanError
from phantomseg.image.image import Image
from phantomseg.inference import strip as stripping
from phantomseg.inference.find import Box
from phantomseg.inference.look import FEWEST_VOXELS, Look, TooLargeError
from phantomseg.inference.restore import restored
from phantomseg.inference.segment import segment
from phantomseg.inference.species import AUTO, species_ml
from phantomseg.inference.strip import find_brain, strip
from phantomseg.network.model import Model, load_model

pytestmark = pytest.mark.usefixtures("one_thread")
HUMAN_ML = species_ml()["human"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bright.model(tmp_path_factory.mktemp("bright") / "model"))


@pytest.fixture(scope="module")
def scan() -> Image:
    return Image(bright.ball(24.0, 2.0), np.diag([-2.0, 2.0, 2.0, 1.0]))


def seen(spacing_mm: float, brain_ml: float, sureness: float = 1.0) -> Any:
    """What the search asks of a look."""
    box = Box(np.zeros(3), np.ones(3))
    return SimpleNamespace(
        found=brain_ml > 0, brain_ml=brain_ml, sureness=sureness, spacing_mm=spacing_mm, judged=True, box=box,
        diameter_mm=1.0, piece=np.ones((2, 2, 2), bool),
    )  # fmt: skip


def test_scales_are_tried_until_one_shows_a_brain(model: Model) -> None:
    tried: list[float] = []

    def look(spacing_mm: float, box: Box | None = None) -> Any:
        if box is None:
            tried.append(spacing_mm)
        return seen(spacing_mm, HUMAN_ML, 0.9 if len(tried) == 2 else 0.4)

    found = stripping._searched(look, 192.0, model.spacing_mm)
    assert tried == [1.5, 1.0] and found.sureness == 0.9


def test_the_surest_look_is_what_is_told_where_none_is_sure(model: Model) -> None:
    sure = iter([0.2, 0.2, 0.4, 0.4, 0.3, 0.3])
    found = stripping._searched(lambda spacing, box=None: seen(spacing, HUMAN_ML, next(sure)), 192.0, model.spacing_mm)
    assert found.sureness == 0.4


def test_looks_end_when_the_next_would_have_the_same_scale() -> None:
    made: list[float] = []

    def look(spacing_mm: float, box: Box) -> Any:
        made.append(spacing_mm)
        return seen(spacing_mm, HUMAN_ML)

    stripping._closer(look, seen(1.5, HUMAN_ML), 1.5)
    assert made == [1.5]  # one from near by, whatever the first one said

    def growing(spacing_mm: float, box: Box) -> Any:
        made.append(spacing_mm)
        return seen(spacing_mm, HUMAN_ML * 2 ** len(made))

    made.clear()
    stripping._closer(growing, seen(1.5, HUMAN_ML), 1.5)
    assert made == pytest.approx([1.5 * 2 ** (n / 3) for n in range(stripping.LOOKS)])


def test_a_brain_too_long_for_its_volume_is_let_go() -> None:
    def look(spacing_mm: float, box: Box) -> Any:
        raise TooLargeError("too large")

    first = Look(None, torch.ones(8, 8, 8), np.ones((8, 8, 8), bool), 1.0)  # type: ignore[arg-type]
    object.__setattr__(first, "prepared", SimpleNamespace(grid=SimpleNamespace(affine=np.eye(4)), voxel_volume_mm3=1.0))
    assert not stripping._closer(look, first, 1.5).found


def test_a_small_brain_in_a_large_scan_is_found_by_finer_voxels(model: Model) -> None:
    voxels = np.full((128, 24, 24), 40.0, np.float32)
    voxels[59:69, 8:16, 8:16] = bright.ball(8.75, 2.5, 24)[7:17, 8:16, 8:16] / 200 * 160 + 40
    small = Image(voxels, np.diag([2.5, 2.5, 2.5, 1]))
    first = stripping.look_at(small, small, model, 2.5, stripping.content_of(small), 8e9)
    assert not first.found and 50 < (first.probability > 0.5).sum() < FEWEST_VOXELS
    found = np.argwhere(strip(small, model).image.voxels)
    assert len(found) and found[:, 0].min() > 55


@pytest.mark.parametrize(("limit", "words"), [("NO_BRAIN", "no brain"), ("DOUBTFUL", "doubtful")])
def test_unsure_brains_are_none_or_doubtful(
    model: Model, scan: Image, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    sureness = strip(scan, model).sureness
    monkeypatch.setattr(stripping, limit, sureness + 0.001)
    found = strip(scan, model)
    (finding,) = found.findings
    assert finding.level == "warning" and words in finding.what
    assert found.image.voxels.any() == (limit == "DOUBTFUL")
    assert (np.ptp(found.distance_mm.voxels) == 0) == (limit == "NO_BRAIN")


def test_borders_end_before_distances_are_cut_off(model: Model, scan: Image) -> None:
    reach_mm = strip(scan, model).reach_mm
    for border_mm in (reach_mm, -reach_mm):
        with pytest.raises(ScanError, match="mm either way, as distances .* choose one nearer to 0"):
            strip(scan, model, border_mm=border_mm)
    assert 0 < strip(scan, model, border_mm=0.9 * reach_mm).image.voxels.mean() < 0.6


def test_volumes_told_are_those_of_the_brain_whatever_the_border(model: Model, scan: Image) -> None:
    (finding,) = strip(scan, model, border_mm=-3.0).findings
    assert finding.what.startswith(f"brain of {strip(scan, model).brain_ml:.4g} ml")


def test_what_touches_the_brain_at_a_corner_stays_outside(model: Model, scan: Image) -> None:
    look = find_brain(scan, model, AUTO, None)
    piece = np.zeros(look.piece.shape, bool)
    piece[8:20, 8:20, 8:20] = True
    probability = torch.from_numpy(piece).float() * 0.98 + 0.01
    probability[20:23, 20:23, 20:23] = 0.99
    made = replace(look, probability=probability, piece=piece, judged=False)
    distance = stripping._distance_voxels(made, True, 6)
    assert np.array_equal(distance.numpy() < 0, piece)


def test_surfaces_of_classes_lie_where_probabilities_say(model: Model, scan: Image) -> None:
    look = find_brain(scan, model, AUTO, None)
    probability = torch.zeros(look.piece.shape)
    probability[:10] = 1.0
    probability[10] = 0.3
    made = replace(look, probability=probability, piece=(probability > 0.5).numpy(), judged=False)
    distance = stripping._distance_voxels(made, False, 6)
    assert distance[7:13, 5, 5].tolist() == pytest.approx([-2.5, -1.5, -0.5, 0.2, 1.5, 2.5])


def test_restored_fields_are_those_of_all_voxels(model: Model, scan: Image) -> None:
    prepared = find_brain(scan, model, AUTO, None).prepared
    field = torch.full(prepared.grid.shape, 6.0)
    field[7:12, 9:20, 11:14] = torch.rand((5, 11, 3), generator=torch.Generator().manual_seed(0)) * 6
    everywhere, near = restored(field, prepared, 99.0), restored(field, prepared, 6.0)
    assert np.abs(near - np.where(everywhere == 99, 6, everywhere)).max() < 1e-5 and near.min() < 3


def test_what_a_model_of_labels_calls_brain_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Image(bright.ball(24.0, 1.0, 64), np.eye(4))
    head = load_model(lively.model(tmp_path / "lively"))
    real = segment(scan, head, "brain")
    assert real.prepared is not None
    probability = torch.zeros_like(real.probabilities["brain"])
    probability[1, 20:50, 20:50, 20:50] = 1.0
    probability[1, 34:37, 20:50, 35:50] = 0.0  # a sulcus of 3 mm
    probability[1, 13:16, 13:16, 13:16] = 1.0  # and a piece elsewhere
    prepared = replace(real.prepared, middle=(25.0, 25.0, 25.0))
    made = replace(real, probabilities={"brain": probability}, prepared=prepared)
    monkeypatch.setattr(stripping, "segment", lambda *_, **__: made)
    found = strip(scan, head)
    assert found.brain_ml == pytest.approx(27.0, rel=0.02) and found.findings[0].level == "ok"
    assert found.reach_mm == pytest.approx(8.0) and found.distance_mm.voxels.min() == pytest.approx(-8.0, abs=0.01)
