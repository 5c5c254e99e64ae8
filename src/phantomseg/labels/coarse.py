"""Label maps that tell fewer labels apart than the set `generation`: what each of their values may stand for.

A network that predicts fine labels can learn from coarse ones, as probabilities of what a map does not tell apart are
summed before the loss. Nothing is invented: a map without sides teaches no sides.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from scipy import ndimage

from phantomseg.errors import LabelError
from phantomseg.labels.labelset import label_set
from phantomseg.labels.merge import read_rows

FINEST = "generation"
NOTHING = "unlabelled"
UNLABELLED = 255  # in place of a channel: the map does not say what a voxel is
STAND_INS = (85, 509, 508, 506)  # labels outside the brain; unlabelled voxels are painted as the first that a map lacks
WHITE, LESION = (2, 41), (25, 57)
_TABLES = resources.files("phantomseg.labels") / "templates"


@dataclass(frozen=True, eq=False)
class CoarseLabels:
    """Values of a kind of label map.

    `channels` holds the channel of `generation` that each of `values` is painted as; `groups`, for each channel of
    `generation`, the lowest channel that such maps do not tell from it, UNLABELLED for the one that stands in for what
    has no label. Values in `nearest` become the label of the nearest voxel of some others.
    """

    name: str
    values: np.ndarray  # (N,) ascending
    channels: np.ndarray  # (N,) uint8
    groups: np.ndarray  # (G,) uint8
    nearest: tuple[tuple[int, tuple[int, ...]], ...] = ()  # values, and the channels they choose from

    def apply(self, voxels: np.ndarray) -> np.ndarray:
        """Channels of `generation` of a label map, uint8.

        Raises:
            LabelError: a value that the table does not have, or one that becomes the nearest of what is not there.

        >>> channels = coarse_labels("siam").apply(np.array([0, 2]))
        >>> label_set(FINEST).ids[channels].tolist()
        [0, 2]
        """
        place = np.minimum(np.searchsorted(self.values, voxels), len(self.values) - 1)
        unknown = self.values[place] != voxels
        if unknown.any():
            value = int(voxels[unknown].min())
            raise LabelError(
                f"it holds value {value} in {int((voxels == value).sum())} voxels, which the label set {self.name!r} "
                f"does not know; wanted {', '.join(map(str, self.values[:8]))} …; map it to one of these, or add a row"
            )
        channels: np.ndarray = self.channels[place]
        undecided = np.isin(voxels, [value for value, _ in self.nearest])
        for value, choice in self.nearest:
            mask = voxels == value
            if mask.any():
                away = ~np.isin(channels, choice) | undecided
                if away.all():
                    ids = ", ".join(str(label_set(FINEST).ids[one]) for one in choice)
                    raise LabelError(
                        f"it holds value {value}, which becomes the nearest of the labels {ids}, and none of these; "
                        "give the value a label of its own"
                    )
                index = ndimage.distance_transform_edt(away, return_distances=False, return_indices=True)
                channels[mask] = channels[tuple(index[:, mask])]
        return channels


@cache
def coarse_labels(name: str) -> CoarseLabels:
    """What values of label maps mean: the set `generation`, a shipped table, or the path of a CSV table of one's own.

    A table has the columns `value` and `labels`: ids of the set `generation` that the value may stand for, painted as
    the first of them; "nearest" and ids, of which each voxel becomes the nearest; or "unlabelled".

    Raises:
        LabelError: no such table, or one that is not as said.

    >>> coarse_labels("fetal").values.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    finest = label_set(FINEST)
    if name == FINEST:
        every = np.arange(len(finest), dtype=np.uint8)
        return CoarseLabels(name, finest.ids, every, every)
    if name.endswith(".csv"):
        return _parse(name, read_rows(Path(name)))
    if name not in coarse_names():
        raise LabelError(
            f"there is no table of the label maps {name!r}; choose one of {', '.join([FINEST, *coarse_names()])}, or "
            "give the path of a .csv with the columns value and labels"
        )
    lines = (_TABLES / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return _parse(name, list(csv.DictReader(lines)))


def coarse_names() -> list[str]:
    """Names of the shipped tables.

    >>> coarse_names()
    ['brainweb', 'fetal', 'freesurfer', 'siam']
    """
    return sorted(path.name.removesuffix(".csv") for path in _TABLES.iterdir() if path.name.endswith(".csv"))


def _parse(name: str, rows: list[dict[str, str]]) -> CoarseLabels:
    meant: dict[int, list[int]] = {}
    nearest: dict[int, list[int]] = {}
    for number, row in enumerate(rows, start=2):
        value, words = str(row.get("value") or "").strip(), str(row.get("labels") or "").split()
        is_nearest, is_nothing = words[:1] == ["nearest"], words == [NOTHING]
        ids = [] if is_nothing else _ids(words[is_nearest:])
        if not value.isdecimal() or (not ids and (not is_nothing or value == "0")):
            raise LabelError(
                f"label table {name}, line {number} has value {value!r} and labels {row.get('labels')!r}, wanted a "
                "whole number, and ids of the set 'generation' or, but for 0, the word unlabelled; correct it"
            )
        if int(value) in meant:
            raise LabelError(f"label table {name} has the value {value} twice, wanted it once; leave one out")
        meant[int(value)] = ids
        if is_nearest:
            nearest[int(value)] = ids
    if not meant:
        raise LabelError(f"label table {name} is empty, wanted lines with value and labels; fill it in")
    used = {label for ids in meant.values() for label in ids}
    free = [label for label in STAND_INS if label not in used]
    if [] in meant.values() and not free:
        raise LabelError(f"label table {name} has unlabelled voxels and all of {STAND_INS}; leave one of these out")
    painted = {value: (ids or free)[0] for value, ids in sorted(meant.items())}
    groups = _joined([ids for value, ids in meant.items() if ids and value not in nearest])
    if [] in meant.values():
        groups[_channels(free[:1])] = UNLABELLED
    choices = tuple((value, tuple(_channels(ids))) for value, ids in nearest.items())
    return CoarseLabels(name, np.array(list(painted)), np.array(_channels(painted.values()), np.uint8), groups, choices)


def _ids(words: list[str]) -> list[int]:
    """Ids of the set, none where one of the words is no such id."""
    ids = [int(word) for word in words if word.isdecimal()]
    return ids if len(ids) == len(words) and (label_set(FINEST).index_of_ids(np.array(ids, int)) >= 0).all() else []


def _channels(ids: Iterable[int]) -> list[int]:
    found: list[int] = label_set(FINEST).index_of_ids(np.array(list(ids))).tolist()
    return found


def _joined(sets: list[list[int]]) -> np.ndarray:
    """Lowest channel of all that are joined by some of the sets of ids, (G,)."""
    count, joined = len(label_set(FINEST)), [_channels(ids) for ids in sets]
    groups = join(count, joined)
    left, right = groups[_channels(WHITE)]
    if left != right:
        return groups
    # lesions are pasted into whatever is painted as white matter: they have its sides, and are no class of their own
    # where that is more than the cerebrum's
    is_more = (groups == left).sum() > len(WHITE)
    return join(count, [*joined, _channels([*LESION, *WHITE[:1]] if is_more else LESION)])


def join(count: int, sets: list[list[int]]) -> np.ndarray:
    """For each of `count` channels the lowest one that it is joined with, uint8.

    >>> join(5, [[1, 3], [3, 4]]).tolist()
    [0, 1, 2, 1, 1]
    """
    groups = np.arange(count, dtype=np.uint8)
    for members in sets:
        found = np.unique(groups[members])
        groups[np.isin(groups, found)] = found[0]
    return groups
