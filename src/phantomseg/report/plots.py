"""Plots of studies: curves, agreement, intervals, one thing against another; boxes come from beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phantomseg.evaluation.statistics import bland_altman
from phantomseg.image.files import write_atomically
from phantomseg.report.box_plot import box_plot
from phantomseg.report.document import number
from phantomseg.report.plot_parts import (
    INK,
    MANY_DOTS,
    SOFT,
    Limits,
    Mark,
    array,
    at_edges,
    colors_of,
    diamonds,
    dot,
    folded,
    legend,
    limits_with,
    note,
    nothing,
    plain,
    sheet,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Curve",
    "Mark",
    "bland_altman_plot",
    "box_plot",
    "curve_plot",
    "interval_plot",
    "save_plot",
    "scatter_identity_plot",
]
MARKERS = ("o", "s", "P", "X", "h", "*", "p")  # not as many as colours, so that both together differ longer
DASHES = ((0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (9, 2)))


@dataclass(frozen=True)
class Curve:
    """Values y over x, perhaps with a band about them and thin lines beside them."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    faint: Mapping[str, Sequence[float]] = field(default_factory=dict)  # other y over the same x, as one a direction


def save_plot(folder: Path, name: str, figure: Figure) -> None:
    """Write NAME.svg and NAME.png into a folder; the same drawing makes the same bytes."""

    def write(kind: str, metadata: dict[str, None]) -> None:
        path = Path(folder) / f"{name}.{kind}"
        write_atomically(path, lambda it: figure.savefig(it, format=kind, dpi=150, metadata=metadata))

    with styled():
        write("svg", {"Date": None})
        write("png", {"Software": None})


@styled()
def curve_plot(
    curves: Mapping[str, Curve], xlabel: str, ylabel: str, published: Sequence[Mark] = (), limits: Limits | None = None
) -> Figure:
    """Curves, each with its band and its thin lines.

    Args:
        curves: by series, such as tools; a NaN is a gap.
        xlabel: what x is.
        ylabel: what y is.
        published: numbers to set beside them; their category is x.
        limits: of the y axis; a value beyond is a triangle at the edge, as infinite ones are.
    """
    figure, (axis,) = sheet(4.4)
    limits, colors = limits_with(limits, published), colors_of(curves)
    faint = list(dict.fromkeys(name for curve in curves.values() for name in curve.faint))
    dashes = {name: DASHES[place % len(DASHES)] for place, name in enumerate(faint)}
    entries: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for place, (name, curve) in enumerate(curves.items()):
        entries[name] = dot(colors[name], linestyle="-", linewidth=1.8, marker=MARKERS[place % len(MARKERS)])
        notes |= _draw_curve(axis, curve, entries[name], dashes, limits)
    entries |= {name: dot(SOFT, marker="", linestyle=dashes[name], linewidth=1.2) for name in faint}
    marks = diamonds(axis, published, {mark.category: float(mark.category) for mark in published})
    axis.set(xlabel=folded(xlabel, 8), ylabel=folded(ylabel, 3.6), ylim=limits)
    if marks or any(len(curve.x) for curve in curves.values()):
        _tick_at(axis, np.concatenate([np.empty(0), *(array(curve.x) for curve in curves.values())]))
    else:
        nothing(axis)
    legend(figure, entries | notes | marks)
    return figure


@styled()
def bland_altman_plot(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], xlabel: str, ylabel: str) -> Figure:
    """First minus second measurement over the mean of both, with bias and limits of agreement, a panel a series.

    Args:
        panels: first and second measurement of the same things, by series; pairs that are not finite are left out.
        xlabel: what the mean is.
        ylabel: what the difference is.
    """
    columns = 2 if len(panels) == 4 else max(1, min(3, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure, axes = sheet(0.8 + 3.0 * rows, rows, columns)
    colors = colors_of(panels)
    for axis, (name, pair) in zip(axes, panels.items(), strict=False):
        first, second = map(array, pair)
        used = np.isfinite(first) & np.isfinite(second)
        left_out = f", {(~used).sum()} left out" if not used.all() else ""
        said = _draw_agreement(axis, first[used], second[used], colors[name])
        axis.set_title(f"{plain(name, 26)}{left_out}\n{said}", loc="left", fontsize=9)
        axis.locator_params(axis="x", nbins=4)
        axis.tick_params(labelbottom=True)
    for axis in axes[len(panels) :]:
        axis.remove() if panels else nothing(axis)
    figure.supxlabel(folded(xlabel, 8), fontsize=10)
    figure.supylabel(folded(ylabel, 2.5 * rows), fontsize=10)
    return figure


@styled()
def interval_plot(rows: Mapping[str, Mapping[str, tuple[float, float, float]]], xlabel: str) -> Figure:
    """Values with their intervals, a line each, and a line at zero.

    Args:
        rows: value, low and high, by series, such as tools, then by category, such as structures.
        xlabel: what the values are.
    """
    categories = list(dict.fromkeys(name for intervals in rows.values() for name in intervals))
    figure, (axis,) = sheet(0.7 + len(categories) * (0.12 + 0.14 * len(rows)))
    every = array([x for intervals in rows.values() for interval in intervals.values() for x in interval])
    ends = np.append(every[np.isfinite(every)], 0.0)
    pad = 0.05 * float(np.ptp(ends)) or 1.0
    axis.set_xlim(ends.min() - pad, ends.max() + pad)
    axis.axvline(0, color=INK, linewidth=1)
    colors = colors_of(rows)
    entries = {name: dot(colors[name], linestyle="-") for name in rows}
    for at, category in enumerate(categories):
        intervals = [row.get(category, (math.nan,) * 3) for row in rows.values()]
        for place, (name, interval) in enumerate(zip(rows, intervals, strict=True)):
            entries |= _draw_interval(axis, at + (place + 0.5) * 0.8 / len(rows) - 0.4, interval, colors[name])
        if all(math.isnan(value) for value, *_ in intervals):
            note(axis, "–", (0.5, at), axis.get_yaxis_transform())
    _list_categories(axis, categories)
    axis.set_xlabel(folded(xlabel, 6))
    legend(figure, entries)
    return figure


@styled()
def scatter_identity_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    subjects: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Y against x, both axes alike, with the line on which they are equal.

    Args:
        series: x and y, by series, such as tools; pairs that are not finite are left out and counted.
        xlabel: what x is.
        ylabel: what y is.
        subjects: of each point of a series, by series; points of one subject are joined in the order of x.
    """
    figure, (axis,) = sheet(6.0, width=7.2)
    colors, entries, kept = colors_of(series), {}, [np.zeros(1)]
    for place, (name, pair) in enumerate(series.items()):
        x, y = map(array, pair)
        used = np.isfinite(x) & np.isfinite(y)
        look: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "color": colors[name]}
        left_out = f", {(~used).sum()} left out" if not used.all() else ""
        entries[plain(name, 60) + left_out] = dot(**look)
        look |= {"s": 22, "alpha": 0.75, "linewidths": 0, "zorder": 3, "rasterized": x.size > MANY_DOTS}
        axis.scatter(x[used], y[used], **look)
        whose = np.asarray((subjects or {}).get(name, [""] * len(x)))[used]
        for subject in sorted({*whose} - {""}):
            order = np.argsort(x[used][whose == subject], kind="stable")
            joined = [values[used][whose == subject][order] for values in (x, y)]
            axis.plot(*joined, color=colors[name], linewidth=0.7, alpha=0.5)
        kept += [x[used], y[used]]
    every = np.concatenate(kept)
    pad = 0.05 * float(np.ptp(every)) or 1.0
    ends = (every.min() - pad, every.max() + pad)
    axis.plot(ends, ends, color=INK, linewidth=1, linestyle=DASHES[0], zorder=2)
    axis.set(xlabel=folded(xlabel, 5), ylabel=folded(ylabel, 5), xlim=ends, ylim=ends, aspect="equal")
    legend(figure, {**entries, "y = x": dot(INK, marker="", linestyle=DASHES[0], linewidth=1)})
    return figure


def _draw_curve(axis: Axes, curve: Curve, look: Any, dashes: dict[str, Any], limits: Limits | None) -> dict[str, Any]:
    """Draw a curve that looks as in the legend; what the legend says of points at the edge."""
    x, y, color = array(curve.x), array(curve.y), look.get_color()
    if curve.low is not None and curve.high is not None:
        axis.fill_between(x, array(curve.low), array(curve.high), color=color, alpha=0.11, linewidth=0)
    for name, values in curve.faint.items():
        axis.plot(x, array(values), color=color, linewidth=0.9, alpha=0.6, linestyle=dashes[name])
    axis.plot(x, y, color=color, marker=look.get_marker(), markersize=5.5, linewidth=1.8, zorder=3)
    return at_edges(axis, x, y, color, limits)


def _tick_at(axis: Axes, x: np.ndarray) -> None:
    """Ticks where there are points, if few and far enough from each other."""
    places = np.unique(x[np.isfinite(x)])
    if 2 <= len(places) <= 12 and np.diff(places).min() > np.ptp(places) / 20:
        axis.set_xticks(places, [f"{place:g}" for place in places])


def _draw_agreement(axis: Axes, first: np.ndarray, second: np.ndarray, color: str) -> str:
    """Draw pairs, bias and limits; the numbers of the two in words."""
    if not first.size:
        note(axis, "no data", (0.5, 0.5), axis.transAxes)
        return "no pairs"
    axis.scatter(
        (first + second) / 2, first - second, s=16, color=color, alpha=0.7, linewidths=0, zorder=3,
        rasterized=first.size > MANY_DOTS,
    )  # fmt: skip
    found = bland_altman(first, second)
    axis.axhline(0, color=SOFT, linewidth=0.8)
    axis.axhline(found.bias, color=color, linewidth=1.6)
    for limit in (found.low, found.high):
        if math.isfinite(limit):
            axis.axhline(limit, color=color, linewidth=1.2, linestyle=DASHES[0])
    size = max(abs(x) for x in (found.bias, found.low, found.high, 0.0) if math.isfinite(x))
    digits = max(0, min(6, 2 - math.floor(math.log10(size)))) if size > 0 else 0
    bias, low, high = (number(x, digits) for x in (found.bias, found.low, found.high))
    return f"bias {bias}, limits {low} to {high}"


def _list_categories(axis: Axes, names: list[str]) -> None:
    """Names beside the y axis, the first on top, and a line between each two places."""
    axis.set_yticks(range(len(names)), [plain(name) for name in names])
    axis.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axis.tick_params(axis="y", which="both", length=0)
    axis.grid(False, axis="y")
    axis.grid(True, axis="y", which="minor")
    axis.set_ylim(max(1, len(names)) - 0.5, -0.5)
    if not names:
        nothing(axis)


def _draw_interval(axis: Axes, y: float, interval: tuple[float, float, float], color: str) -> dict[str, Any]:
    """Draw a value with its interval, cut off at the edges; what the legend says of an infinite one."""
    value, *ends = interval
    left, right = axis.get_xlim()
    if math.isnan(value):
        return {}
    if not any(map(math.isnan, ends)):
        axis.plot(np.clip(ends, left, right), [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
    if math.isfinite(value):
        axis.plot([value], [y], color=color, marker="o", markersize=5.5, linestyle="", zorder=3)
        return {}
    edge, marker = (right, ">") if value > 0 else (left, "<")
    axis.plot([edge], [y], color=color, marker=marker, markersize=6.5, linestyle="", clip_on=False, zorder=3)
    return {"infinite, beyond the axis": dot(SOFT, marker=">")}
