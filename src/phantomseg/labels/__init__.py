"""What a voxel value means."""

from phantomseg.labels.coarse import UNLABELLED, CoarseLabels, coarse_labels, coarse_names, join
from phantomseg.labels.labelset import Label, LabelSet, label_set, label_set_names
from phantomseg.labels.merge import Merge, has_merge, merge, read_merge

__all__ = [
    "UNLABELLED",
    "CoarseLabels",
    "Label",
    "LabelSet",
    "Merge",
    "coarse_labels",
    "coarse_names",
    "has_merge",
    "join",
    "label_set",
    "label_set_names",
    "merge",
    "read_merge",
]
