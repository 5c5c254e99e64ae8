from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from phantomseg.errors import GeometryError
from phantomseg.image import Image
from phantomseg.image.grid import canonical, content_box, crop, resample
from phantomseg.image.image import check_affine, spacing_mm

ORIENTATIONS = [
    (order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((1.0, -1.0), repeat=3)
]


def affine_of(spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def oriented(order: tuple[int, ...], flips: tuple[float, ...], tilt_deg: float = 0.0) -> np.ndarray:
    """Voxel axis n runs along world axis order[n], towards flips[n], tilted a little about S."""
    linear = np.zeros((3, 3))
    for axis, (world, sign, size) in enumerate(zip(order, flips, (1.0, 1.5, 2.0), strict=True)):
        linear[world, axis] = sign * size
    cos, sin = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ linear
    affine[:3, 3] = 7, -5, 3
    return affine


def world(affine: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    return affine[:3, :3] @ index + affine[:3, 3]


def world_box(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest world coordinates of the voxels' faces."""
    corners = np.array(list(itertools.product(*[(-0.5, n - 0.5) for n in shape])))
    placed = corners @ affine[:3, :3].T + affine[:3, 3]
    return placed.min(0), placed.max(0)


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """A value that is linear in the world: R + 2 A - 3 S + 10."""
    places = np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]
    return places @ np.array([1.0, 2.0, -3.0]) + 10


@pytest.mark.parametrize("tilt_deg", [0.0, 20.0])
@pytest.mark.parametrize("order, flips", ORIENTATIONS)
def test_canonical_keeps_every_value_where_it_is(order: tuple, flips: tuple, tilt_deg: float) -> None:
    image = Image(np.arange(24).reshape(2, 3, 4), oriented(order, flips, tilt_deg))
    placed = canonical(image)
    assert nib.aff2axcodes(placed.affine) == ("R", "A", "S")
    assert placed.voxels.flags["C_CONTIGUOUS"]
    back = np.linalg.inv(placed.affine)
    for index in np.ndindex(image.shape):
        there = back[:3, :3] @ world(image.affine, index) + back[:3, 3]
        np.testing.assert_allclose(there, np.round(there), atol=1e-9)
        assert placed.voxels[tuple(np.round(there).astype(int))] == image.voxels[index]


def test_canonical_by_hand() -> None:
    # first axis to the left, second to superior, third to anterior
    affine = np.array([[-1.0, 0, 0, 10], [0, 0, 2, 20], [0, 3, 0, 30], [0, 0, 0, 1]])
    placed = canonical(Image(np.arange(24).reshape(2, 3, 4), affine))
    assert placed.shape == (2, 4, 3)
    assert placed.spacing_mm.tolist() == [1, 2, 3]
    assert placed.affine[:3, 3].tolist() == [9, 20, 30]
    assert placed.voxels[0, 3, 2] == 12 + 2 * 4 + 3  # was voxel (1, 2, 3)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.7, 1.3, 5.0), (1.0, 1.0, 3.0), (0.5, 0.5, 0.4)])
def test_resample_covers_the_same_field_of_view(spacing: tuple) -> None:
    image = Image(np.full((11, 8, 9), 0.3, dtype=np.float32), affine_of(spacing, (-4, 5, 6)))
    placed = resample(image)
    np.testing.assert_allclose(placed.spacing_mm, 1)
    for before, after in zip(world_box(image.shape, image.affine), world_box(placed.shape, placed.affine), strict=True):
        assert (abs(before - after) <= 0.5).all()
    np.testing.assert_allclose(placed.voxels, 0.3, rtol=1e-6)


def test_resample_by_hand() -> None:
    image = Image(np.zeros((4, 4, 4), dtype=np.float32), affine_of((2, 2, 2), (1, 1, 1)))
    placed = resample(image)
    # faces lie at 0 and 8 mm before and after, so the first voxel of 1 mm is centred at 0.5 mm
    assert placed.shape == (8, 8, 8)
    assert placed.affine[:3, 3].tolist() == [0.5, 0.5, 0.5]


def test_resample_of_a_ramp_is_exact_inside() -> None:
    image = Image(ramp((7, 6, 5), oriented((0, 1, 2), (1, 1, 1))), oriented((0, 1, 2), (1, 1, 1)))
    fine = resample(image, 0.5)
    assert fine.shape == (14, 18, 20)
    inside = (slice(2, -2), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(fine.voxels[inside], ramp(fine.shape, fine.affine)[inside], atol=1e-4)


def test_resample_from_2_mm_to_1_mm() -> None:
    affine = affine_of((2, 2, 2))
    fine = resample(Image(ramp((6, 6, 6), affine), affine))
    inside = (slice(1, -1),) * 3
    np.testing.assert_allclose(fine.voxels[inside], ramp(fine.shape, fine.affine)[inside], atol=1e-4)


def test_resample_to_coarser_voxels_blurs_first() -> None:
    # new voxels lie between two dark ones; the waves of 4 voxels are damped by a Gaussian of 1 voxel, a quarter of 4
    waves = np.tile(np.array([1, 0, 0, 1], dtype=np.float32)[:, None, None], (6, 8, 8))
    coarse = resample(Image(waves, np.eye(4)), 4.0)
    assert coarse.shape == (6, 2, 2)
    damping = np.exp(-2 * (np.pi / 4) ** 2)
    np.testing.assert_allclose(coarse.voxels[1:-1], 0.5 - 0.5 * damping, atol=0.01)


def test_resample_to_nearest_keeps_the_values() -> None:
    values = np.array([0, 2, 41, 515])
    labels = values[np.random.default_rng(0).integers(0, 4, (5, 6, 7))].astype(np.int32)
    fine = resample(Image(labels, affine_of((2, 2, 2))), order=0)
    assert fine.voxels.dtype == np.int32
    assert (fine.voxels == labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)).all()


def test_resample_leaves_nearly_1_mm_alone() -> None:
    image = Image(np.zeros((3, 3, 3)), affine_of((1.04, 1, 0.96)))
    placed = resample(image)
    assert placed is image
    assert resample(Image(np.zeros((3, 3, 3)), affine_of((1.06, 1, 1)))).spacing_mm.tolist() == [1, 1, 1]


@pytest.mark.parametrize("low, high", [((1, 0, 2), (3, 2, 4)), ((-2, -1, 0), (3, 4, 5)), ((1, 1, 1), (6, 3, 9))])
def test_crop_keeps_world_positions_and_pads_with_zeros(low: tuple, high: tuple) -> None:
    image = Image(np.arange(1, 61).reshape(3, 4, 5), oriented((1, 2, 0), (1, -1, 1)))
    placed = crop(image, np.array(low), np.array(high))
    assert placed.shape == tuple(np.subtract(high, low))
    for new in np.ndindex(placed.shape):
        old = tuple(np.add(new, low))
        np.testing.assert_allclose(world(placed.affine, new), world(image.affine, old))
        inside = all(0 <= n < size for n, size in zip(old, image.shape, strict=True))
        assert placed.voxels[new] == (image.voxels[old] if inside else 0)


def test_content_box_of_nothing_is_everything() -> None:
    low, high = content_box(np.zeros((2, 3, 4), dtype=bool))
    assert low.tolist() == [0, 0, 0] and high.tolist() == [2, 3, 4]


def test_sizes_of_an_image() -> None:
    image = Image(np.zeros((2, 3, 4)), oriented((2, 0, 1), (1, -1, -1), 30))
    assert image.shape == (2, 3, 4)
    np.testing.assert_allclose(image.spacing_mm, [1, 1.5, 2])
    np.testing.assert_allclose(spacing_mm(image.affine), [1, 1.5, 2])
    assert image.voxel_volume_mm3 == pytest.approx(3)
    other = image.with_voxels(np.ones((2, 3, 4)))
    assert other.affine is image.affine and other.voxels.sum() == 24


def broken(row: int, column: int, value: float) -> np.ndarray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    "affine, message",
    [
        (broken(0, 3, np.nan), "not a finite 4 × 4"),
        (broken(1, 1, np.inf), "not a finite 4 × 4"),
        (np.eye(3), "not a finite 4 × 4"),
        (broken(2, 2, 0.0), r"voxel size is \(1.0, 1.0, 0.0\) mm, wanted more than 0"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.zeros((4, 4)), "voxel size"),
    ],
)
def test_affines_that_place_no_voxel(affine: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        check_affine(affine)
    with pytest.raises(GeometryError, match="repair the header"):
        Image(np.zeros((2, 2, 2)), affine)


def test_images_have_three_axes_and_one_grid() -> None:
    with pytest.raises(GeometryError, match=r"shape \(2, 2\), wanted three axes"):
        Image(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(GeometryError, match=r"voxels have shape \(2, 2, 3\), the grid has \(2, 2, 2\)"):
        Image(np.zeros((2, 2, 2)), np.eye(4)).with_voxels(np.zeros((2, 2, 3)))
