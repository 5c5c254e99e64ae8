"""From a scan to labels on its own grid, with a network whose answer is known: it reads the intensity."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from phantomseg.errors import ScanError
from phantomseg.image.grid import canonical
from phantomseg.image.image import Image
from phantomseg.inference.find import find
from phantomseg.inference.predict import field_seen, predict
from phantomseg.inference.prepare import prepare
from phantomseg.inference.restore import restore
from phantomseg.inference.segment import segment
from phantomseg.inference.topology import keep_largest
from phantomseg.inference.volumes import soft_volumes
from phantomseg.labels import label_set
from phantomseg.network.model import Block, Model
from phantomseg.network.norms import Norms

FREESURFER = label_set("freesurfer")
LEFT, RIGHT = FREESURFER.names.index("left putamen"), FREESURFER.names.index("right putamen")


class Reader(nn.Module):
    """Bright voxels are putamen: left where the index along the first axis is low, right where it is high."""

    multiple, bytes_a_voxel = 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        logits = torch.zeros(1, len(FREESURFER), *image.shape[2:])
        bright = image[:, 0] > 0.5
        right = torch.arange(image.shape[2])[None, :, None, None] >= image.shape[2] / 2
        logits[:, LEFT] = torch.where(bright & ~right, 40.0, 0.0)
        logits[:, RIGHT] = torch.where(bright & right, 40.0, 0.0)
        logits[:, 0] = torch.where(bright, 0.0, 20.0)
        return logits

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        return encoded[(..., *block)]


def most_probable(probabilities: torch.Tensor) -> np.ndarray:
    return probabilities.float().argmax(0).numpy()


MODEL = Model(Reader(), FREESURFER)


class ReaderOfSixteens(Reader):
    multiple = 16


SIXTEENS = Model(ReaderOfSixteens(), FREESURFER)


def scan(spacing: float = 1.0, size: int = 24) -> Image:
    """A dim cube with two bright blocks, 5 to 9 mm left and right of the middle; axes to R, A, S."""
    count = round(size / spacing)
    place = (np.arange(count) - (count - 1) / 2) * spacing
    x, y, z = np.meshgrid(place, place, place, indexing="ij")
    voxels = np.full((count,) * 3, 0.2, dtype=np.float32)
    bright = (np.abs(y) < 3) & (np.abs(z) < 4)
    voxels[bright & (x > -9) & (x < -5)] = 1.0
    voxels[bright & (x > 5) & (x < 9)] = 1.0
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = place[0]
    return Image(voxels, affine)


def turned(image: Image, order: tuple[int, ...], signs: tuple[int, ...]) -> Image:
    """The same head, stored along other axes."""
    orientation = np.array([[axis, sign] for axis, sign in zip(order, signs, strict=True)])
    voxels = nib.orientations.apply_orientation(image.voxels, orientation)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, image.shape)
    return Image(np.ascontiguousarray(voxels), affine)


ORIENTATIONS = [(o, s) for o in itertools.permutations(range(3)) for s in itertools.product((1, -1), repeat=3)]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_48_orientations_give_the_same_labels_in_the_world(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    given = turned(scan(), order, signs)
    found = segment(given, MODEL).image
    assert found.shape == given.shape and np.array_equal(found.affine, given.affine)
    wanted = np.where(scan().voxels > 0.5, np.where(np.arange(24)[:, None, None] < 12, 12, 51), 0)
    assert np.array_equal(canonical(found).voxels, wanted)


def test_left_is_at_negative_x() -> None:
    found = segment(scan(), MODEL).image
    for value, sign in ((12, -1), (51, 1)):
        index = np.argwhere(found.voxels == value).mean(0)
        assert np.sign((found.affine @ [*index, 1])[0]) == sign


@pytest.mark.parametrize("spacing", [0.5, 0.8, 1.5, 2.0])
def test_other_spacings_come_back_on_their_own_grid(spacing: float) -> None:
    given = scan(spacing)
    found = segment(given, MODEL).image
    assert found.shape == given.shape
    wanted = given.voxels > 0.5
    overlap = 2 * ((found.voxels > 0) & wanted).sum() / ((found.voxels > 0).sum() + wanted.sum())
    assert overlap > 0.85


def test_anisotropic_oblique_scan_keeps_its_affine() -> None:
    fine = scan(0.5, 24)
    thick = Image(fine.voxels[:, :, ::6].copy(), fine.affine @ np.diag([1, 1, 6, 1]))
    angle = np.radians(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = Image(thick.voxels, turn @ thick.affine)
    found = segment(oblique, MODEL).image
    assert np.array_equal(found.affine, oblique.affine) and set(np.unique(found.voxels)) == {0, 12, 51}


def test_volumes_are_in_mm3() -> None:
    volumes = segment(scan(), MODEL).volumes_mm3
    wanted = int((scan().voxels > 0.5).sum()) / 2
    assert volumes["left putamen"] == pytest.approx(wanted, rel=0.01)
    assert volumes["right putamen"] == pytest.approx(wanted, rel=0.01)
    assert "background" not in volumes and len(volumes) == 32


def test_finer_scan_has_the_same_volume() -> None:
    plain, fine = (segment(scan(spacing), MODEL).volumes_mm3["left putamen"] for spacing in (1.0, 0.5))
    assert fine == pytest.approx(plain, rel=0.1)


def test_flip_averaging_swaps_sides_back() -> None:
    image = torch.from_numpy(scan().voxels)[None, None]
    plain = most_probable(predict(MODEL, image, ["freesurfer"], flip=False).sets[0])
    averaged = most_probable(predict(MODEL, image, ["freesurfer"], flip=True).sets[0])
    # the reader calls whatever is at a low index left, so only correct swapping leaves its answer as it was
    assert np.array_equal(plain, averaged) and {LEFT, RIGHT} <= set(np.unique(plain))


def test_probabilities_of_a_merged_set_add_up() -> None:
    class Spread(Reader):
        def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
            return torch.randn(1, 51, *image.shape[2:], generator=torch.Generator().manual_seed(0))

    model = Model(Spread(), label_set("head"))
    image = torch.zeros(1, 1, 4, 4, 4)
    fine, merged = (p.float() for p in predict(model, image, ["head", "siam"], flip=False).sets)
    assert torch.allclose(merged.sum(0), torch.ones(4, 4, 4), atol=5e-3)
    names, siam = label_set("head").names, label_set("siam").names
    skull = sum(fine[names.index(name)] for name in ("cortical bone", "cancellous bone"))
    assert torch.allclose(merged[siam.index("skull")], skull, atol=2e-3)


def test_norms_are_taken_where_the_head_is() -> None:
    image = torch.zeros(1, 1, 64, 32, 48)
    image[..., 40:60, :, 20:30] = 1
    trained = Model(Reader(), label_set("head"), record={"recipe": {"pose": {"crop_voxels": [16, 40, 8]}}})
    # 8 voxels more than the crop, at most all; around 49.5 and 24.5, on multiples of 4, inside the image
    assert field_seen(image, trained) == (slice(36, 60), slice(0, 32), slice(16, 32))
    assert field_seen(torch.zeros_like(image), trained) == (slice(20, 44), slice(0, 32), slice(16, 32))
    assert field_seen(image, MODEL) is None


def test_largest_component_stays_and_small_ones_fall_to_the_next_label() -> None:
    probabilities = torch.zeros(33, 8, 8, 8)
    probabilities[0] = 0.1
    probabilities[LEFT, 1:4, 1:4, 1:4] = 0.8
    probabilities[LEFT, 6, 6, 6] = 0.8
    keep_largest(probabilities, FREESURFER)
    found = most_probable(probabilities)
    assert found[2, 2, 2] == LEFT and found[6, 6, 6] == 0 and (found == LEFT).sum() == 27
    assert probabilities[0, 6, 6, 6] == 1 and probabilities[LEFT, 6, 6, 6] == 0  # all that is left, to those left
    assert probabilities[:, 2, 2, 2].tolist() == probabilities[:, 1, 1, 1].tolist()


def test_group_members_hold_together() -> None:
    probabilities = torch.zeros(33, 8, 8, 8)
    matter, cortex = (
        FREESURFER.names.index("left cerebral white matter"),
        FREESURFER.names.index("left cerebral cortex"),
    )
    probabilities[matter, 1:4, 2, 2] = 0.9
    probabilities[cortex, 4, 2, 2] = 0.9  # touches the white matter, so it is no island
    keep_largest(probabilities, FREESURFER)
    assert probabilities[cortex, 4, 2, 2] == pytest.approx(0.9)


def test_prepared_grid_is_padded_and_between_0_and_1() -> None:
    prepared = prepare(scan(1.0, 21), SIXTEENS)
    assert all(n % 16 == 0 for n in prepared.image.shape[2:])
    assert prepared.image.min() == 0 and prepared.image.max() == 1


def test_dark_border_is_cut_before_the_network() -> None:
    image = scan()
    voxels = np.pad(image.voxels, 40)
    affine = image.affine.copy()
    affine[:3, 3] -= 40
    given = Image(voxels, affine)
    prepared = prepare(given, MODEL)
    assert max(prepared.image.shape) <= 24 + 8 + 4
    found = segment(given, MODEL).image
    assert found.shape == given.shape
    assert np.array_equal(found.voxels[40:-40, 40:-40, 40:-40] > 0, image.voxels > 0.5)


@pytest.mark.parametrize("values", [(-1024.0, 30.0, 1500.0), (-150.0, 30.0, 250.0)])
def test_ct_is_known_also_where_it_was_cut_before(values: tuple[float, ...]) -> None:
    air, soft, bone = values
    voxels = np.full((24, 24, 24), air, dtype=np.float32)
    voxels[4:20, 4:20, 4:20] = bone
    voxels[6:18, 6:18, 6:18] = soft
    prepared = prepare(Image(voxels, np.eye(4)), MODEL)
    assert prepared.ct and prepared.scan.voxels.min() == air
    assert float(prepared.image[0, 0, 23, 23, 23]) == pytest.approx(0.45, abs=1e-4)
    assert not prepare(scan(), MODEL).ct


def test_a_single_bright_voxel_is_prepared_with_room_for_the_network() -> None:
    voxels = np.zeros((20, 20, 20), dtype=np.float32)
    voxels[10, 10, 10] = 1.0
    assert min(prepare(Image(voxels, np.eye(4)), SIXTEENS).image.shape[2:]) == 32


def test_restore_interpolates_probabilities_not_labels() -> None:
    given = scan(0.5, 8)
    prepared = prepare(given, MODEL)
    probabilities = torch.zeros(33, *prepared.image.shape[2:], dtype=torch.float16)
    count = prepared.inside[0].stop - prepared.inside[0].start
    ramp = torch.zeros(prepared.image.shape[2]).half()
    ramp[prepared.inside[0]] = torch.linspace(0, 1, count).half()
    probabilities[LEFT] = ramp[:, None, None]
    probabilities[0] = 1 - probabilities[LEFT]
    found = restore(probabilities, prepared, FREESURFER).voxels
    profile = found[:, 8, 8] > 0
    # one step from background to putamen, in the middle, finer than the network's voxels
    assert np.diff(profile.astype(int)).tolist().count(1) == 1 and abs(profile.sum() - 8) <= 1


def test_intracranial_volume_is_that_of_brain_fluid_and_dura() -> None:
    class Head(Reader):
        """Bright voxels are brain or dura, others bone."""

        def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
            names = label_set("head").names
            logits = torch.zeros(1, len(names), *image.shape[2:])
            bright = image[:, 0] > 0.5
            logits[:, names.index("cortical bone")] = torch.where(bright, 0.0, 40.0)
            for name in ("dura", "left cerebral cortex"):
                logits[:, names.index(name)] = torch.where(bright, 40.0, 0.0)
            return logits

    found = segment(scan(), Model(Head(), label_set("head")), "tissue")
    assert found.intracranial_mm3 == pytest.approx(4 * 6 * 8, rel=1e-2)  # one of two blocks apart
    assert segment(scan(), MODEL).intracranial_mm3 is None


def test_soft_volumes_count_fractions() -> None:
    probabilities = torch.zeros(33, 2, 2, 2)
    probabilities[LEFT] = 0.25
    assert soft_volumes(probabilities, FREESURFER, 3.0)["left putamen"] == 6.0


def test_field_of_view_beyond_any_head_is_refused() -> None:
    with pytest.raises(ScanError, match="field of view is"):
        segment(Image(np.zeros((50, 4, 4), np.float32), np.diag([10.0, 1.0, 1.0, 1.0])), MODEL)


def test_volumes_leave_out_the_padding() -> None:
    class Everywhere(Reader):
        def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
            logits = torch.zeros(1, len(FREESURFER), *image.shape[2:])
            logits[:, LEFT] = 40.0
            return logits

    voxels = scan().voxels[:, :, 9:15].copy()
    voxels[0, 0, 0] = voxels[-1, -1, -1] = 1.0  # so that no border is cut
    slab = Image(voxels, scan().affine)  # 24 × 24 × 6 mm, padded by the network's multiple
    volumes = segment(slab, Model(Everywhere(), FREESURFER), flip=False).volumes_mm3
    assert volumes["left putamen"] == pytest.approx(24 * 24 * 6, rel=1e-3)


def test_hounsfield_units_are_seen_in_the_window_of_soft_tissue() -> None:
    plain = scan()
    tomography = plain.with_voxels(np.where(plain.voxels > 0.5, 1500.0, 50.0).astype(np.float32))
    tomography.voxels[:2] = -1024.0
    prepared = prepare(tomography, MODEL)
    image = prepared.image[0, 0][prepared.inside]
    assert image[12, 2, 2].item() == pytest.approx((50 + 150) / 400, abs=1e-4)  # halfway between -150 and 250
    same = prepare(plain.with_voxels(plain.voxels - 800.0), MODEL).image
    assert torch.allclose(same, prepare(plain, MODEL).image, atol=1e-3)


def test_scan_of_too_many_voxels_is_refused_before_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "phantomseg.inference.prepare.find", lambda image, times=1.0: replace(find(image, times), brain=None)
    )
    noise = np.random.default_rng(0).random((36, 36, 36), dtype=np.float32)
    with pytest.raises(ScanError, match="wanted at most 33 million in all; crop it"):
        prepare(Image(noise, np.diag([10.0, 10.0, 10.0, 1.0])), SIXTEENS)
