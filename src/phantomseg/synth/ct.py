"""Contrast of computed tomography: dark air, bright bone, soft tissues close together, seen in a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phantomseg.labels import LabelSet

SCALE = 255.0


@dataclass(frozen=True)
class Attenuation:
    """Range of the mean in Hounsfield units, or several, one after the other for the sub-classes."""

    ranges: tuple[tuple[float, float], ...]
    noise: float = 1.0  # relative to the sample's


# Usual values at 120 kV; fat and muscle share the label of other soft tissue.
BRAIN = Attenuation(((26, 42),))
BY_TISSUE = {
    "background": Attenuation(((-1000, -980),)),
    "white matter": Attenuation(((22, 32),)),
    "lesion": Attenuation(((12, 30),)),
    "cortical grey matter": Attenuation(((32, 44),)),
    "subcortical grey matter": Attenuation(((30, 44),)),
    "csf": Attenuation(((0, 15),)),
    "vessel": Attenuation(((35, 75),)),
    "dura": Attenuation(((45, 90),)),
    "skin": Attenuation(((-20, 60),)),
    "bone": Attenuation(((500, 1700),), 6.0),
    "soft tissue": Attenuation(((-110, -70), (35, 75), (-110, 75), (10, 60))),
    "grey matter": Attenuation(((22, 44),)),
}
BY_NAME = {
    "cancellous bone": Attenuation(((150, 700),), 6.0),
    "eyes": Attenuation(((0, 25),)),
    "mucosa": Attenuation(((-900, 60), (0, 60), (-900, 60), (20, 70)), 2.0),
    "optic nerve": Attenuation(((20, 45),)),
    "optic chiasm": Attenuation(((20, 45),)),
    "spinal cord": Attenuation(((20, 45),)),
}
NOISE_HU = (1.0, 12.0)
CONTRAST_AGENT = (0.15, (100.0, 400.0))  # probability, and what vessels then reach
# probability, range of the lower end, range of the upper end
WINDOWS = (
    (0.10, (-1050.0, -500.0), (1000.0, 3000.0)),
    (0.75, (-250.0, -50.0), (150.0, 500.0)),
    (0.15, (-30.0, 5.0), (60.0, 130.0)),
)


def draw_ct(rng: np.random.Generator, subclasses: int, labels: LabelSet) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and spread of each channel and sub-class, and the end of the window, on 0 to 255."""
    noise = rng.uniform(*NOISE_HU)
    agent = rng.uniform() < CONTRAST_AGENT[0]
    vessel = rng.uniform(*CONTRAST_AGENT[1])
    groups: dict[str, np.ndarray] = {}
    mean, std = [], []
    for label in labels.labels:
        kind = BY_NAME.get(label.name, BY_TISSUE.get(label.tissue, BRAIN))
        if label.contrast not in groups:  # left and right attenuate alike
            low, high = np.array(kind.ranges).T
            values = rng.uniform(low, high)
            groups[label.contrast] = np.resize(values, subclasses)
        drawn = groups[label.contrast]
        mean.append(np.full(subclasses, vessel) if agent and label.tissue == "vessel" else drawn)
        std.append(np.full(subclasses, noise * kind.noise))
    low, high = _draw_window(rng)
    scale = SCALE / (high - low)
    return (np.concatenate(mean) - low) * scale, np.concatenate(std) * scale, SCALE


def _draw_window(rng: np.random.Generator) -> tuple[float, float]:
    kind = int(rng.choice(len(WINDOWS), p=[window[0] for window in WINDOWS]))
    _, lows, highs = WINDOWS[kind]
    return rng.uniform(*lows), rng.uniform(*highs)
