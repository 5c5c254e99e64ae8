"""Small heads are enlarged, in training and in use: the network knows heads of about one size."""

from __future__ import annotations

USUAL_ML = 1700.0  # of brain and fluid: that of a large adult
SMALL_ML = 800.0  # below, a head is an infant's
FETAL_ML = 30.0  # below, it is no human head


def enlargement(intracranial_ml: float) -> float:
    """Factor by which a head is enlarged along each axis, for its volume of brain and fluid; 1 for adults.

    >>> enlargement(1400.0), round(enlargement(500.0), 2)
    (1.0, 1.5)
    """
    return (USUAL_ML / intracranial_ml) ** (1 / 3) if FETAL_ML < intracranial_ml < SMALL_ML else 1.0
