"""What a voxel value means."""

from phantomseg.labels.labelset import Label, LabelSet, label_set, label_set_names
from phantomseg.labels.merge import Merge, has_merge, merge, read_merge

__all__ = ["Label", "LabelSet", "Merge", "has_merge", "label_set", "label_set_names", "merge", "read_merge"]
