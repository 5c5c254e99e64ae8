"""The manifest of a scan: what was asked for, what came out, and so whether it is finished."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from phantomseg.image.dicom import is_dicom_folder
from phantomseg.image.stream import is_dicom
from phantomseg.inference.claim import HIDDEN
from phantomseg.inference.names import Names
from phantomseg.network.model import sha256

ENDING = "_manifest.json"
NEEDED = {
    "hash",
    "intracranial_mm3",
    "manifest",
    "name",
    "options",
    "outputs",
    "quality",
    "scan",
    "structures",
    "volume",
}
REPORTS = (".html",)  # these change when the cohort does


def scan_sha256(scan: Path) -> str:
    """Checksum of a file, or of all DICOM files in a folder and their names; empty where reading will say why."""
    if scan.is_file():
        status = scan.stat()
        return _file_sha256(str(scan), status.st_mtime_ns, status.st_size)
    if not (scan.is_dir() and is_dicom_folder(scan)):
        return ""
    names = sorted(path for path in scan.iterdir() if path.is_file() and is_dicom(path))
    parts = [f"{path.name} {sha256(path)}" for path in names]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


@lru_cache(maxsize=8)  # one file may hold many volumes
def _file_sha256(path: str, changed: int, size: int) -> str:
    return sha256(Path(path))


def request_hash(request: dict[str, Any]) -> str:
    """Checksum of everything that decides a result: scan, volume, options, weights, version."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def described(folder: Path, written: list[Path]) -> list[dict[str, Any]]:
    """Path, size and checksum of each result; those of reports are left out, as they change with the cohort."""
    found = []
    for path in written:
        entry: dict[str, Any] = {"path": path.as_posix()}
        if path.suffix not in REPORTS:
            entry |= {"bytes": (folder / path).stat().st_size, "sha256": sha256(folder / path)}
        found.append(entry)
    return found


def finished(folder: Path, names: Names, wanted_hash: str) -> bool:
    """Whether a manifest tells of the very same request, and all that it lists is there in full."""
    manifest = read_manifest(folder / names.manifest)
    if manifest is None or manifest.get("hash") != wanted_hash:
        return False
    for entry in manifest["outputs"]:
        path = folder / entry["path"]
        if not path.is_file() or ("bytes" in entry and path.stat().st_size != entry["bytes"]):
            return False
    return True


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest, None where there is none, or a damaged one."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = set(content) >= NEEDED
    except (OSError, ValueError, TypeError):
        return None
    return content if complete else None


def read_manifests(folder: Path) -> list[dict[str, Any]]:
    """Every manifest below a folder, sorted by path; those of folders of results inside it are not its own."""
    paths = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != HIDDEN]
        paths += [Path(place) / name for name in files if name.endswith(ENDING)]
    found = [(path, read_manifest(path)) for path in sorted(paths)]
    return [manifest for path, manifest in found if manifest is not None and folder / manifest["manifest"] == path]


def current(folder: Path, labels: str, failed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Manifests of one label set, without those of scans that failed since."""
    found = read_manifests(folder)
    return [m for m in found if m["options"]["labels"] == labels and m["name"] not in failed]
