"""Rows of finished tasks on disk, and by what it is told that they came from the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from phantomseg.image.files import write_atomically
from phantomseg.labels import Merge

Row = dict[str, Any]


def file_told(paths: Iterable[Path | None]) -> Row:
    """Size and time of files, by which a change is seen."""
    told = {}
    for path in paths:
        if path is not None and path.exists():
            about = path.stat()
            told[str(path)] = [about.st_size, about.st_mtime_ns]
    return told


def digest(value: Any) -> str:
    """Short checksum of anything JSON can hold.

    >>> digest([1, "a"]) == digest([1, "a"]) != digest([1, "b"])
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:12]


def table_digest(table: Merge) -> str:
    """Checksum of what a label table makes of each value."""
    return digest([table.source_ids, table.target_ids])


def keep(path: Path, content: Row) -> None:
    """Write what a task left: `told`, `rows` and `failures`."""
    text = json.dumps(content, indent=1, default=_plain)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def kept_rows(path: Path, told: Row) -> list[Row] | None:
    """Rows that a finished task left, None where there are none of the same origin."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = content["told"] == json.loads(json.dumps(told, default=_plain))
        return content["rows"] if same and not content["failures"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
