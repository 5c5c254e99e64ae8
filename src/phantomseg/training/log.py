"""The run's log as CSV and as a picture of its loss."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from phantomseg.image.files import write_atomically

FIELDS = ("step", "loss", "learning_rate", "gradient_norm", "seconds", "generation_seconds")


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """One row a step; validation scores get columns of their own."""
    extra = sorted({key for row in rows for key in row} - set(FIELDS))

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*FIELDS, *extra], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def read_log(path: Path, last_step: int) -> list[dict[str, float]]:
    """Rows of a log up to a step; those after it belong to steps that are made again."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = [{key: _number(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if row["step"] <= last_step]


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def draw_loss(path: Path, rows: list[dict[str, float]]) -> None:
    """Loss over steps, its running mean, and every validation score."""
    from matplotlib.figure import Figure

    step = np.array([row["step"] for row in rows])
    loss = np.array([row["loss"] for row in rows])
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(step, loss, color="0.8", linewidth=0.7, label="loss")
    width = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    axes.plot(step[width - 1 :], smooth, color="C0", label=f"mean of {width}")
    axes.set(xlabel="step", ylabel="loss (Dice + cross-entropy)")
    scores = sorted({key for row in rows for key in row} - set(FIELDS))
    if scores:
        right = axes.twinx()
        right.set(ylabel="Dice", ylim=(0, 1))
        for i, key in enumerate(scores):
            points = [(row["step"], row[key]) for row in rows if key in row]
            right.plot(*zip(*points, strict=True), f"C{i + 1}.-", label=key)
        right.legend(loc="lower right", frameon=False)
    axes.legend(loc="upper right", frameon=False)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))
