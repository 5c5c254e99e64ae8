"""Every task of a study by every tool: what is finished is kept, what fails is told, and the rest goes on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phantomseg.errors import one_sentence
from phantomseg.image.files import write_atomically, write_image
from phantomseg.image.image import Image
from phantomseg.studies.tools import Found, Tool

Row = dict[str, Any]
LOG = logging.getLogger(__name__)
VERSION = 1  # of what rows mean; raised when they change


@dataclass(frozen=True)
class Part:
    """One scan of a task; `file` is where it lies unchanged, if it does."""

    name: str
    make: Callable[[], Image]
    file: Path | None = None


@dataclass(frozen=True)
class Task:
    """One or more scans that belong together, and what is measured on their label maps."""

    name: str  # unique in the study, fit for a file
    facts: Row  # columns of each row: dataset, scan, condition
    parts: tuple[Part, ...]
    rows: Callable[[Tool, dict[str, Found]], list[Row]]
    told: Row = field(default_factory=dict)  # the task is done again when this changes
    tools: tuple[Tool, ...] | None = None  # where these are not the study's


@dataclass(frozen=True)
class Failure:
    """A scan that a tool did not do, and why, in a sentence; no tool is named where the data are at fault."""

    tool: str
    scan: str
    sentence: str


@dataclass
class Step:
    """What was just done, for who follows."""

    number: int
    count: int
    tool: str
    task: str
    seconds: float
    skipped: bool
    failures: list[Failure]


def carry_out(
    tasks: list[Task], tools: list[Tool], folder: Path, resume: bool, report: Callable[[Step], None]
) -> tuple[list[Row], list[Failure]]:
    """Rows of all tasks by all tools, in their order, and what failed.

    Each task's rows are kept in `folder/work`, its label maps in `folder/maps`; with `resume`, those that came from
    the same files, tool and settings are not made again. What failed is tried again.
    """
    pairs = [(task, tool) for task in tasks for tool in task.tools or tools]
    rows: list[Row] = []
    failures: list[Failure] = []
    for number, (task, tool) in enumerate(pairs, start=1):
        path = folder / "work" / tool.name / f"{task.name}.json"
        told = {"version": VERSION, "tool": tool.told, "task": task.told}
        kept = _kept(path, told) if resume else None
        started = time.perf_counter()
        if kept is None:
            made, failed = _do(task, tool, folder)
            content = {"told": told, "rows": made, "failures": [vars(failure) for failure in failed]}
            _keep(path, content)
        else:
            made, failed = kept, []
        facts = {"tool": tool.name, "task": task.name, **task.facts}
        rows += [{**facts, **row} for row in made]
        rows += [{**facts, "error": failure.sentence} for failure in failed]
        failures += failed
        seconds = time.perf_counter() - started
        report(Step(number, len(pairs), tool.name, task.name, seconds, kept is not None, failed))
    return rows, failures


def file_told(paths: Iterable[Path | None]) -> Row:
    """Size and time of files, by which a change is seen."""
    told = {}
    for path in paths:
        if path is not None and path.exists():
            about = path.stat()
            told[str(path)] = [about.st_size, about.st_mtime_ns]
    return told


def _do(task: Task, tool: Tool, folder: Path) -> tuple[list[Row], list[Failure]]:
    found: dict[str, Found] = {}
    failures = []
    for part in task.parts:
        name = f"{task.name}_{part.name}" if part.name else task.name
        try:
            made = tool.find(part.make(), name, part.file)
            write_image(folder / "maps" / tool.name / f"{name}.nii.gz", _small(made.image))
            found[part.name] = made
        except Exception as error:  # whatever it is, the other scans are to be done
            LOG.debug("%s failed on %s", tool.name, name, exc_info=True)
            failures.append(Failure(tool.name, name, one_sentence(error)))
    try:
        facts = {key: value for one in found.values() for key, value in one.facts.items()}
        rows = [{**facts, **row} for row in task.rows(tool, found)] if found else []
    except Exception as error:
        LOG.debug("%s failed on %s", tool.name, task.name, exc_info=True)
        return [], [*failures, Failure(tool.name, task.name, one_sentence(error))]
    return rows, failures


def _keep(path: Path, content: Row) -> None:
    text = json.dumps(content, indent=1, default=_plain)
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _small(image: Image) -> Image:
    return image.with_voxels(image.voxels.astype(np.int16))


def _kept(path: Path, told: Row) -> list[Row] | None:
    """Rows that a finished task left, None where there are none of the same origin."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = content["told"] == json.loads(json.dumps(told, default=_plain))
        return content["rows"] if same and not content["failures"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
