"""Labelled scans in a folder: pairs by name, or as a small TOML says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phantomseg import toml
from phantomseg.errors import ScanError
from phantomseg.image.files import read_image, read_labels, scan_paths, stem
from phantomseg.image.image import Image
from phantomseg.labels import merge

KEYS = {"folder": ".", "image": "*.nii.gz", "reference": "*_dseg.nii.gz", "labels": "freesurfer"}


@dataclass(frozen=True)
class Case:
    """One labelled scan."""

    name: str
    image: Path
    reference: Path
    labels: str  # label set of the reference

    def read(self) -> tuple[Image, Image]:
        """The scan, and its reference with the values of the set `evaluation`.

        Raises:
            ScanError: a file cannot be used.
            LabelError: the reference holds a value its set does not.
        """
        reference = read_labels(self.reference)
        values = merge(self.labels, "evaluation").apply(reference.voxels)
        return read_image(self.image), reference.with_voxels(values)


def find_cases(source: Path) -> list[Case]:
    """All labelled scans of a dataset.

    Args:
        source: a folder with `NAME.nii.gz` beside `NAME_dseg.nii.gz` (values of the set `freesurfer`); or a folder
            with a `data.toml`, or such a file, with the keys `folder`, `image`, `reference` (patterns with one `*`
            for the name) and `labels`.

    Raises:
        ScanError: nothing there, or a reference without its scan.
    """
    source = Path(source)
    table = source if source.suffix == ".toml" else source / "data.toml"
    keys = dict(KEYS)
    if table.is_file():
        keys |= _read_table(table)
    elif table == source:
        raise ScanError(f"{source} does not exist; give a folder of labelled scans, or a .toml that names one")
    folder = table.parent / keys["folder"]
    if not folder.is_dir():
        raise ScanError(f"{folder} is no folder; wanted a folder of scans with their label maps")
    before, after = keys["reference"].split("*")
    cases = []
    for path in scan_paths(folder):
        if not (path.name.startswith(before) and path.name.endswith(after)):
            continue
        name = path.name[len(before) : len(path.name) - len(after)]
        image = folder / keys["image"].replace("*", name)
        if not image.is_file():
            raise ScanError(f"label map {path} has no scan {image}; add it, or take the label map away")
        cases.append(Case(stem(Path(name)), image, path, keys["labels"]))
    if not cases:
        raise ScanError(f"{folder} holds no file like {keys['reference']}; wanted at least one labelled scan")
    return cases


def _read_table(path: Path) -> dict[str, str]:
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScanError(f"{path} is not valid TOML ({error}); correct that line") from error
    unknown = sorted(set(content) - set(KEYS))
    if unknown:
        raise ScanError(f"{path} has an unknown key {unknown[0]!r}; known are {', '.join(KEYS)}")
    for key in ("image", "reference"):
        if str(content.get(key, "*")).count("*") != 1:
            raise ScanError(f"{path}: {key} is {content[key]!r}, wanted a file name with one * in it")
    return {key: str(value) for key, value in content.items()}
