"""Distances near a surface, in a few passes over the volume: what moves surfaces by parts of a millimetre.

Iterated dilation moves a surface by whole voxels. A threshold on a distance moves it by any amount.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from phantomseg.image.pieces import in_pieces

CODE_BITS = 6
CODES = 2**CODE_BITS  # labels that fit beside a squared distance in 16 bits
FAR = 400  # squared distance that stands for "out of reach"
LONGEST_REACH = 9

# A voxel is a sample of a solid whose surface lies between the last centre inside and the first outside.
# On spheres of 8 to 30 voxels these two numbers bring the mean error of a threshold under 0.13 voxels.
SURFACE_OFFSET = 0.4
SEARCHED = ("cpu",)  # devices whose volumes are looked through for the part that matters
SURFACE_SIGMA = 0.7


def squared_distance(inside: torch.Tensor, reach: int) -> torch.Tensor:
    """Squared distance in voxels to the nearest voxel centre inside, int16, FAR beyond `reach` along an axis.

    >>> squared_distance(torch.tensor([True, False, False, False]).view(1, 1, 4), 2).flatten().tolist()
    [0, 1, 4, 400]
    """
    return _least(torch.where(inside, 0, FAR).to(torch.int16), reach, 1)


def nearest_label(labels: torch.Tensor, inside: torch.Tensor, reach: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distance as above, and the label (below CODES) of that nearest voxel inside.

    >>> labels = torch.tensor([7, 0, 0, 5], dtype=torch.uint8).view(1, 1, 4)
    >>> [x.flatten().tolist() for x in nearest_label(labels, labels > 0, 2)]
    [[0, 1, 1, 0], [7, 7, 5, 5]]
    """
    code = torch.where(inside, labels.to(torch.int16), FAR * CODES)
    code = _least(code, reach, CODES)
    return code >> CODE_BITS, (code & (CODES - 1)).to(labels.dtype)


def surface_distance(inside: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
    """Distance in voxels to the smooth surface of `inside`, negative within, float32; shapes (I, J, K).

    Right within the reach of `squared`, the squared distances outside.
    """
    # smoothing hardly sees deeper than the second layer within
    within = torch.where(with_faces(~inside), 1 - SURFACE_OFFSET, 2 - SURFACE_OFFSET)
    signed = torch.where(inside, -within, squared.float().sqrt_().sub_(SURFACE_OFFSET))
    for axis in range(3):
        signed = _smooth(signed, axis)
    return signed


def with_faces(mask: torch.Tensor) -> torch.Tensor:
    """A mask (I, J, K) and the voxels that touch it by a face.

    >>> with_faces(torch.tensor([False, False, True]).view(1, 1, 3)).flatten().tolist()
    [False, True, True]
    """
    return _spread(mask, 0) | _spread(mask, 1) | _spread(mask, 2)


def with_edges(mask: torch.Tensor) -> torch.Tensor:
    """A mask (I, J, K) and the voxels that touch it by a face or an edge.

    >>> with_edges(torch.eye(3)[:1, :, None] > 0).flatten().tolist()
    [True, True, False]
    """
    along_i = _spread(mask, 0)
    return _spread(along_i, 1) | _spread(along_i, 2) | _spread(_spread(mask, 1), 2)


def with_corners(mask: torch.Tensor) -> torch.Tensor:
    """A mask (..., I, J, K) and the voxels that touch it by a face, an edge or a corner.

    >>> with_corners(torch.eye(3)[:1, :, None] > 0).flatten().tolist()
    [True, True, False]
    """
    return _spread(_spread(_spread(mask, -3), -2), -1)


def _spread(mask: torch.Tensor, axis: int) -> torch.Tensor:
    """The mask and its neighbours along one axis."""
    size, spread = mask.shape[axis], mask.clone()
    if size > 1:
        spread.narrow(axis, 1, size - 1).logical_or_(mask.narrow(axis, 0, size - 1))
        spread.narrow(axis, 0, size - 1).logical_or_(mask.narrow(axis, 1, size - 1))
    return spread


def signed_distance(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """Distance in voxels to the surface of a mask (I, J, K), negative within, float32, cut off at `reach` both ways.

    The surface runs half-way between the last voxel inside and the first outside: distances are those between centres
    of voxels, less a half, and so up to 0.3 voxels short of those to a smooth surface.

    Raises:
        ValueError: the reach is beyond LONGEST_REACH.

    >>> mask = torch.tensor([1, 1, 0, 0, 0, 0]).view(1, 1, 6).expand(9, 9, 6) > 0
    >>> signed_distance(mask, 3)[4, 4].tolist()
    [-1.5, -0.5, 0.5, 1.5, 2.5, 3.0]
    """
    outside, within = (squared_distance(part, reach).float().sqrt_() for part in (mask, ~mask))
    return torch.where(mask, 0.5 - within, outside - 0.5).clamp_(-reach, reach)


def _smooth(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Weighted mean of each voxel and its neighbours along one axis, with the variance of SURFACE_SIGMA."""
    side, size = SURFACE_SIGMA**2 / 2, volume.shape[axis]
    smooth = volume * (1 - 2 * side)
    for low, high in ((0, 1), (1, 0)):
        smooth.narrow(axis, high, size - 1).add_(volume.narrow(axis, low, size - 1), alpha=side)
    for end in (0, size - 1):  # which is its own neighbour
        smooth.narrow(axis, end, 1).add_(volume.narrow(axis, end, 1), alpha=side)
    return smooth


def meeting_box(inside: torch.Tensor, other: torch.Tensor, reach: int) -> tuple[slice, slice, slice]:
    """Voxels that hold all of `other` within reach of `inside`, and all of `inside` within reach of that.

    On a GPU that is all of them, as finding out which would have to be waited for.

    >>> inside, other = torch.zeros(2, 1, 1, 9, dtype=torch.bool)
    >>> inside[..., 2], other[..., 4:] = True, True
    >>> meeting_box(inside, other, 2)[2]
    slice(2, 7, None)
    """
    slices = []
    if inside.device.type not in SEARCHED:
        return slice(0, inside.shape[0]), slice(0, inside.shape[1]), slice(0, inside.shape[2])
    for size, profile, other_profile in zip(inside.shape, _profiles(inside), _profiles(other), strict=True):
        (low, high), (other_low, other_high) = _ends(profile), _ends(other_profile)
        low, high = max(low - reach, other_low), min(high + reach, other_high)  # where they may meet
        slices.append(slice(max(0, low - reach), min(size, high + reach + 1)))
    i, j, k = slices
    return i, j, k


def _profiles(mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Along each axis, which slices hold anything."""
    ones = mask.view(torch.uint8)  # whose largest is found sooner than whether any is true
    plane = ones.amax(2)
    return plane.amax(1), plane.amax(0), ones.amax(0).amax(0)


def _ends(profile: torch.Tensor) -> tuple[int, int]:
    """First and last element above 0; 0 and -1 where there is none."""
    places = profile.nonzero().flatten().tolist()
    return (places[0], places[-1]) if places else (0, -1)


def _least(values: torch.Tensor, reach: int, unit: int) -> torch.Tensor:
    """Least of `values + unit · offset²` within reach, one axis after the other (exact for Euclidean distance)."""
    if not 1 <= reach <= LONGEST_REACH:
        raise ValueError(f"reach is {reach} voxels, wanted 1 to {LONGEST_REACH}")
    bordered = F.pad(values, [1] * 6, value=FAR * unit)
    along_i = bordered.flatten(1)
    for piece in in_pieces(along_i, 1):
        _sweep(piece, 0, reach, unit)
    for piece in in_pieces(bordered, 0):
        _sweep(piece, 1, reach, unit)
        _sweep(piece, 2, reach, unit)
    return bordered[1:-1, 1:-1, 1:-1].clamp(max=FAR * unit + unit - 1)


def _sweep(values: torch.Tensor, axis: int, reach: int, unit: int) -> None:
    """Least of `values + unit · offset²` along one axis with a border, in place.

    The square is a sum of odd numbers, so each round looks at both neighbours alone.
    """
    size = values.shape[axis] - 2
    low, here, high = (values.narrow(axis, first, size) for first in range(3))
    moved = torch.empty_like(here)
    for step in range(min(reach, size - 1)):
        torch.minimum(low, high, out=moved)
        moved += unit * (2 * step + 1)
        torch.minimum(here, moved, out=here)
