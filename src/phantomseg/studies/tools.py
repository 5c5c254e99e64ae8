"""Segmenters that can be measured: a model of ours, any command, or a folder of finished label maps.

Whatever a tool writes becomes a label map of the set `evaluation`, on the grid of the scan.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage

from phantomseg.errors import ScanError
from phantomseg.image.files import read_labels, stem, write_image
from phantomseg.image.image import Image
from phantomseg.inference.segment import INTRACRANIAL, segment
from phantomseg.labels import Merge, merge
from phantomseg.models import find_model, model_names
from phantomseg.network.model import Model
from phantomseg.studies.kept import file_told, table_digest
from phantomseg.studies.plan import EVALUATION, Plan, take, to_evaluation

TOOL_KEYS = {
    "model": ("model", "flip"),
    "command": ("command", "labels", "resample", "timeout_s"),
    "folder": ("folder", "map", "labels", "resample"),
}


@dataclass(frozen=True, eq=False)
class Found:
    """What a tool made of a scan: a label map of `evaluation`, and volumes by name where it tells better ones."""

    image: Image
    volumes_mm3: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # more columns of its rows


class Tool(Protocol):
    """What a study asks of a segmenter."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""

    @property
    def told(self) -> dict[str, Any]:
        """What it is; a result is made again when this changes."""

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Label a scan, which lies unchanged in `file` where that is not None."""


@dataclass(frozen=True, eq=False)
class ModelTool:
    """A model of the package, or a folder that training wrote."""

    name: str
    model: Model
    flip: bool = True

    @property
    def labels(self) -> str:
        """Label set that it is asked for."""
        return "freesurfer" if self.model.reaches("freesurfer") else self.model.labels.name

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""
        return frozenset(merge(self.labels, EVALUATION).target_ids)

    @property
    def told(self) -> dict[str, Any]:
        """Checksum of the weights, and whether mirrored scans are averaged."""
        return {"weights_sha256": self.model.weights_sha256, "labels": self.labels, "flip": self.flip}

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Label a scan."""
        result = segment(scan, self.model, self.labels, self.flip)
        values = merge(self.labels, EVALUATION).apply(result.image.voxels)
        volumes = dict(result.volumes_mm3)
        if result.intracranial_mm3 is not None:
            volumes[INTRACRANIAL] = result.intracranial_mm3
        return Found(result.image.with_voxels(values), volumes)


@dataclass(frozen=True, eq=False)
class CommandTool:
    """A command with the words {input} and {output}, files that it reads and writes."""

    name: str
    command: str
    table: Merge
    resample: bool = False
    timeout_s: float | None = None

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""
        return frozenset(self.table.target_ids)

    @property
    def told(self) -> dict[str, Any]:
        """The command and its label table."""
        return {"command": self.command, "labels": table_digest(self.table), "resample": self.resample}

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Run the command on a file of the scan.

        Raises:
            ScanError: it cannot be started, fails, takes too long, or leaves no label map.
        """
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / f"{name}.nii.gz", Path(folder) / f"{name}_out.nii.gz"
            if file is None:
                write_image(given, scan)
            words = [
                word.replace("{input}", str(file or given)).replace("{output}", str(made))
                for word in shlex.split(self.command)
            ]
            _run(words, self.name, self.timeout_s)
            if not made.is_file():
                raise ScanError(f"{self.name} ended well but wrote no {{output}}; correct its command")
            return Found(_on_scan(read_labels(made), scan, self.table, self.resample, self.name))


@dataclass(frozen=True, eq=False)
class FolderTool:
    """Label maps that were made elsewhere, named after the scans of the study."""

    name: str
    folder: Path
    map: str
    table: Merge
    resample: bool = False

    @property
    def ids(self) -> frozenset[int]:
        """Ids of `evaluation` that it can give."""
        return frozenset(self.table.target_ids)

    @property
    def told(self) -> dict[str, Any]:
        """The folder, its label maps as they are now, and their label table."""
        maps = file_told(sorted(self.folder.glob(self.map))) if self.folder.is_dir() else {}
        return {"folder": str(self.folder), "maps": maps, "labels": table_digest(self.table), "resample": self.resample}

    def find(self, scan: Image, name: str, file: Path | None) -> Found:
        """Read the label map of a scan, which is named after its task, or after its file.

        Raises:
            ScanError: there is none.
        """
        if file is None:
            raise ScanError(f"{self.name} has finished label maps alone, and this study changes scans; give a command")
        for known in dict.fromkeys((name, stem(file))):
            path = self.folder / self.map.replace("*", known)
            if path.is_file():
                return Found(_on_scan(read_labels(path), scan, self.table, self.resample, str(path)))
        missing = self.folder / self.map.replace("*", name)
        raise ScanError(f"{missing} does not exist; {self.name} was to have made it: run it on this scan")


def build_tools(plan: Plan, wanted: list[str], device: torch.device | None = None) -> list[Tool]:
    """Tools of a plan by name, and models by name or folder; all of the plan's, or the head model, where none is named.

    Raises:
        ScanError: no such tool, one twice, or its table is not understood.
        ModelError: no such model.
        LabelError: no such label table.
    """
    tools = [_named(plan, name) for name in wanted or list(plan.tools) or ["head"]]
    check_names([tool.name for tool in tools])
    for made in tools:
        if isinstance(made, ModelTool) and device is not None:
            made.model.network.to(device)
    return tools


def check_names(names: list[str]) -> None:
    """Refuse two tools of one name, whose results could not be told apart.

    Raises:
        ScanError: there are two.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ScanError(f"two tools are called {twice!r}, wanted names of their own; give them tables [tools.NAME]")


def _named(plan: Plan, name: str) -> Tool:
    if name in plan.tools:
        return _tool(plan, name, plan.tools[name])
    if name in model_names():
        return ModelTool(name, find_model(name))
    folder = Path(name).resolve()
    if folder.is_dir():
        return ModelTool(folder.parent.name if folder.name == "model" else folder.name, find_model(name))
    known = ", ".join([*plan.tools, *model_names()])
    raise ScanError(f"there is no tool {name!r}; give one of {known}, a model folder, or add [tools.{name}]")


def onto(image: Image, grid: Image) -> Image:
    """Label map on the grid of another image, nearest neighbour; background beyond its own."""
    to_own = np.linalg.inv(image.affine) @ grid.affine
    voxels = ndimage.affine_transform(image.voxels, to_own[:3, :3], to_own[:3, 3], grid.shape, order=0, prefilter=False)
    return Image(voxels, grid.affine, grid.header)


def same_grid(one: Image, other: Image) -> bool:
    """Whether voxels of two images lie at the same places, to a thousandth of a millimetre."""
    return one.shape == other.shape and np.allclose(one.affine, other.affine, atol=1e-3)


def _tool(plan: Plan, name: str, table: Any) -> Tool:
    where = f"tools.{name}"
    kinds = [kind for kind in TOOL_KEYS if isinstance(table, dict) and kind in table]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise ScanError(f"{plan.path}: {where} has {found} of model, command and folder, wanted one")
    unknown = sorted(set(table) - set(TOOL_KEYS[kinds[0]]))
    if unknown:
        known = ", ".join(TOOL_KEYS[kinds[0]])
        raise ScanError(f"{plan.path} has an unknown key '{where}.{unknown[0]}'; known here are {known}")
    given = take(plan.path, table, kinds[0], str, "", where)
    if "model" in table:
        model = find_model(given if given in model_names() else str(plan.where(given)))
        return ModelTool(name, model, take(plan.path, table, "flip", bool, True, where))
    labels = to_evaluation(take(plan.path, table, "labels", str, "freesurfer", where), plan)
    resample = take(plan.path, table, "resample", bool, False, where)
    if "folder" in table:
        pattern = take(plan.path, table, "map", str, "*.nii.gz", where)
        if pattern.count("*") != 1:
            raise ScanError(f"{plan.path}: {where}.map is {pattern!r}, wanted a file name with one * in it")
        return FolderTool(name, plan.where(given), pattern, labels, resample)
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise ScanError(f"{plan.path}: {where}.command is {given!r} ({error}); close its quotes") from error
    if not any("{input}" in word for word in words) or not any("{output}" in word for word in words):
        raise ScanError(f"{plan.path}: {where}.command is {given!r}, wanted {{input}} and {{output}} in it")
    seconds = table.get("timeout_s")
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise ScanError(f"{plan.path}: {where}.timeout_s is {seconds!r}, wanted seconds above 0; correct it")
    return CommandTool(name, given, labels, resample, seconds)


def _run(words: list[str], name: str, timeout_s: float | None) -> None:
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ScanError(f"{name} cannot be started ({error.strerror}: {words[0]}); correct its command") from error
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # what it started must not live on
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise ScanError(f"{name} took longer than {timeout_s:g} s and was stopped; raise timeout_s") from error
        raise
    if process.returncode:
        said = [line.strip() for line in (err or out).splitlines() if line.strip()]
        raise ScanError(f"{name} ended with code {process.returncode}: {said[-1] if said else 'it said nothing'}")


def _on_scan(made: Image, scan: Image, table: Merge, resample: bool, who: str) -> Image:
    """A tool's label map with values of `evaluation`, on the grid of the scan."""
    if not same_grid(made, scan):
        if not resample:
            raise ScanError(
                f"label map of {who} has shape {made.shape} and the scan {scan.shape}, or their affines differ; "
                "add resample = true to bring it to the scan's grid (nearest neighbour)"
            )
        made = onto(made, scan)
    return made.with_voxels(table.apply(made.voxels))
