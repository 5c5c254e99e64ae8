"""Scans and label maps of folders, paired by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phantomseg.errors import TemplateError
from phantomseg.image.files import scan_paths, stem
from phantomseg.image.stream import SUFFIXES

Named = tuple[str, Path]


def pair_files(images: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Name, scan and label map of each scan, sorted by the scan's file.

    A label map is named as its scan (`a`), or as its scan and more (`a_dseg`), or alike up to the last underscore
    (`a_dseg` of `a_T1w`); the first of the three that fits counts.

    Args:
        images: a folder, or files of a folder by a pattern such as `data/*_T1w.nii.gz`, where the * is the name.
        labels: the same for the label maps.

    Raises:
        TemplateError: nothing there, or a file without its partner or with several.
    """
    maps, pairs = named_files(labels), []
    scan_of: dict[Path, Path] = {}
    for name, image in named_files(images):
        label = _partner(name, image, maps)
        if label in scan_of:
            raise TemplateError(
                f"label map {label} fits two scans, {scan_of[label].name} and {image.name}, wanted one; tell them "
                "apart with a pattern, such as '*_T1w.nii.gz'"
            )
        scan_of[label] = image
        pairs.append((name, image, label))
    alone = next((label for _, label in maps if label not in scan_of), None)
    if alone is not None:
        raise TemplateError(f"label map {alone} has no scan; add it, or take the label map away")
    return pairs


def named_files(source: Path) -> list[Named]:
    """Image files of a folder with their names, sorted by file; of a pattern, the name is what its * stands for.

    Raises:
        TemplateError: there is no such file.
    """
    is_pattern = "*" in source.name
    folder, pattern = (source.parent, source.name) if is_pattern else (source, "*")
    if pattern.count("*") > 1:
        raise TemplateError(f"pattern {source} has {pattern.count('*')} *, wanted one, which stands for the name")
    if not folder.is_dir():
        raise TemplateError(f"{folder} is no folder of scans or label maps; check the path")
    before, after = pattern.split("*")
    files = []
    for path in scan_paths(folder):
        name = path.name[len(before) : len(path.name) - len(after)]
        if path.name == f"{before}{name}{after}":
            files.append((stem(Path(name)) if name.lower().endswith(SUFFIXES) else name, path))
    if not files:
        raise TemplateError(f"{folder} holds no .nii, .nii.gz or .mgz file like {pattern}; check path and pattern")
    return files


def _partner(name: str, image: Path, labels: list[Named]) -> Path:
    """The label map that fits a scan's name best."""
    short = name.rpartition("_")[0] or name
    rules: list[Callable[[str], bool]] = [
        lambda other: other == name,
        lambda other: other.startswith(f"{name}_"),
        lambda other: other == short or other.startswith(f"{short}_"),
    ]
    found = next((fits for rule in rules if (fits := [path for other, path in labels if rule(other)])), [])
    if not found:
        raise TemplateError(f"scan {image} has no label map; add one named {name}_dseg, or take the scan away")
    if len(found) > 1:
        raise TemplateError(
            f"scan {image} fits {len(found)} label maps, {found[0].name} and {found[1].name}, wanted one; tell them "
            "apart with a pattern, such as '*_dseg.nii.gz'"
        )
    if found[0].samefile(image):
        raise TemplateError(
            f"{image} is given as scan and as label map; tell the two apart with patterns, such as '*_T1w.nii.gz' and "
            "'*_dseg.nii.gz'"
        )
    return found[0]
