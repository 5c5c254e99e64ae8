"""Grey values looked over: which kind of scan, and whether something cut, filled or flattened them."""

from __future__ import annotations

import numpy as np

from phantomseg.image.finding import Finding
from phantomseg.image.intensity import AIR_HU, HIGH, LOW, MOST_VALUES, SOFT_TISSUE_HU, is_tomography

FEWEST_VALUES = 16
MOST_CLIPPED = 0.01  # of the voxels above the lowest value
MOST_NEGATIVE = 0.01
STRIPPED = 0.3  # share of one lowest value that air does not have
MOST_EQUAL = 0.8  # share of neighbours of one value that grey values do not have
THINNING = 8  # every so many voxels tell whether a slice may hold one value
NAMED_SLICES = 5


def check_values(voxels: np.ndarray, ct: bool | None = None) -> tuple[Finding, ...]:
    """What the values of a scan tell, from a regular subset of them.

    Args:
        voxels: (I, J, K), finite.
        ct: whether it was said to be computed tomography, or not; by default, values tell.
    """
    flat = voxels.ravel(order="K")
    subset = np.sort(flat[:: -(-flat.size // MOST_VALUES) | 1])
    low, high = float(voxels.min()), float(voxels.max())
    grey = _grey(voxels, subset)
    clipped = (_clipped(subset, high),) if grey.level == "ok" else ()  # labels would seem so
    reach = f"values from {low:.4g} to {high:.4g}"
    kind = _kind(voxels, subset, low, reach) if ct is None else _told(ct, low, reach)
    return (kind, grey, *clipped, _slices(voxels))


def _told(ct: bool, low: float, reach: str) -> Finding:
    if ct and low >= SOFT_TISSUE_HU[0]:
        what = f"{reach}: no air as in Hounsfield units; taken as CT, as declared"
        return Finding("warning", what, "leave out --ct, unless it is CT in Hounsfield units")
    return Finding("ok", f"{reach}: {'CT in Hounsfield units' if ct else 'MR or other'}, as declared")


def _kind(voxels: np.ndarray, subset: np.ndarray, low: float, reach: str) -> Finding:
    if is_tomography(voxels):
        return Finding("ok", f"{reach}: CT in Hounsfield units")
    if low <= AIR_HU:
        fix = "say --ct if it is CT; nothing, for MR"
        return Finding("warning", f"{reach}: low for MR, but not those of CT; taken as MR", fix)
    negative = float((subset < 0).mean())
    if negative > MOST_NEGATIVE:
        what = f"{reach}, {100 * negative:.0f} % negative: normalised MR, or CT without its air"
        return Finding("warning", what, "nothing, for MR; for CT, give Hounsfield units from -1000 on")
    bare = float((subset == low).mean())
    around = f"{100 * bare:.0f} % are {low:.4g} (stripped or masked)" if bare > STRIPPED else "air around the head"
    return Finding("ok", f"{reach}: MR or other, {around}")


def _grey(voxels: np.ndarray, subset: np.ndarray) -> Finding:
    inner = subset[int(LOW * subset.size) : int(np.ceil(HIGH * subset.size))]
    count, inner_count = len(np.unique(subset)), len(np.unique(inner))
    fix = "give the grey scan itself"
    if count < FEWEST_VALUES:
        return Finding("warning", f"{count} grey values: looks like a mask or label map", fix)
    if _equal_neighbours(voxels) > MOST_EQUAL:
        return Finding("warning", "neighbours share one value nearly everywhere: looks like a label map", fix)
    if inner_count < FEWEST_VALUES:
        what = f"{inner_count} grey values, apart from a few bright or dark voxels: low contrast"
        return Finding("warning", what, "cut off the extreme values, or give the scan before it was converted")
    return Finding("ok", f"{'over 1000' if count > 1000 else count} grey values")


def _equal_neighbours(voxels: np.ndarray) -> float:
    """Share of neighbours along the first axis that are equal, among voxels above the lowest value."""
    some = voxels[:, :, :: max(1, voxels.shape[2] // THINNING)]
    first, second = some[:-1], some[1:]
    inside = first > some.min()
    return float((first == second)[inside].mean()) if inside.any() else 1.0


def _clipped(subset: np.ndarray, high: float) -> Finding:
    above = subset[subset > subset[0]]
    share = float((above == high).mean()) if above.size else 0.0
    if share > MOST_CLIPPED:
        what = f"{100 * share:.0f} % of the voxels above the lowest value have the highest: clipped"
        return Finding("warning", what, "give the scan before it was converted to fewer values")
    return Finding("ok", "bright values not clipped")


def _slices(voxels: np.ndarray) -> Finding:
    """Slices of one value between others, along any axis."""
    for axis in range(3):
        empty = _flat_slices(voxels, axis)
        full = np.flatnonzero(~empty)
        between = full[0] + np.flatnonzero(empty[full[0] : full[-1]]) if full.size else full
        if between.size:
            named = ", ".join(str(n) for n in between[:NAMED_SLICES]) + (", …" if between.size > NAMED_SLICES else "")
            what = f"{between.size} slices of one value among the others, along axis {axis}: {named}"
            return Finding("warning", what, "convert the scan again; what lies in them is not seen")
    return Finding("ok", "no empty slices inside")


def _flat_slices(voxels: np.ndarray, axis: int) -> np.ndarray:
    """Which slices along an axis hold one value, boolean."""
    stacked = np.moveaxis(voxels, axis, 0)
    thin = stacked[:, ::THINNING, ::THINNING]
    flat = thin.min(axis=(1, 2)) == thin.max(axis=(1, 2))
    for number in np.flatnonzero(flat):
        flat[number] = stacked[number].min() == stacked[number].max()
    return flat
