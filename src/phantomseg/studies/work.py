"""Every task of a study by every tool: what is finished is kept, what fails is told, and the rest goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phantomseg.errors import ScanError, one_sentence
from phantomseg.image.files import write_image
from phantomseg.image.image import Image
from phantomseg.studies.kept import Row, keep, kept_rows
from phantomseg.studies.tools import Found, Tool, check_names

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
    pairs = [(task, tool) for task in tasks for tool in (tools if task.tools is None else task.tools)]
    _check(tasks, tools)
    rows: list[Row] = []
    failures: list[Failure] = []
    for number, (task, tool) in enumerate(pairs, start=1):
        path = folder / "work" / tool.name / f"{task.name}.json"
        told = {"version": VERSION, "tool": tool.told, "task": task.told}
        kept = kept_rows(path, told) if resume else None
        started = time.perf_counter()
        if kept is None:
            made, failed = _do(task, tool, folder)
            content = {"told": told, "rows": made, "failures": [vars(failure) for failure in failed]}
            keep(path, content)
        else:
            made, failed = kept, []
        facts = {"tool": tool.name, "task": task.name, **task.facts}
        rows += [{**facts, **row} for row in made]
        rows += [{**facts, "error": failure.sentence} for failure in failed]
        failures += failed
        seconds = time.perf_counter() - started
        report(Step(number, len(pairs), tool.name, task.name, seconds, kept is not None, failed))
    return rows, failures


def _check(tasks: list[Task], tools: list[Tool]) -> None:
    """Refuse tasks and tools whose results would overwrite each other's."""
    names = [task.name for task in tasks]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ScanError(f"two scans of this study are called {twice!r}, wanted names of their own; rename one of them")
    own = {tool.name: tool for task in tasks for tool in task.tools or ()}
    check_names([*dict.fromkeys(tool.name for tool in tools), *(name for name in own if own[name] not in tools)])


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
            where = f"{part.name}: " if part.name else ""
            failures.append(Failure(tool.name, task.name, where + one_sentence(error)))
    try:
        facts = {key: value for one in found.values() for key, value in one.facts.items()}
        rows = [{**facts, **row} for row in task.rows(tool, found)] if found else []
    except Exception as error:
        LOG.debug("%s failed on %s", tool.name, task.name, exc_info=True)
        return [], [*failures, Failure(tool.name, task.name, one_sentence(error))]
    return rows, failures


def _small(image: Image) -> Image:
    return image.with_voxels(image.voxels.astype(np.int16))
