"""Boxes of scores, by structure and by tool."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from phantomseg.report.plot_parts import (
    INK,
    MANY_DOTS,
    Limits,
    Mark,
    array,
    at_edges,
    colors_of,
    diamonds,
    dot,
    folded,
    height_of_names,
    legend,
    limits_with,
    name_categories,
    note,
    nothing,
    sheet,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BOXES, MOST_NAMES = 60, 32  # side by side; what is more goes into rows below
FILLED = 0.84  # of the room of a category


@dataclass(frozen=True)
class _Series:
    """How the boxes of a series look, and where the first stands."""

    color: str
    first: float
    width: float
    limits: Limits | None


@styled()
def box_plot(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    ylabel: str,
    published: Sequence[Mark] = (),
    limits: Limits | None = None,
) -> Figure:
    """Boxes of finite scores, whiskers to 1.5 times their height, and a dot for each score.

    Args:
        groups: scores by series, such as tools, then by category, such as structures; NaN are left out.
        ylabel: what the scores are.
        published: numbers to set beside them; one whose category is new adds it.
        limits: of the y axis; a score beyond is a triangle at the edge, as infinite ones are.
    """
    named = [*(name for scores in groups.values() for name in scores), *(str(mark.category) for mark in published)]
    rows, across = _shared_out(list(dict.fromkeys(named)), len(groups))
    limits, colors, width = limits_with(limits, published), colors_of(groups), FILLED / max(1, len(groups))
    height = 3.0 if len(rows) == 1 else 2.4
    figure, axes = sheet(0.2 + sum(height + height_of_names(row, across) for row in rows), len(rows))
    entries: dict[str, Any] = {name: dot(colors[name], marker="s", alpha=0.7, markersize=8) for name in groups}
    for axis, categories in zip(axes, rows, strict=True):
        for place, name in enumerate(groups):
            series = _Series(colors[name], (place + 0.5) * width - FILLED / 2, width, limits)
            entries |= _boxes(axis, [array(groups[name].get(category, ())) for category in categories], series)
        entries |= diamonds(axis, published, {category: at for at, category in enumerate(categories)})
        _dash_empty(axis, categories, groups, published)
        name_categories(axis, categories, across)
        axis.set_ylabel(folded(ylabel, height))
        axis.set_ylim(limits)
    if not named:
        nothing(axes[0])
    legend(figure, entries)
    return figure


def _shared_out(categories: list[str], series: int) -> tuple[list[list[str]], int]:
    """Categories in rows of about one length, and that length."""
    across = min(MOST_NAMES, max(1, MOST_BOXES // max(1, series)))
    count = max(1, math.ceil(len(categories) / across))
    across = max(1, math.ceil(len(categories) / count))
    return [categories[row * across : (row + 1) * across] for row in range(count)], across


def _boxes(axis: Axes, scores: list[np.ndarray], series: _Series) -> dict[str, Any]:
    """Draw a box and dots for each category of a series; what the legend says of dots at the edge."""
    at = np.arange(len(scores)) + series.first
    finite = [values[np.isfinite(values)] for values in scores]
    drawn = [place for place, values in enumerate(finite) if values.size]
    if drawn:
        thin = {"color": series.color, "linewidth": 1}
        axis.boxplot(
            [finite[place] for place in drawn], positions=at[drawn], widths=0.8 * series.width, showfliers=False,
            patch_artist=True, manage_ticks=False, whiskerprops=thin, capprops=thin,
            boxprops={"facecolor": series.color + "40", "edgecolor": series.color, "linewidth": 1},
            medianprops={"color": INK, "linewidth": 1.6},
        )  # fmt: skip
    every = np.concatenate([*scores, np.empty(0)])
    spread = [_beside(values.size) * 0.6 * series.width + x for values, x in zip(scores, at, strict=True)]
    x = np.concatenate([*spread, np.empty(0)])
    low, high = series.limits or (-np.inf, np.inf)
    inside = np.isfinite(every) & (every >= low) & (every <= high)
    axis.scatter(
        x[inside], every[inside], s=9, color=series.color, alpha=0.75, linewidths=0, zorder=4, clip_on=False,
        rasterized=bool(every.size > MANY_DOTS),
    )  # fmt: skip
    return at_edges(axis, x, every, series.color, series.limits)


def _beside(count: int) -> np.ndarray:
    """Places between -0.5 and 0.5 at which dots of about one height do not cover each other; the same each time."""
    return (0.5 + 0.6180339887 * np.arange(count)) % 1 - 0.5


def _dash_empty(
    axis: Axes, categories: list[str], groups: Mapping[str, Mapping[str, Sequence[float]]], marks: Sequence[Mark]
) -> None:
    marked = {mark.category for mark in marks if math.isfinite(mark.value)}
    for at, category in enumerate(categories):
        scores = [array(group.get(category, ())) for group in groups.values()]
        if category not in marked and all(np.isnan(values).all() for values in scores):
            note(axis, "–", (at, 0.5), axis.get_xaxis_transform())
