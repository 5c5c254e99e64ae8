"""Plots of studies: what is drawn, what is written beside it, and that odd data draw something."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image as Picture

from phantomseg.report.plot_parts import COLORS
from phantomseg.report.plots import (
    Curve,
    Mark,
    bland_altman_plot,
    box_plot,
    curve_plot,
    interval_plot,
    save_plot,
    scatter_identity_plot,
)

NAN, INF = math.nan, math.inf
ODD = "<script>$\\frac{</script>\n_"
SCORES = {
    "ours": {"putamen": [0.8, 0.9, 0.85], "caudate": [0.7], "vermis": [NAN, NAN]},
    "theirs": {"putamen": [0.6, NAN, 0.7], "caudate": [INF, 0.5, -INF], "vermis": []},
}


def dots(axis: Axes, marker_at_edge: bool = False) -> np.ndarray:
    """Points (N, 2) that are drawn where they belong, or those at an edge."""
    found = [
        np.asarray(c.get_offsets())
        for c in axis.collections
        if isinstance(c, PathCollection) and (c.get_offset_transform() == axis.transData) != marker_at_edge
    ]
    return np.concatenate([*found, np.empty((0, 2))])


def entries(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def texts(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def drawn(figure: Figure, folder: Path) -> Figure:
    save_plot(folder, "plot", figure)
    return figure


def test_boxes_hold_every_score(tmp_path: Path) -> None:
    marks = [Mark("putamen", 0.88, "They (2023)"), Mark("all", 0.75, "They (2023)"), Mark("all", NAN, "Others")]
    figure = drawn(box_plot(SCORES, "Dice", marks), tmp_path)
    (axis,) = figure.axes
    assert axis.get_ylabel() == "Dice"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["putamen", "caudate", "vermis", "all"]
    assert len(axis.patches) == 4  # boxes: two of each tool
    assert sorted(dots(axis)[:, 1]) == [0.5, 0.6, 0.7, 0.7, 0.8, 0.85, 0.9]
    assert sorted(dots(axis, marker_at_edge=True)[:, 1]) == [0, 1]  # in shares of the height
    assert texts(axis) == ["–"]  # nothing of the vermis
    assert entries(figure) == [
        "ours", "theirs", "infinite, left out of boxes and lines",
        "They (2023), published, not rerun", "Others, published, not rerun",
    ]  # fmt: skip
    diamonds = [line for line in axis.lines if line.get_marker() in ("D", "d")]
    assert [line.get_ydata()[0] for line in diamonds] == [0.88, 0.75]
    assert {line.get_markerfacecolor() for line in diamonds} == {"white"}


def test_boxes_stand_at_their_category_in_their_colour() -> None:
    (axis,) = box_plot({"a": {"x": [1, 2], "y": [3, 4]}, "b": {"x": [5, 6], "y": [7, 8]}}, "mm").axes
    for x, y in dots(axis):
        assert abs(x - (y in (3, 4, 7, 8))) < 0.5
        assert (x % 1 < 0.5) == (y > 4)  # the first tool left of the middle, the second right
    colors = [matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in axis.patches]
    assert colors == [COLORS[0]] * 2 + [COLORS[1]] * 2


def test_a_tool_without_scores_keeps_its_place() -> None:
    (axis,) = box_plot({"none": {}, "some": {"x": [1, 2]}}, "mm").axes
    assert matplotlib.colors.to_hex(axis.patches[0].get_edgecolor()) == COLORS[1]


def test_scores_beyond_the_limits_are_not_lost() -> None:
    figure = box_plot({"a": {"x": [0.2, 0.8, 1.0, INF]}}, "Dice", [Mark("x", 0.4, "They")], limits=(0.5, 1))
    (axis,) = figure.axes
    assert axis.get_ylim() == (0.4, 1)  # wide enough for the published number
    assert sorted(dots(axis)[:, 1]) == [0.8, 1.0]
    assert sorted(dots(axis, marker_at_edge=True)[:, 1]) == [0, 1]
    assert {"beyond the axis", "infinite, left out of boxes and lines"} <= set(entries(figure))


def test_many_structures_go_into_rows_and_long_names_are_turned(tmp_path: Path) -> None:
    names = [f"left structure number {number}" for number in range(40)]
    figure = drawn(box_plot({tool: {name: [0.5, 0.6] for name in names} for tool in "abc"}, "Dice"), tmp_path)
    labels = [[label.get_text() for label in axis.get_xticklabels()] for axis in figure.axes]
    assert [len(row) for row in labels] == [20, 20]  # sixty boxes a row
    assert sum(labels, []) == names
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {40}
    assert {label.get_horizontalalignment() for label in figure.axes[0].get_xticklabels()} == {"right"}
    few = box_plot({"a": {"T1w": [1], "T2w": [2]}}, "Dice")
    assert {label.get_rotation() for label in few.axes[0].get_xticklabels()} == {0}


def test_no_words_of_a_plot_touch() -> None:
    names = [f"right inferior ventricle {number}" for number in range(16)]
    scores = {f"tool {number}": {name: [0.5, 0.6] for name in names} for number in range(3)}
    figure = box_plot(scores, "Dice " * 12, [Mark(names[0], 0.5, "A method (its paper 2023)")])
    figure.draw_without_rendering()  # what is measured is then what is drawn
    box = figure.bbox
    legend = figure.legends[0].get_window_extent()
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert box.x0 <= legend.x0 and legend.x1 <= box.x1
    assert legend.y0 >= figure.axes[0].get_window_extent().y1
    assert box.y0 <= label.y0 and label.y1 <= legend.y0
    assert all(box.y0 - 1 <= text.get_window_extent().y0 for text in figure.axes[0].get_xticklabels())


def test_curves_hold_bands_thin_lines_and_published_numbers(tmp_path: Path) -> None:
    curves = {
        "ours": Curve([1, 3, 5], [0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [1, 0.9, 0.8], {"axial": [0.9, 0.7, 0.6]}),
        "theirs": Curve([1, 3, 5], [0.8, NAN, INF]),
    }
    figure = drawn(curve_plot(curves, "mm", "Dice", [Mark(3, 0.85, "They")]), tmp_path)
    (axis,) = figure.axes
    lines = [list(line.get_ydata()) for line in axis.lines]
    assert lines[:2] == [[0.9, 0.7, 0.6], [0.9, 0.8, 0.7]]
    assert lines[-1] == [0.85] and axis.lines[-1].get_xdata()[0] == 3
    assert len(axis.collections) == 2  # a band, and the infinite value
    assert dots(axis, marker_at_edge=True).tolist() == [[5, 1]]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "3", "5"]
    assert entries(figure) == [
        "ours", "theirs", "axial", "infinite, left out of boxes and lines", "They, published, not rerun"
    ]  # fmt: skip


def test_agreement_is_written_out(tmp_path: Path) -> None:
    first, second = np.array([1.0, 2.0, 4.0, NAN]), np.array([0.0, 2.0, 3.0, 1.0])
    figure = drawn(bland_altman_plot({"ours": (first, second), "none": (first[3:], second[3:])}, "x", "y"), tmp_path)
    left, right = figure.axes
    assert dots(left).tolist() == [[0.5, 1], [2, 0], [3.5, 1]]
    # differences 1 0 1: mean 2/3, standard deviation 0.57735
    assert left.get_title(loc="left") == "ours, 1 left out\nbias 0.67, limits −0.46 to 1.80"
    assert [round(line.get_ydata()[0], 4) for line in left.lines] == [0, 0.6667, -0.4649, 1.7983]
    assert right.get_title(loc="left") == "none, 1 left out\nno pairs"
    assert texts(right) == ["no data"]
    assert left.get_shared_y_axes().joined(left, right)
    assert len(bland_altman_plot({str(number): (first, second) for number in range(5)}, "x", "y").axes) == 5


def test_intervals_lie_beside_zero(tmp_path: Path) -> None:
    rows = {
        "ours": {"putamen": (0.5, 0.2, 0.8), "caudate": (INF, NAN, NAN), "vermis": (NAN, NAN, NAN)},
        "theirs": {"putamen": (-0.5, -INF, 0.1)},
    }
    figure = drawn(interval_plot(rows, "Cohen's d"), tmp_path)
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    assert left < -0.5 and right > 0.8
    zero, *lines = [list(line.get_xdata()) for line in axis.lines]
    assert zero == [0, 0]
    assert lines == [[0.2, 0.8], [0.5], [left, 0.1], [-0.5], [right]]
    heights = [line.get_ydata()[0] for line in axis.lines[1:]]
    assert heights[0] == heights[1] < 0 < heights[2] < 0.5 < heights[4] < 1.5
    assert [label.get_text() for label in axis.get_yticklabels()] == ["putamen", "caudate", "vermis"]
    assert axis.get_ylim() == (2.5, -0.5)  # the first on top
    assert texts(axis) == ["–"]
    assert entries(figure) == ["ours", "theirs", "infinite, beyond the axis"]


def test_points_are_joined_by_subject_on_equal_axes(tmp_path: Path) -> None:
    series = {"ours": ([3, 1, 2, NAN], [3, 1, 5, 1]), "theirs": ([1, 2], [2, INF])}
    figure = drawn(scatter_identity_plot(series, "induced", "predicted", {"ours": ["a", "a", "b", "a"]}), tmp_path)
    (axis,) = figure.axes
    assert dots(axis).tolist() == [[3, 3], [1, 1], [2, 5], [1, 2]]
    assert [list(line.get_xdata()) for line in axis.lines[:2]] == [[1, 3], [2]]
    identity = axis.lines[-1]
    assert list(identity.get_xdata()) == list(identity.get_ydata()) == list(axis.get_xlim()) == list(axis.get_ylim())
    assert entries(figure) == ["ours, 1 left out", "theirs, 1 left out", "y = x"]
    assert len(scatter_identity_plot(series, "x", "y").axes[0].lines) == 1


@pytest.mark.parametrize("values", [[], [0.5], [NAN, NAN], [INF], [-INF, INF], [0.5, NAN, INF]])
def test_any_data_make_plots(values: list[float], tmp_path: Path) -> None:
    x = list(range(len(values)))
    for series in ({}, {"a": [], "b": values, ODD: values}):
        drawn(box_plot({name: {ODD: scores} for name, scores in series.items()}, ODD), tmp_path)
        curves = {name: Curve(x[: len(ys)], ys, ys, ys, {ODD: ys}) for name, ys in series.items()}
        drawn(curve_plot(curves, ODD, ODD), tmp_path)
        drawn(bland_altman_plot({n: (np.array(v), np.ones(len(v))) for n, v in series.items()}, ODD, ODD), tmp_path)
        drawn(interval_plot({name: {f"{ODD}{v}": (v, v, v) for v in ys} for name, ys in series.items()}, ODD), tmp_path)
        drawn(scatter_identity_plot({name: (ys, ys) for name, ys in series.items()}, ODD, ODD), tmp_path)
        drawn(box_plot({name: {} for name in series}, "x", [Mark(ODD, v, ODD) for v in values], (0, 1)), tmp_path)


def test_a_plot_is_written_twice_and_always_alike(tmp_path: Path) -> None:
    many = {"ours": {"putamen": list(np.linspace(0, 1, 600))}}  # dots that become a picture
    for name, scores in (("few", SCORES), ("many", many)):
        for folder in ("one", "other"):
            save_plot(tmp_path / folder, name, box_plot(scores, "Dice", [Mark("putamen", 0.9, "They")]))
        for kind in ("svg", "png"):
            one, other = (tmp_path / folder / f"{name}.{kind}" for folder in ("one", "other"))
            assert one.read_bytes() == other.read_bytes(), kind
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["few.png", "few.svg", "many.png", "many.svg"]
    with Picture.open(tmp_path / "one" / "few.png") as picture:
        assert picture.width == 1350
        assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    assert b"<dc:date>" not in (tmp_path / "one" / "few.svg").read_bytes()


def test_plots_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    drawn(curve_plot({"a": Curve([1, 2], [1, 2])}, "x", "y"), tmp_path)
    assert dict(matplotlib.rcParams) == before
