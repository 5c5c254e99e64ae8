"""What a voxel value means."""

from phantomseg.labels.labelset import Label, LabelSet, label_set, label_set_names
from phantomseg.labels.merge import Merge, merge

__all__ = ["Label", "LabelSet", "Merge", "label_set", "label_set_names", "merge"]
