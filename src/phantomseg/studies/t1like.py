"""A contrast like that of T1-weighted scans, drawn once a head."""

from __future__ import annotations

import numpy as np

from phantomseg.labels import label_set

# mean and standard deviation of a T1-weighted scan between 0 and 255, by tissue and by name
T1_TISSUES = {
    "background": (0, 3), "white matter": (190, 9), "lesion": (150, 12), "cortical grey matter": (120, 9),
    "subcortical grey matter": (145, 9), "csf": (35, 9), "brain-stem": (175, 9), "vessel": (90, 25), "dura": (90, 15),
    "bone": (25, 10), "skin": (140, 20), "soft tissue": (130, 35), "cerebellum": (125, 9),
}  # fmt: skip
T1_NAMES = {
    "cerebellum white matter": (185, 9), "thalamus": (155, 9), "pallidum": (172, 9), "ventral DC": (170, 9),
    "cancellous bone": (170, 30), "eyes": (45, 10), "optic nerve": (160, 12), "spinal cord": (165, 12),
}  # fmt: skip


def draw_contrast(rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the set `generation`; means vary by 5 from head to head.

    >>> mean, std = draw_contrast(np.random.default_rng(0))
    >>> len(mean), mean[0], 150 < mean[1] < 230
    (55, 0.0, True)
    """
    labels = label_set("generation").labels
    pairs = np.array([T1_NAMES.get(x.structure, T1_TISSUES.get(x.tissue)) for x in labels], dtype=float)
    mean = pairs[:, 0] + np.where(pairs[:, 0] > 0, rng.normal(0, 5, len(pairs)), 0)
    return tuple(mean.tolist()), tuple(pairs[:, 1].tolist())
