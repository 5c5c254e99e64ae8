from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import phantom
import pytest

from phantomseg.errors import GeometryError, LabelError, ScanError
from phantomseg.evaluation.dataset import Case, find_cases
from phantomseg.evaluation.evaluate import Row, evaluate, write_rows
from phantomseg.evaluation.laterality import laterality_error, merge_sides, swap_corrected
from phantomseg.evaluation.overlap import component_count, overlap, soft_dice
from phantomseg.evaluation.surface import SurfaceDistances, surface_distances
from phantomseg.image.image import Image
from phantomseg.labels import label_set

NAN, INF = math.nan, math.inf


def block(low: tuple[int, int, int], size: int, extent: int = 9) -> np.ndarray:
    mask = np.zeros((extent,) * 3, dtype=bool)
    mask[tuple(slice(a, a + size) for a in low)] = True
    return mask


def distances(one: np.ndarray, other: np.ndarray, *spacing_mm: float) -> SurfaceDistances:
    return surface_distances(one, other, np.array(spacing_mm or (1, 1, 1)))


def label_map(values: list[int], spacing: tuple[float, ...] = (1, 1, 1)) -> Image:
    """A row of voxels, and a second row and layer of background."""
    voxels = np.zeros((len(values), 2, 2), dtype=np.int32)
    voxels[:, 0, 0] = values
    return Image(voxels, np.diag([*spacing, 1.0]))


def scores(row: Row) -> tuple[float, float, float]:
    return row.dice, row.hd95_mm, row.nsd


# where four voxels of a face and one above them meet: a triangle of half a face, and two of (1, 1, 1) / 8 and
# (2, 2, 2) / 8 faces
CORNER_OF_FIVE = 1 / 2 + math.sqrt(3) / 8 + math.sqrt(3) / 4


def test_overlap_by_hand() -> None:
    predicted = np.array([[0, 1, 1, 2], [2, 2, 7, 0]])
    reference = np.array([[0, 1, 2, 2], [2, 0, 0, 1]])
    found = overlap(predicted, reference, np.array([1, 2, 5, 7]))
    assert found.predicted.tolist() == [2, 3, 0, 1]
    assert found.reference.tolist() == [2, 3, 0, 0]
    assert found.both.tolist() == [1, 2, 0, 0]
    np.testing.assert_allclose(found.dice, [1 / 2, 2 / 3, NAN, 0])
    np.testing.assert_allclose(found.jaccard, [1 / 3, 2 / 4, NAN, 0])
    np.testing.assert_allclose(found.volume_error, [0, 0, NAN, INF])
    np.testing.assert_allclose(found.volume_similarity, [1, 1, NAN, 0])
    uneven = overlap(np.array([1, 1, 1, 0]), np.array([1, 2, 0, 0]), np.array([1, 2]))
    np.testing.assert_allclose(uneven.volume_error, [2, -1])
    np.testing.assert_allclose(uneven.volume_similarity, [1 - 2 / 4, 0])


def test_soft_dice_by_hand() -> None:
    predicted = np.array([[[[0.5, 1.0]]], [[[0.25, 0.0]]], [[[0.0, 0.0]]], [[[0.1, 0.0]]]])
    reference = np.array([[[[0, 1]]], [[[1, 0]]], [[[0, 0]]], [[[0, 0]]]])
    np.testing.assert_allclose(soft_dice(predicted, reference), [2 / 2.5, 0.5 / 1.25, NAN, 0])
    hard = np.array([[[[0, 1, 1, 0]]]])
    assert soft_dice(hard, hard[..., ::-1]).tolist() == [1] and soft_dice(hard, 1 - hard).tolist() == [0]


def test_component_count_by_hand() -> None:
    two = block((0, 0, 0), 2) | block((4, 4, 4), 2)
    assert component_count(two) == 2
    assert component_count(two | block((2, 2, 2), 2)) == 1  # they touch by corners
    assert component_count(np.zeros((3, 3, 3), bool)) == 0
    assert component_count(np.array([[[True, False, True]]])) == 2


def test_swapped_sides_are_corrected_by_hand() -> None:
    labels = label_set("freesurfer")
    reference = np.array([12, 12, 51, 51, 16, 11])
    swapped = np.array([51, 51, 12, 0, 16, 0])
    assert swap_corrected(swapped, reference, labels).tolist() == [12, 12, 51, 0, 16, 0]
    mostly_right = np.array([12, 12, 12, 51, 16, 11])
    assert swap_corrected(mostly_right, reference, labels) is mostly_right
    assert swap_corrected(np.array([16, 0]), np.array([16, 16]), labels).tolist() == [16, 0]
    brain = np.array([1, 2])
    assert swap_corrected(brain, brain, label_set("brain")) is brain  # a set without sides


def test_two_single_voxels_2_mm_apart() -> None:
    # eight corners each: four of them at 2 mm from the other voxel, four at 1 mm
    found = distances(block((2, 2, 2), 1), block((4, 2, 2), 1))
    assert sorted(found.predicted_to_reference) == [1] * 4 + [2] * 4
    assert sorted(found.reference_to_predicted) == [1] * 4 + [2] * 4
    assert found.hd95_mm == 2
    assert [found.nsd(tolerance) for tolerance in (0.5, 1, 2)] == [0, 0.5, 1]
    # neighbours with voxels of 2 mm share a face: four corners at 0 mm, four at 2 mm
    found = distances(block((2, 2, 2), 1), block((3, 2, 2), 1), 2, 1, 1)
    assert sorted(found.predicted_to_reference) == [0] * 4 + [2] * 4
    assert found.hd95_mm == 2 and found.nsd(1) == 0.5


@pytest.mark.parametrize(
    "shift, spacing, outer, inner",
    [
        ((1, 0, 0), (1, 1, 1), 1, 1),
        ((1, 0, 0), (2, 1, 1), 2, 1),
        ((0, 1, 0), (2, 1, 1), 1, 1),
        ((0, 0, 1), (2, 1, 3), 3, 1),
        ((0, 1, 0), (2, 3, 2), 3, 2),
    ],
)
def test_a_cube_shifted_by_one_voxel(shift: tuple, spacing: tuple, outer: float, inner: float) -> None:
    # of 4³ corners 56 are on the surface: the face left behind is one step away (16), the middle of the face
    # that is now inside is one step from the nearest face (4), all others are shared (36)
    nsd = nsd_of_shifted_cube(shift.index(1), spacing, outer <= 1, inner <= 1)
    cube, moved = block((2, 2, 2), 3), block(tuple(np.add((2, 2, 2), shift)), 3)
    for found in (distances(cube, moved, *spacing), distances(moved, cube, *spacing)):
        expected = sorted([0] * 36 + [inner] * 4 + [outer] * 16)
        assert sorted(found.predicted_to_reference) == expected
        assert sorted(found.reference_to_predicted) == expected
        assert found.hd95_mm == outer
        assert found.nsd(1) == pytest.approx(nsd)


def nsd_of_shifted_cube(axis: int, spacing: tuple, outer: bool, inner: bool) -> float:
    """Share of the area within 1 mm, by hand: 8 corners, 24 elements on edges, 24 in the middle of faces.

    A voxel of spacings x, y, z has a corner area of √((yz)² + (xz)² + (xy)²) / 8; on an edge along x two rectangles of
    x · √(y² + z²) / 4 each; in a face across x the whole y · z.
    """
    x, y, z = spacing
    corner = math.hypot(y * z, x * z, x * y) / 8
    edge = [spacing[a] * math.hypot(*(spacing[b] for b in range(3) if b != a)) / 2 for a in range(3)]
    face = [x * y * z / spacing[a] for a in range(3)]
    total = 8 * corner + 8 * sum(edge) + 8 * sum(face)
    left_behind = 4 * corner + 4 * sum(edge[a] for a in range(3) if a != axis) + 4 * face[axis]
    return (total - left_behind * (not outer) - 4 * face[axis] * (not inner)) / total


def test_hd95_ignores_a_small_bump() -> None:
    # a cube of 4³ has 5³ - 3³ = 98 corners on its surface, the bump adds four of them
    cube = block((1, 1, 1), 4)
    bump = cube.copy()
    bump[5, 2, 2] = True
    found = distances(bump, cube)
    assert sorted(found.predicted_to_reference) == [0] * 98 + [1] * 4
    assert found.reference_to_predicted.tolist() == [0] * 98
    assert found.hd95_mm == 0
    # cube: 8 corners of √3/8, 36 elements on edges of √2/2, 54 in faces of 1; the bump has 4 new corners, and the 4
    # elements at its foot, which had 1 each, touch five voxels now
    cube_area = math.sqrt(3) + 18 * math.sqrt(2) + 54
    top = 4 * math.sqrt(3) / 8
    foot = 4 * (CORNER_OF_FIVE - 1)
    assert found.nsd(1) == 1
    assert found.nsd(0.5) == pytest.approx((2 * cube_area + foot) / (2 * cube_area + foot + top))
    assert found.mean_mm == pytest.approx(top / (2 * cube_area + foot + top))
    assert found.means_mm == (pytest.approx(top / (cube_area + foot + top)), 0)


def test_identical_masks_at_the_border_of_the_volume() -> None:
    full = np.ones((3, 3, 3), dtype=bool)
    found = distances(full, full, 0.7, 1, 4)
    assert found.predicted_to_reference.size == 4**3 - 2**3
    assert found.hd95_mm == 0 and found.nsd(0) == 1


def test_empty_masks() -> None:
    nothing, cube = np.zeros((9, 9, 9), dtype=bool), block((2, 2, 2), 3)
    assert math.isnan(distances(nothing, nothing).hd95_mm) and math.isnan(distances(nothing, nothing).nsd(1))
    for found in (distances(nothing, cube), distances(cube, nothing)):
        assert found.hd95_mm == INF and found.nsd(1) == 0


def test_laterality_by_hand() -> None:
    labels = label_set("freesurfer")
    # putamen: two right, one swapped; caudate: missed; brain-stem and background have no side
    predicted = np.array([12, 51, 12, 0, 16, 2, 12])
    reference = np.array([12, 51, 51, 11, 16, 0, 11])
    assert laterality_error(predicted, reference, labels) == pytest.approx(1 / 3)
    assert laterality_error(reference, reference, labels) == 0
    assert laterality_error(labels.ids[labels.mirror][labels.index_of_ids(reference)], reference, labels) == 1
    assert math.isnan(laterality_error(np.array([0, 16]), np.array([16, 16]), labels))
    assert math.isnan(laterality_error(np.array([1, 2]), np.array([1, 2]), label_set("brain")))


def test_merge_sides_by_hand() -> None:
    groups = merge_sides(label_set("freesurfer"))
    assert groups["cerebral cortex"] == (3, 42) and groups["brain-stem"] == (16,)
    assert len(groups) == 18 and "background" not in groups
    assert sorted(i for ids in groups.values() for i in ids) == label_set("freesurfer").ids.tolist()[1:]


def test_evaluate_by_hand() -> None:
    #                       ventricle of the left: one of two found; putamen: wrong side; caudate: missed
    predicted = label_map([4, 0, 0, 51, 16, 0, 24], (1, 2, 3))
    reference = label_map([4, 4, 0, 12, 16, 11, 0], (1, 2, 3))
    found = evaluate(predicted, reference)
    rows = {row.structure: row for row in found.rows}
    assert [row.structure for row in found.rows] == list(label_set("freesurfer").names[1:])
    ventricle = rows["left lateral ventricle"]
    assert ventricle.dice == pytest.approx(2 / 3)
    assert (ventricle.predicted_mm3, ventricle.reference_mm3) == (6, 12)
    assert (ventricle.jaccard, ventricle.volume_error) == (0.5, -0.5)
    assert ventricle.volume_similarity == pytest.approx(1 - 1 / 3)
    assert (ventricle.predicted_components, ventricle.reference_components) == (1, 1)
    # four corners lie on the common face, the four at the end of the reference 1 mm away
    assert ventricle.hd95_mm == 1 and ventricle.nsd == 1
    assert scores(rows["brain-stem"]) == (1, 0, 1)
    for one_empty in ("left putamen", "right putamen", "left caudate", "cerebrospinal fluid"):
        assert scores(rows[one_empty]) == (0, INF, 0)
    assert all(math.isnan(value) for value in scores(rows["left thalamus"]))
    assert found.mean_dice() == pytest.approx((2 / 3 + 1 + 4 * 0) / 6)
    assert found.mean_dice(["brain-stem", "left caudate", "left thalamus"]) == 0.5
    assert found.mean_dice(name for name in ("brain-stem", "left caudate")) == 0.5
    assert math.isnan(found.mean_dice(["left thalamus"]))
    assert found.laterality_error == 0.5  # the putamen, of putamen and the one voxel of ventricle


def test_evaluate_with_sides_merged() -> None:
    found = evaluate(label_map([12, 51, 11, 0]), label_map([51, 12, 50, 50]), merged=True)
    rows = {row.structure: row for row in found.rows}
    assert len(rows) == 18
    assert scores(rows["putamen"]) == (1, 0, 1)
    assert rows["caudate"].dice == pytest.approx(2 / 3)
    assert (rows["caudate"].predicted_mm3, rows["caudate"].reference_mm3) == (1, 2)
    assert found.laterality_error == 1


def test_evaluate_other_sets() -> None:
    found = evaluate(label_map([1, 1, 2, 0]), label_map([1, 2, 2, 0]), "brain")
    assert [(row.structure, round(row.dice, 3)) for row in found.rows] == [
        ("brain", 0.667),
        ("cerebrospinal fluid around the brain", 0.667),
    ]
    assert math.isnan(found.laterality_error)


def test_evaluate_rejects_what_cannot_be_compared() -> None:
    one = label_map([2, 2, 0])
    with pytest.raises(GeometryError, match=r"prediction has shape \(3, 2, 2\), reference \(4, 2, 2\)"):
        evaluate(one, label_map([2, 2, 0, 0]))
    with pytest.raises(GeometryError, match="affines differ; bring both to one grid"):
        evaluate(one, label_map([2, 2, 0], (1, 1, 1.01)))
    assert evaluate(one, label_map([2, 2, 0], (1, 1, 1.0001))).mean_dice() == 1
    with pytest.raises(LabelError, match="prediction holds value 1, which the set 'freesurfer' does not"):
        evaluate(label_map([1, 0, 0]), one)
    with pytest.raises(LabelError, match="reference holds value 515.*--labels"):
        evaluate(one, label_map([515, 0, 0]))
    with pytest.raises(LabelError, match="no label set 'nothing'"):
        evaluate(one, one, "nothing")


def test_rows_as_csv(tmp_path: Path) -> None:
    rows = [
        Row("left putamen", 0.5, 1 / 4, 1.25, 0.5, 0.75, -0.25, 0.875, 9.0, 12.0, 2, 1),
        Row("nose", *[NAN] * 7, 0.0, 0.0, 0, 0),
        Row("ear", 0.0, 0.0, INF, INF, 0.0, INF, 0.0, 3.0, 0.0, 1, 0),
    ]
    write_rows(tmp_path / "new" / "rows.csv", rows)
    text = (tmp_path / "new" / "rows.csv").read_text(encoding="utf-8")
    assert text.splitlines() == [
        "structure,dice,jaccard,hd95_mm,mean_surface_mm,nsd,volume_error,volume_similarity,"
        "predicted_mm3,reference_mm3,predicted_components,reference_components",
        "left putamen,0.5,0.25,1.25,0.5,0.75,-0.25,0.875,9.0,12.0,2,1",
        "nose,,,,,,,,0.0,0.0,0,0",
        "ear,0.0,0.0,inf,inf,0.0,inf,0.0,3.0,0.0,1,0",
    ]
    assert len(list(csv.DictReader(text.splitlines()))) == 3


def labelled(folder: Path, image: str, reference: str, values: list[int]) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    labels = label_map(values).voxels.astype(np.int16)
    phantom.save(folder / image, labels + 1.5)
    phantom.save(folder / reference, labels)


def test_cases_by_name(tmp_path: Path) -> None:
    labelled(tmp_path, "b.nii.gz", "b_dseg.nii.gz", [2, 41])
    labelled(tmp_path, "a.nii.gz", "a_dseg.nii.gz", [3, 42])
    phantom.save(tmp_path / "without_labels.nii.gz", np.zeros((2, 2, 2), dtype=np.int16))
    assert find_cases(tmp_path) == [
        Case(name, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_dseg.nii.gz", "freesurfer") for name in "ab"
    ]
    scan, reference = find_cases(tmp_path)[0].read()
    assert reference.voxels[:, 0, 0].tolist() == [3, 42]
    assert scan.voxels[:, 0, 0].tolist() == [4.5, 43.5]


def test_cases_by_table(tmp_path: Path) -> None:
    labelled(tmp_path / "maps", "scan-7.nii.gz", "seg-7_labels.nii", [59, 60, 71])
    table = tmp_path / "data.toml"
    table.write_text(
        'folder = "maps"\nimage = "scan-*.nii.gz"\nreference = "seg-*_labels.nii"\nlabels = "neuromorphometrics"\n',
        encoding="utf-8",
    )
    for source in (tmp_path, table):
        (case,) = find_cases(source)
        assert (case.name, case.labels) == ("7", "neuromorphometrics")
        assert case.image.name == "scan-7.nii.gz" and case.reference.name == "seg-7_labels.nii"
    assert case.read()[1].voxels[:, 0, 0].tolist() == [49, 10, 630]


@pytest.mark.parametrize(
    "text, message",
    [
        ("folder = 'nowhere'", "nowhere is no folder"),
        ("images = '*.nii'", "unknown key 'images'; known are folder, image, reference, labels"),
        ("image = 'scan.nii'", "image is 'scan.nii', wanted a file name with one *"),
        ("reference = '*_*.nii'", "reference is .*, wanted a file name with one *"),
        ("reference = '*_seg.nii'", "holds no file like .*_seg.nii"),
        ("image = '*_T1w.nii.gz'", "label map .*a_dseg.nii.gz has no scan .*a_T1w.nii.gz"),
        ("folder = ", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
    ],
)
def test_cases_that_cannot_be_found(tmp_path: Path, text: str | bytes, message: str) -> None:
    labelled(tmp_path, "a.nii.gz", "a_dseg.nii.gz", [2, 41])
    (tmp_path / "data.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ScanError, match=message):
        find_cases(tmp_path)


def test_no_cases(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="holds no file like"):
        find_cases(tmp_path)
    with pytest.raises(ScanError, match="nowhere is no folder"):
        find_cases(tmp_path / "nowhere")
    labelled(tmp_path, "a.nii.gz", "a_dseg.nii.gz", [2, 41])
    with pytest.raises(ScanError, match="other.toml does not exist"):
        find_cases(tmp_path / "other.toml")  # and not the folder it would be in
    labelled(tmp_path, "a.nii.gz", "a_dseg.nii.gz", [2, 999])
    with pytest.raises(LabelError, match="999"):
        find_cases(tmp_path)[0].read()
