"""From a fine label set to a coarser one: merges are tables, not code."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import numpy as np

from phantomseg.errors import LabelError
from phantomseg.labels.labelset import LabelSet, label_set

_TABLES = resources.files("phantomseg.labels") / "tables"


@dataclass(frozen=True)
class Merge:
    """Every source id with the id it becomes in `target`."""

    source_ids: tuple[int, ...]  # ascending
    target_ids: tuple[int, ...]
    target: LabelSet

    @cached_property
    def channels(self) -> np.ndarray:
        """Target channel of each source id, shape (C_source,)."""
        return self.target.index_of_ids(np.array(self.target_ids))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Label map of source ids as a label map of target ids, int32.

        Raises:
            LabelError: a value is no source id.

        >>> merge("head", "tissue").apply(np.array([2, 41, 515])).tolist()
        [2, 2, 4]
        """
        values = np.asarray(values)
        present = np.unique(values)
        unknown = np.setdiff1d(present, self.source_ids)
        if unknown.size:
            raise LabelError(
                f"label map holds value {unknown[0]} ({int((values == unknown[0]).sum())} voxels), "
                f"which has no place in set {self.target.name}; wanted values as in {self.source_ids[:6]}…"
            )
        place = np.searchsorted(self.source_ids, values)
        return np.asarray(self.target_ids, dtype=np.int32)[place]

    def only(self, ids: Iterable[int]) -> Merge:
        """The merge of some source ids.

        Raises:
            LabelError: some label of the target is made of none of them.
        """
        kept = set(ids)
        pairs = [pair for pair in zip(self.source_ids, self.target_ids, strict=True) if pair[0] in kept]
        sources, targets = zip(*pairs, strict=True)
        if lost := sorted(set(self.target_ids) - set(targets)):
            name = next(label.name for label in self.target.labels if label.id == lost[0])
            raise LabelError(
                f"label set {self.target.name} has {name!r}, which this model does not know; choose another set, "
                "or a newer model"
            )
        return Merge(sources, targets, self.target)


@cache
def merge(source: str, target: str) -> Merge:
    """The shipped merge of one set into another; a set merges into itself unchanged.

    Raises:
        LabelError: no such merge is shipped.
    """
    if source == target:
        ids = tuple(label_set(source).ids.tolist())
        return Merge(ids, ids, label_set(target))
    if not has_merge(source, target):
        raise LabelError(f"there is no merge from {source!r} to {target!r}; shipped are {', '.join(merge_names())}")
    lines = (_TABLES / f"{source}_to_{target}.csv").read_text(encoding="utf-8").splitlines()
    rows = sorted((int(row["source"]), int(row["target"])) for row in csv.DictReader(lines))
    sources, targets = zip(*rows, strict=True)
    return Merge(sources, targets, label_set(target))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a label table of one's own, by the names of its columns.

    Raises:
        LabelError: it cannot be read, or is no CSV in UTF-8.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise LabelError(f"label table {path} cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"label table {path} is no CSV in UTF-8 ({error}); save it as such") from error


def read_merge(path: Path, target: str) -> Merge:
    """A table of one's own: a CSV with the columns `source` (values) and `target` (ids, or names, of the set).

    Raises:
        LabelError: not such a table, a value twice, or an id or a name that the set does not have.
    """
    labels = label_set(target)
    by_name = {label.name: label.id for label in labels.labels}
    rows = read_rows(path)
    ids: dict[int, int] = {}
    for number, row in enumerate(rows, start=2):
        source, wanted = (str(row.get(key) or "").strip() for key in ("source", "target"))
        found = by_name.get(wanted, int(wanted) if wanted.isdecimal() else -1)
        if not source.isdecimal() or found not in labels.ids:
            raise LabelError(
                f"label table {path}, line {number} has source {source!r} and target {wanted!r}, wanted a whole "
                f"number, and an id or a name of the set {target}; correct it"
            )
        if int(source) in ids:
            raise LabelError(f"label table {path} has the source {source} twice, wanted it once; leave one out")
        ids[int(source)] = found
    if not ids:
        raise LabelError(f"label table {path} is empty, wanted lines with source and target; fill it in")
    sources = tuple(sorted({0: 0, **ids}))
    return Merge(sources, tuple({0: 0, **ids}[source] for source in sources), labels)


def has_merge(source: str, target: str) -> bool:
    """Whether `merge` of these two is shipped.

    >>> has_merge("head", "brain"), has_merge("brain", "head")
    (True, False)
    """
    return source == target or (_TABLES / f"{source}_to_{target}.csv").is_file()


def merge_names() -> list[str]:
    """Names of all shipped merges, as "source to target"."""
    names = (path.name.removesuffix(".csv") for path in _TABLES.iterdir() if "_to_" in path.name)
    return sorted(name.replace("_to_", " to ") for name in names)
