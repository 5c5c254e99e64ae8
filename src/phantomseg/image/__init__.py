"""Where a voxel is."""

from phantomseg.image.image import Image

__all__ = ["Image"]
