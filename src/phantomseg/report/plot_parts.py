"""What every plot of a study shares: style, colours, legend, marks, and the edge at which stands what does not fit."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Limits = tuple[float, float]
# after Okabe and Ito, told apart by colour-blind readers too; the yellow last and darker, as it is faint on white
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#c9b800")
INK, SOFT, LINE = "#1b2027", "#6b7480", "#e3e6ea"
DIAMONDS = (("D", INK), ("d", INK), ("D", SOFT), ("d", SOFT))
WIDTH = 9.0  # inches, 864 pixels of a page
MANY_DOTS = 500  # from there on, a picture of dots is smaller than their list
STYLE: dict[Any, Any] = {  # names are literals only to newer matplotlibs
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # names may hold dollars
    "text.usetex": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "phantomseg",  # the same drawing, the same bytes
}


@dataclass(frozen=True)
class Mark:
    """A number that others report, drawn as a hollow diamond."""

    category: str | float  # in a plot of curves, x
    value: float
    label: str  # such as the method and its paper; equal labels share an entry of the legend


@contextmanager
def styled() -> Iterator[None]:
    """Our style, for as long as a plot is drawn or written."""
    import matplotlib  # late, as reports of scans do without it

    with matplotlib.rc_context(STYLE):
        yield


def sheet(height: float, rows: int = 1, columns: int = 1, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A white figure and its axes, row by row, with one scale; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=columns > 1, sharey=True)
    return figure, list(axes.flat)


def colors_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, by its place.

    >>> colors_of(["ours", "theirs"])
    {'ours': '#0072b2', 'theirs': '#d55e00'}
    """
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def plain(text: object, most: int = 32) -> str:
    r"""Text on one line, shortened.

    >>> plain("left\nputamen"), plain("left inferior lateral ventricle", 12)
    ('left putamen', 'left inferi…')
    """
    line = "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()
    return line if len(line) <= most else line[: most - 1] + "…"


def folded(text: str, inches: float) -> str:
    r"""Text in lines of a length, as beside an axis.

    >>> folded("95th percentile of distances, mm", 2)
    '95th percentile of\ndistances, mm'
    """
    return textwrap.fill(plain(text, 120), max(10, int(inches / 0.085)))


def dot(color: str, **look: Any) -> Any:
    """What the legend shows of a series; `look` says which marker, and what line goes through it."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"color": color, "marker": "o", "linestyle": "", "markersize": 6, **look})


def legend(figure: Figure, entries: dict[str, Any]) -> None:
    """One legend above everything, in as many columns as fit; the figure grows by its height."""
    if not entries:
        return
    names = [plain(name, 90) for name in entries]
    names = [f" {name}" if name.startswith("_") else name for name in names]  # which matplotlib would hide
    lengths = np.array([len(name) + 7 for name in names])  # a symbol is as wide as seven letters
    fitting = [
        columns
        for columns in range(1, len(names) + 1)
        if sum(part.max() for part in np.array_split(lengths, columns)) <= 12.5 * figure.get_figwidth()
    ]
    columns = max(fitting, default=1)
    figure.legend(list(entries.values()), names, loc="outside upper left", ncols=columns, fontsize=9)
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.19 * math.ceil(len(names) / columns))


def array(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Values as a row of numbers; None becomes NaN."""
    return np.asarray(values, dtype=float).ravel()


def limits_with(limits: Limits | None, marks: Sequence[Mark]) -> Limits | None:
    """Limits, made wide enough for every mark.

    >>> limits_with((0.5, 1), [Mark("putamen", 0.4, "they")])
    (0.4, 1)
    """
    values = [mark.value for mark in marks if math.isfinite(mark.value)]
    return limits and (min([limits[0], *values]), max([limits[1], *values]))


def at_edges(axis: Axes, at: np.ndarray, values: np.ndarray, color: str, limits: Limits | None) -> dict[str, Any]:
    """Triangles at the upper and the lower edge for values beyond them; what the legend says of those.

    Args:
        axis: axes to draw in.
        at: where values stand along x.
        values: of which those that are infinite, or outside the limits, are drawn.
        color: of the triangles.
        limits: of the y axis; where there are none, only infinite values lie outside.
    """
    low, high = limits or (-sys.float_info.max, sys.float_info.max)
    said: dict[str, Any] = {}
    for beyond, height, marker in ((values > high, 1, "^"), (values < low, 0, "v")):
        if not beyond.any():
            continue
        axis.scatter(
            at[beyond], np.full(beyond.sum(), height), s=34, marker=marker, color=color, linewidths=0,
            clip_on=False, zorder=5, transform=axis.get_xaxis_transform(),
        )  # fmt: skip
        infinite = np.isinf(values[beyond])
        said |= {"infinite, left out of boxes and lines": dot(SOFT, marker="^")} if infinite.any() else {}
        said |= {"beyond the axis": dot(SOFT, marker="v")} if not infinite.all() else {}
    return said


def diamonds(axis: Axes, marks: Sequence[Mark], places: Mapping[str | float, float]) -> dict[str, Any]:
    """Published numbers, those of one label beside those of the next; what the legend says of them.

    Args:
        axis: axes to draw in.
        marks: numbers; those without a place are left out.
        places: where each category stands along x.
    """
    labels = list(dict.fromkeys(mark.label for mark in marks))
    said = {}
    for mark in marks:
        number = labels.index(mark.label)
        marker, color = DIAMONDS[number % len(DIAMONDS)]
        look: dict[str, Any] = {"marker": marker, "markerfacecolor": "white", "markeredgewidth": 1.4, "markersize": 7}
        said[f"{plain(mark.label, 65)}, published, not rerun"] = dot(color, **look)
        if mark.category in places and math.isfinite(mark.value):
            axis.plot([places[mark.category]], [mark.value], color=color, linestyle="", zorder=6, **look)
    return said


def height_of_names(names: Sequence[str], across: int) -> float:
    """Inches that names below an axis take; more than one line of them if they would touch and must be turned."""
    longest = max((len(plain(name)) for name in names), default=0)
    return 0.25 if 0.085 * longest <= (WIDTH - 0.9) / across else 0.2 + 0.05 * longest


def name_categories(axis: Axes, names: Sequence[str], across: int) -> None:
    """Names below the x axis, turned where they would touch, and a line between each two places."""
    axis.set_xticks(range(len(names)), [plain(name) for name in names])
    if height_of_names(names, across) > 0.25:
        for label in axis.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axis.set_xlim(-0.5, across - 0.5)
    axis.set_xticks(np.arange(across + 1) - 0.5, minor=True)
    axis.tick_params(axis="x", which="both", length=0)
    axis.grid(False, axis="x")
    axis.grid(True, axis="x", which="minor")


def nothing(axis: Axes) -> None:
    """Say that there is nothing to draw."""
    axis.set_xticks([])
    axis.set_yticks([])
    note(axis, "no data", (0.5, 0.5), axis.transAxes)


def note(axis: Axes, text: str, at: tuple[float, float], where: Any) -> None:
    """Grey words instead of data.

    Args:
        axis: axes to write in.
        text: a few letters; a dash is a large one.
        at: x and y of their middle.
        where: what x and y are counted in, a transform of the axes.
    """
    axis.text(*at, text, color=SOFT, ha="center", va="center", transform=where, fontsize=15 if text == "–" else 10)
