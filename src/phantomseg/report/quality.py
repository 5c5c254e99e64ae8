"""What a predicted quality is called, and how it is drawn."""

from __future__ import annotations

from phantomseg.report.document import number, safe

THRESHOLD = 0.65
DOUBTFUL = 0.10  # so far above the threshold a result is not yet good


def quality_word(quality: float | None, threshold: float | None) -> str:
    """One word for a predicted Dice: poor below the threshold, doubtful up to 0.1 above it, good from there.

    >>> [quality_word(q, 0.65) for q in (0.6, 0.7, 0.8, None)]
    ['poor', 'doubtful', 'good', 'unknown']
    """
    lowest = THRESHOLD if threshold is None else threshold
    if quality is None or quality != quality:
        return "unknown"
    if quality < lowest:
        return "poor"
    return "doubtful" if quality < lowest + DOUBTFUL else "good"


def quality_badge(quality: float | None, threshold: float | None) -> str:
    """The word and the number on its colour."""
    word = quality_word(quality, threshold)
    if word == "unknown":
        return '<span class="badge unknown">not estimated</span>'
    return f'<span class="badge {word}" title="{safe(quality_rule(threshold))}">{word} {number(quality, 2)}</span>'


def quality_bar(quality: float | None, threshold: float | None) -> str:
    """A bar from 0 to 1 with the number beside it."""
    word = quality_word(quality, threshold)
    if quality is None or word == "unknown":
        return '<span class="none">–</span>'
    share = min(max(quality, 0.0), 1.0)
    bar = f'<span class="bar" aria-hidden="true"><i class="{word}" style="width:{100 * share:.0f}%"></i></span>'
    return f"{bar}{number(quality, 2)}"


def quality_rule(threshold: float | None) -> str:
    """Where the words change."""
    lowest = THRESHOLD if threshold is None else threshold
    return f"predicted mean Dice: good from {lowest + DOUBTFUL:.2f}, doubtful from {lowest:.2f}, poor below"
