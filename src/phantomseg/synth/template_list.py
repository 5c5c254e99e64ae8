"""Folders of label maps, what their values mean, and how often each map is drawn: read from `labels.toml`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from phantomseg import toml
from phantomseg.errors import LabelError, TemplateError
from phantomseg.image.files import scan_paths, stem
from phantomseg.labels import coarse_labels

LIST = "labels.toml"
_WANTED = {"weight": "a number above 0", "files": "patterns", "omit": "patterns", "enlarge": "true or false"}


@dataclass(frozen=True)
class TemplateFile:
    """One label map: its file, what its values mean (see `coarse_labels`), and how often it is drawn.

    A small head may be enlarged to the size at which the network sees small heads in use.
    """

    path: Path
    labels: str = "generation"
    weight: float = 1.0
    enlarge: bool = False


@dataclass(frozen=True)
class _Entry:
    folder: str = "."
    files: tuple[str, ...] = ("*",)
    omit: tuple[str, ...] = ()
    labels: str = "generation"
    weight: float = 1.0
    enlarge: bool = False


def list_templates(source: Path) -> list[TemplateFile]:
    """Label maps of a folder, of its `labels.toml` where it has one, or of such a file anywhere.

    Each table `[[templates]]` of the file names a `folder` (relative to the file; its own by default), patterns of
    `files` and of files to `omit`, their `labels`, their `weight`, and whether to `enlarge` small heads.

    Raises:
        TemplateError: no label map there, two of one name, or a file that is not as said.
    """
    source = Path(source)
    listed = source if source.suffix == ".toml" else source / LIST
    if listed.is_file():
        files = [file for entry in _read(listed) for file in _files(listed, entry)]
    elif source.is_dir():
        files = [TemplateFile(path) for path in scan_paths(source)]
    else:
        raise TemplateError(
            f"{source} is no folder of label maps, no {LIST} and no prepared .npz; give --templates one of them"
        )
    if not files:
        raise TemplateError(f"{source} holds no .nii, .nii.gz or .mgz file; put label maps there")
    paths, names = [file.path.resolve() for file in files], [stem(file.path) for file in files]
    for path, name in zip(paths, names, strict=True):
        if paths.count(path) > 1:
            raise TemplateError(f"{source} lists {path} more than once; omit it from one of the tables")
        if names.count(name) > 1:
            raise TemplateError(f"{source} holds two label maps named {name}; rename one")
    return files


def _read(path: Path) -> list[_Entry]:
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, toml.TOMLDecodeError, RecursionError) as error:
        raise TemplateError(f"{path} is no TOML ({error}); correct it") from error
    tables = content.get("templates")
    if set(content) != {"templates"} or not isinstance(tables, list) or not tables:
        raise TemplateError(
            f"{path} has the keys {', '.join(content) or 'none'}, wanted [[templates]] alone; correct it"
        )
    return [_entry(table, f"{path}, table {number}") for number, table in enumerate(tables, start=1)]


def _entry(table: Any, where: str) -> _Entry:
    keys = [field.name for field in fields(_Entry)]
    if unknown := sorted(set(table) - set(keys)) if isinstance(table, dict) else ["?"]:
        raise TemplateError(f"{where} has the key {unknown[0]!r}, wanted some of {', '.join(keys)}; correct it")
    values: dict[str, Any] = {}
    for field in fields(_Entry):
        value = table.get(field.name, field.default)
        if field.name in ("files", "omit"):
            value = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
            fits = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        elif field.name == "weight":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        else:
            fits = isinstance(value, bool if field.name == "enlarge" else str)
        if not fits:
            wanted = _WANTED.get(field.name, "a string")
            raise TemplateError(f"{where} has {field.name} = {value!r}, wanted {wanted}; correct it")
        values[field.name] = value
    return _Entry(**values)


def _files(listed: Path, entry: _Entry) -> list[TemplateFile]:
    folder = listed.parent / entry.folder
    if not folder.is_dir():
        raise TemplateError(f"{listed} names the folder {folder}, which does not exist; correct it")
    table = str(listed.parent / entry.labels) if entry.labels.endswith(".csv") else entry.labels
    try:
        coarse_labels(table)
    except LabelError as error:
        raise TemplateError(f"{listed}: {error}") from error
    chosen = [
        path
        for path in scan_paths(folder)
        if any(fnmatch(path.name, pattern) for pattern in entry.files)
        and not any(fnmatch(path.name, pattern) for pattern in entry.omit)
    ]
    if not chosen:
        raise TemplateError(f"{listed} has files = {list(entry.files)}, and {folder} holds none; correct one of them")
    return [TemplateFile(path, table, float(entry.weight), entry.enlarge) for path in chosen]
