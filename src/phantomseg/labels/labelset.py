"""What a voxel value means: sets of labels, read from CSV tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numpy as np

from phantomseg.errors import LabelError

_TABLES = resources.files("phantomseg.labels") / "tables"
SIDES = ("left", "right")
HELPERS = {"healthy", "outer", "plexus", "refined"}  # that refining asks a model for beside those that users want
OUTSIDE_BRAIN = {"bone", "dura", "skin", "soft tissue", "vessel"}


@dataclass(frozen=True)
class Label:
    """One value of a label map: its name, side, tissue group and colour."""

    id: int
    name: str
    side: str  # "left", "right" or ""
    tissue: str
    color: str  # "#rrggbb"
    contrast: str = ""  # structures of one contrast group look alike in synthesis
    topology: str = ""  # structures of one group form one connected piece
    parent: str = ""  # id of the label that it was a part of before the set told the two apart

    @property
    def structure(self) -> str:
        """Name without its side: "putamen" for "left putamen"."""
        return self.name.removeprefix(f"{self.side} ") if self.side else self.name


@dataclass(frozen=True)
class LabelSet:
    """Labels in ascending order of id; position in the set is the network's channel."""

    name: str
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        ids = [label.id for label in self.labels]
        if ids != sorted(set(ids)) or not ids or ids[0] != 0:
            raise LabelError(
                f"label set {self.name} has ids {ids[:5]}…, wanted unique ascending ids "
                "that start with 0 for background; sort the table"
            )
        if len(set(self.names)) != len(ids):
            raise LabelError(f"label set {self.name} has a name twice; give each label its own")
        for label in self.labels:
            self._check_side(label)

    def _check_side(self, label: Label) -> None:
        first = label.name.split(" ", 1)[0]
        if label.side != (first if first in SIDES else ""):
            raise LabelError(
                f"label {label.id} of set {self.name} is named {label.name!r} but has side {label.side!r}; "
                "make the two agree"
            )
        if label.side:
            other = SIDES[1 - SIDES.index(label.side)]
            if f"{other} {label.structure}" not in self.names:
                raise LabelError(f"label {label.name!r} of set {self.name} has no {other} partner; add it to the table")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Label names in channel order."""
        return tuple(label.name for label in self.labels)

    @property
    def brain_alone(self) -> bool:
        """Whether every label is part of the brain or of the CSF around it.

        >>> label_set("freesurfer").brain_alone, label_set("siam").brain_alone
        (True, False)
        """
        return not OUTSIDE_BRAIN & {label.tissue for label in self.labels}

    @cached_property
    def ids(self) -> np.ndarray:
        """Label ids in channel order, shape (C,)."""
        return np.array([label.id for label in self.labels], dtype=np.int32)

    @cached_property
    def mirror(self) -> np.ndarray:
        """Channel of the other side's label (its own where there is no side), shape (C,).

        >>> freesurfer = label_set("freesurfer")
        >>> left = freesurfer.names.index("left putamen")
        >>> freesurfer.names[freesurfer.mirror[left]]
        'right putamen'
        """
        position = {name: i for i, name in enumerate(self.names)}
        other = {"left": "right", "right": "left"}
        return np.array(
            [
                position[f"{other[label.side]} {label.structure}"] if label.side else i
                for i, label in enumerate(self.labels)
            ]
        )

    def index_of_ids(self, values: np.ndarray) -> np.ndarray:
        """Channel of each id, -1 where the set does not hold it.

        >>> label_set("brain").index_of_ids(np.array([0, 2, 77])).tolist()
        [0, 2, -1]
        """
        values = np.asarray(values)
        place = np.searchsorted(self.ids, values)
        place = np.minimum(place, len(self) - 1)
        return np.where(self.ids[place] == values, place, -1)

    def only(self, ids: Iterable[int]) -> LabelSet:
        """The labels with these ids: what a model knows that was trained before others were added to the set.

        Raises:
            LabelError: an id that the set does not hold.

        >>> label_set("tissue").only([0, 2, 3]).names
        ('background', 'white matter', 'cerebrospinal fluid')
        """
        kept = set(ids)
        if unknown := sorted(kept - set(self.ids.tolist())):
            raise LabelError(f"label set {self.name} has no id {unknown[0]}; wanted some of {self.ids.tolist()}")
        return LabelSet(self.name, tuple(label for label in self.labels if label.id in kept))

    def channels_before(self, count: int) -> np.ndarray:
        """Channel of each label in the set as it was when it had `count` labels, shape (C,): its parent's if it is new.

        Raises:
            LabelError: it never had so many.

        >>> head = label_set("head")
        >>> white, lesion = head.index_of_ids(np.array([2, 25]))
        >>> before = head.channels_before(45)
        >>> bool(before[lesion] == before[white])
        True
        """
        if count == len(self):
            return np.arange(count)
        first = [label.id for label in self.labels if not label.parent]
        if count != len(first):
            raise LabelError(f"label set {self.name} has {len(self)} labels, and never had {count}; train again")
        parents = np.array([int(label.parent or label.id) for label in self.labels])
        return self.only(first).index_of_ids(parents)

    def group_indices(self, attribute: str) -> dict[str, tuple[int, ...]]:
        """Channels that share a value of `attribute`, those without a value left out.

        >>> len(label_set("head").group_indices("topology"))
        23
        """
        groups: dict[str, list[int]] = {}
        for i, label in enumerate(self.labels):
            key = getattr(label, attribute)
            if key:
                groups.setdefault(key, []).append(i)
        return {key: tuple(members) for key, members in groups.items()}


@cache
def label_set(name: str) -> LabelSet:
    """A shipped label set by name.

    Raises:
        LabelError: there is no such set.
    """
    table = _TABLES / f"{name}.csv"
    if "_to_" in name or not table.is_file():
        offered = ", ".join(one for one in label_set_names() if one not in HELPERS)
        raise LabelError(f"there is no label set {name!r}; choose one of {offered}")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return LabelSet(name, tuple(Label(int(row.pop("id")), **row) for row in rows))


def label_set_names() -> list[str]:
    """Names of all shipped label sets.

    >>> ", ".join(name for name in label_set_names() if name > "h")
    'head, healthy, intracranial, lesions, manual, mask, matter, outer, plexus, refined, shapes, siam, tissue'
    """
    names = (path.name.removesuffix(".csv") for path in _TABLES.iterdir() if path.name.endswith(".csv"))
    return sorted(name for name in names if "_to_" not in name)
