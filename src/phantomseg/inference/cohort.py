"""Many scans: what is done is not done again, what fails is reported, the rest is finished.

Each scan is claimed by a lock that ends with its process, written to a folder of its own, moved into place file by
file, and finished by its manifest, which is written last. So a run may be killed at any moment, and several
processes may share an output folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from filelock import Timeout

from phantomseg import __version__
from phantomseg.errors import ScanError, one_sentence
from phantomseg.image.checks import check_scan
from phantomseg.image.files import read_image
from phantomseg.image.finding import Finding
from phantomseg.image.image import Image
from phantomseg.image.intensity import windowed
from phantomseg.inference import bids
from phantomseg.inference.claim import claimed, is_claimed, move_whole, remove_if_empty, sweep
from phantomseg.inference.find import finder
from phantomseg.inference.folder import check_dataset, check_ours, is_structures, write_description
from phantomseg.inference.inputs import Job
from phantomseg.inference.look import MASK
from phantomseg.inference.manifest import described, finished, read_manifest, read_manifests, request_hash, scan_sha256
from phantomseg.inference.options import Task
from phantomseg.inference.results import Written
from phantomseg.inference.segment import Segmentation
from phantomseg.inference.tables import write_json
from phantomseg.memory import available_bytes, forget_peak, peak_bytes, used_bytes
from phantomseg.network.model import Model
from phantomseg.runtime import hardware

COPIES = 3  # of the voxels that reading, turning and writing hold at once
KEY_DIGITS = 32  # of a checksum; names may be longer than names of files


@dataclass(frozen=True)
class Outcome:
    """What became of one volume: the files written, that it was finished before, or the reason why not."""

    job: Job
    written: tuple[Path, ...] = ()
    skipped: bool = False
    error: str = ""
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()


def process_jobs(jobs: list[Job], folder: Path, model: Model, options: Task) -> Iterator[Outcome]:
    """Do with each volume what the options say, into `folder`.

    Volumes that another process is at are left for the end, and skipped once that process has finished them.

    Raises:
        ScanError: the folder holds results of another label set or dataset, or files of others in places of ours.
        LabelError: the model does not predict such a label set, or it has no such label.
    """
    options.check(model)
    if folder.exists() and not folder.is_dir():
        raise ScanError(f"{folder} is a file, wanted a folder for the results; choose another name")
    check_ours(folder)
    check_dataset(folder, {job.dataset for job in jobs if job.dataset is not None})
    _check_labels(jobs, folder, options)
    waiting = []
    existed = folder.is_dir()
    try:
        for job in jobs:
            outcome = _try(job, folder, model, options, wait=False)
            if outcome is None:
                waiting.append(job)
            else:
                yield outcome
        for job in waiting:
            outcome = _try(job, folder, model, options, wait=True)
            assert outcome is not None
            yield outcome
    finally:
        sweep(folder)
        if not existed:
            remove_if_empty(folder)


def _check_labels(jobs: list[Job], folder: Path, options: Task) -> None:
    """A cohort has one label set, or its tables would have no common columns; masks never replace label maps."""
    ours = {job.names.manifest.as_posix() for job in jobs}
    for manifest in read_manifests(folder):
        other = manifest["options"]["labels"]
        is_other_task = (other == MASK) != (options.labels == MASK)
        if other != options.labels and (is_other_task or manifest["manifest"] not in ours):
            raise ScanError(
                f"{folder} holds results of label set {other!r}, wanted {options.labels!r}; choose another folder"
            )


def _try(job: Job, folder: Path, model: Model, options: Task, wait: bool) -> Outcome | None:
    """Process one volume unless it is finished; None where another process is at it, and `wait` is not set."""
    started = time.perf_counter()
    forget_peak()
    name = job.names.manifest.as_posix().encode("utf-8", "surrogateescape")
    key = hashlib.sha256(name).hexdigest()[:KEY_DIGITS]
    try:
        request = {
            "scan_sha256": scan_sha256(job.scan),
            "volume": job.volume,
            "options": options.record(),
            "weights_sha256": model.weights_sha256,
            "calibration_sha256": request_hash(model.calibration or {}),
            "finder_sha256": finder().weights_sha256 if options.finds_first(model) else None,
            "phantomseg": __version__,
        }
        wanted = request_hash(request)
        if options.resume and finished(folder, job.names, wanted):
            return Outcome(job, skipped=True)
        if not wait and is_claimed(folder, key):
            return None
        scan, findings = _read(job, options)
        with claimed(folder, key, wait) as stage:
            if options.resume and finished(folder, job.names, wanted):
                return Outcome(job, skipped=True)
            before = read_manifest(folder / job.names.manifest)
            _check_names(folder, job, request, before)
            written, also = _process(Work(job, folder, stage, model, options, before), scan, findings, request, started)
            return Outcome(job, tuple(written), False, "", time.perf_counter() - started, (*findings, *also))
    except Timeout:
        return None
    except Exception as error:  # whatever it is, the other scans are to be done
        logging.getLogger("phantomseg").debug("%s failed", job.scan, exc_info=True)
        reason = one_sentence(error)
        return Outcome(job, error=reason if str(job.scan) in reason else f"{job.scan}: {reason}")


def _check_names(folder: Path, job: Job, request: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Results of a scan may take the place of none but its own."""
    if before is None or before.get("scan_sha256") == request["scan_sha256"]:
        return
    if before.get("path") != os.path.abspath(job.scan):
        raise ScanError(
            f"{folder / job.names.manifest} is of {before['scan']}, and results of {job.scan} would replace it; choose "
            "another output folder, or name the scans in a table"
        )


def _read(job: Job, options: Task) -> tuple[Image, tuple[Finding, ...]]:
    left = available_bytes() if options.most_bytes is None else options.most_bytes - used_bytes()
    most = options.most_bytes if left <= 0 else left / COPIES  # what is used up already is told later
    scan = read_image(job.scan, job.volume, None if most is None else int(most), options.axcodes)
    findings = check_scan(scan, options.ct, options.any_species)
    error = next((finding for finding in findings if finding.level == "error"), None)
    if error is not None:
        raise ScanError(f"{job.scan}: {error.what}; {error.fix}")
    return scan, findings


@dataclass(frozen=True, eq=False)
class Work:
    """One volume: where its results are made, and where they are moved to."""

    job: Job
    folder: Path
    stage: Path
    model: Model
    options: Task
    before: dict[str, Any] | None  # manifest of the results that these take the place of


def _process(
    work: Work, scan: Image, findings: tuple[Finding, ...], request: dict[str, Any], started: float
) -> tuple[list[Path], list[Finding]]:
    """Files written, and what the result gives to think about."""
    options, names = work.options, work.job.names
    result = options.make(_as_told(scan, options.ct), work.model)
    also_found = options.findings(result)
    dataset = work.job.dataset
    source = "" if dataset is None else bids.source_uri(work.job.scan, dataset)
    to = Written(work.stage, names, scan, result, source)
    written = options.write(to)
    manifest = {
        "name": names.name,
        "manifest": names.manifest.as_posix(),
        "scan": str(work.job.scan),
        "path": os.path.abspath(work.job.scan),
        **request,
        "hash": request_hash(request),
        "model": {"name": options.model, "weights_sha256": work.model.weights_sha256},
        "findings": [dataclasses.asdict(finding) for finding in (*findings, *also_found)],
        **_measures(result),
        **_provenance(work, scan),
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_mb": round(peak_bytes() / 1e6),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    written += [extra(to, manifest) for extra in options.extras]
    manifest["outputs"] = described(work.stage, [Path(path) for path in written])
    write_json(work.stage / names.manifest, manifest)
    return _move(work, [*written, names.manifest]), also_found


def _as_told(scan: Image, ct: bool | None) -> Image:
    """The scan so that its values say no else than the user: window of soft tissue, or nothing below 0."""
    if ct is None:
        return scan
    return scan.with_voxels(windowed(scan.voxels, ct=True) if ct else scan.voxels - scan.voxels.min())


def _measures(result: Segmentation) -> dict[str, Any]:
    quality = result.quality
    return {
        "quality": None if quality is None or np.isnan(quality.mean) else round(quality.mean, 3),
        "quality_threshold": None if quality is None else quality.threshold,
        "intracranial_mm3": result.intracranial_mm3,
        "structures": [dataclasses.asdict(structure) for structure in result.structures],
    }


def _provenance(work: Work, scan: Image) -> dict[str, Any]:
    import nibabel as nib

    device = work.model.device
    return {
        "backend": getattr(work.model.network, "backend", f"torch {device.type}"),
        "machine": hardware(device),
        "grid": {
            "shape": list(scan.shape),
            "spacing_mm": [round(float(s), 4) for s in scan.spacing_mm],
            "orientation": "".join(str(code) for code in nib.aff2axcodes(scan.affine)),
        },
    }


def _move(work: Work, written: list[PurePath]) -> list[Path]:
    """Results into place, the manifest last: until it is there, the scan counts as not done."""
    names, dataset = work.job.names, work.job.dataset
    outputs = [] if work.before is None else work.before["outputs"]
    known = {names.manifest.as_posix(), *(entry["path"] for entry in outputs)}
    if work.before is None and is_structures(work.folder / names.volumes):  # its manifest was damaged or removed
        known = {path.as_posix() for path in names.results}
    for path in written:
        if path.as_posix() not in known and (work.folder / path).exists():
            raise ScanError(
                f"{work.folder / path} would be replaced, and no manifest says that it is a result; rename or remove "
                "it, or choose another output folder"
            )
    if dataset is not None:
        write_description(work.folder, dataset)
    return move_whole(work.stage, work.folder, written, known)
