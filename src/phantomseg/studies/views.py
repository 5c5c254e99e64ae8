"""Four ways to look at a label map: sides apart, sides merged, tissues, foreground.

A structure is scored where both the tool and the reference can give it; what one of them cannot tell apart is not
held against it.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType

import numpy as np

from phantomseg.evaluation.laterality import merge_sides
from phantomseg.labels import label_set, merge
from phantomseg.studies.plan import EVALUATION

SIDES, MERGED, TISSUES, FOREGROUND = "sides apart", "sides merged", "tissues", "foreground"
VIEWS = (SIDES, MERGED, TISSUES, FOREGROUND)
# fluid around the brain is not among them, as protocols differ most there
SIXTEEN = (
    "cerebral white matter",
    "cerebral cortex",
    "lateral ventricle",
    "cerebellum white matter",
    "cerebellum cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "hippocampus",
    "amygdala",
    "3rd ventricle",
    "4th ventricle",
    "brain-stem",
    "accumbens area",
    "ventral DC",
)
LUMPS = {654: ("grey matter", "white matter"), 656: ("ventricles", FOREGROUND)}  # what one label cannot be split into
MEAN = "mean"  # of those of the sixteen that are scored


def structures_of(
    view: str, tool_ids: frozenset[int], reference_ids: frozenset[int], only: tuple[str, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Structures of a view that both can give, and the ids of each.

    Args:
        view: one of VIEWS.
        tool_ids: ids of `evaluation` that the tool can give.
        reference_ids: those of the reference.
        only: structures, without their side, that are wanted; all where there are none.
    """
    groups = _groups(view)
    if view in (SIDES, MERGED):
        wanted = {name: ids for name, ids in groups.items() if not only or _base(name) in only}
        return {name: ids for name, ids in wanted.items() if tool_ids & set(ids) and reference_ids & set(ids)}
    if only:
        ids = tuple(i for name in only for i in _groups(MERGED).get(name, ()))
        both = structures_of(MERGED, tool_ids, reference_ids, only)
        return {FOREGROUND: ids} if view == FOREGROUND and len(both) == len(only) else {}
    lumped = {name for i in tool_ids | reference_ids for name in LUMPS.get(i, ())}
    return {name: ids for name, ids in groups.items() if name not in lumped}


def numbered(values: np.ndarray, structures: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Label map with n where the n-th structure is, counted from 1."""
    table = np.zeros(int(label_set(EVALUATION).ids.max()) + 1, dtype=np.int32)
    for number, ids in enumerate(structures.values(), start=1):
        table[list(ids)] = number
    return np.asarray(table[values])


@cache
def _groups(view: str) -> MappingProxyType[str, tuple[int, ...]]:
    labels = label_set(EVALUATION)
    lumps = {label.id for label in labels.labels if 650 <= label.id < 700}
    if view == MERGED:
        groups = {name: ids for name, ids in merge_sides(labels).items() if not lumps & set(ids)}
    elif view == SIDES:
        sided = {label.structure for label in labels.labels if label.side}
        groups = {
            label.name: (label.id,)
            for label in labels.labels[1:]
            if label.id not in lumps and (label.side or label.name not in sided)
        }
    else:
        table = merge(EVALUATION, "matter" if view == TISSUES else "mask")
        names = {label.id: label.name for label in table.target.labels[1:]}
        pairs = list(zip(table.source_ids, table.target_ids, strict=True))
        groups = {
            name if view == TISSUES else FOREGROUND: tuple(s for s, t in pairs if t == target)
            for target, name in names.items()
        }
    return MappingProxyType(groups)


def _base(name: str) -> str:
    return name.removeprefix("left ").removeprefix("right ")
