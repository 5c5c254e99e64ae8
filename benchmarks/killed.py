"""Runs that are killed: nothing is lost, nothing is done twice, nothing half-written stays.

    python benchmarks/killed.py [--scans 200] [--kills 10] [--processes 1] [--seed 0] [--keep DIR]

Synthetic heads of ellipsoids, no two alike, are segmented by `phantomseg segment` with a small random network: once
undisturbed, and once by a run that is ended by SIGKILL at random moments, started again each time, and let finish at
last. With more processes, all of them work on one folder, and each is killed at a moment of its own. Checked are:

- after each kill: what has a manifest is there in full, and is the very file that it was after the kill before;
- no scan is reported done twice;
- at the end: the same files as of the undisturbed run, the same voxels, volumes and table, and no other file.

Exit code 1 if any of this is not so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, save_model

TINY = {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}
HIDDEN = ".phantomseg"
STARTED_SECONDS = 300.0


@dataclass(frozen=True)
class Course:
    """Where the scans, the model and the results are; what was seen on the way."""

    folder: Path
    report: bool
    done: Counter[str] = field(default_factory=Counter)  # how often a scan was reported done
    faults: list[str] = field(default_factory=list)

    def command(self, out: str) -> list[str]:
        """Arguments that segment all scans into a folder."""
        words = ["segment", self.folder / "scans", "-o", self.folder / out, "--model", self.folder / "model"]
        flags = ["--report" if self.report else "--no-report", "--device", "cpu", "--threads", "1"]
        return [sys.executable, "-m", "phantomseg", *map(str, words), *flags]

    @contextlib.contextmanager
    def running(self, out: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process in a group of its own; its output goes to files."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # what was said is not lost with the process
        with (self.folder / f"{name}.out").open("wb") as said, (self.folder / f"{name}.err").open("wb") as wrong:
            yield subprocess.Popen(
                self.command(out), stdout=said, stderr=wrong, start_new_session=True, env=environment
            )

    def heard(self, name: str) -> None:
        """Count what a process reported done, and keep what it complained of."""
        text = (self.folder / f"{name}.out").read_text(errors="replace")
        self.done.update(line.split(" (")[0] for line in text.splitlines() if line.endswith(" s)"))
        wrong = (self.folder / f"{name}.err").read_text(errors="replace")
        self.faults.extend([f"{name}: {line}" for line in wrong.splitlines() if not line.startswith("  warning: ")])


def synthetic_head(seed: int) -> nib.Nifti1Image:
    """Ellipsoids within each other, of 24 to 40 voxels of 2 to 4 mm a side, with noise."""
    rng = np.random.default_rng(seed)
    shape, spacing = rng.integers(24, 41, 3), rng.uniform(2, 4)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), -1)
    voxels = rng.normal(0, 3, shape)
    for scale in (0.95, 0.85, 0.75, 0.6, 0.3):
        centre, axes = rng.normal(0, 0.03, 3), scale * rng.uniform(0.9, 1, 3)
        inside = (((place - centre) / axes) ** 2).sum(-1) < 1
        voxels[inside] = rng.uniform(20, 250) + rng.normal(0, 5, int(inside.sum()))
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -spacing * (shape - 1) / 2
    return nib.Nifti1Image(voxels.astype(np.int16), affine)


def prepare(folder: Path, scans: int) -> None:
    """Write the scans, and a small random network of 2 mm that says many things."""
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    for number in range(scans):
        nib.save(synthetic_head(number), folder / "scans" / f"scan-{number:04}.nii.gz")
    torch.manual_seed(0)
    network = build_network("fast", TINY)
    with torch.no_grad():
        for layer in (network.classify, network.coarse):  # wide apart, so that no label wins everywhere
            layer.weight.mul_(30)
            layer.bias.zero_()
    save_model(folder / "model", Model(network, label_set("head"), spacing_mm=2.0))


def undisturbed(course: Course) -> float:
    """Segment all in one go; returns the seconds a scan."""
    with course.running("whole", "undisturbed") as process:
        begun = wait_for_work(course.folder / "whole", process)
        code = process.wait()
    course.heard("undisturbed")
    course.done.clear()
    if code:
        course.faults.append(f"undisturbed run ended with {code}")
    return (time.monotonic() - begun) / len(list((course.folder / "scans").iterdir()))


def wait_for_work(out: Path, process: subprocess.Popen[bytes]) -> float:
    """Wait until some scan is being written, or the process has ended; returns the time."""
    end = time.monotonic() + STARTED_SECONDS
    before = set((out / HIDDEN).iterdir()) if (out / HIDDEN).is_dir() else set()
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if set((out / HIDDEN).iterdir()) - before:
                break
        time.sleep(0.005)
    return time.monotonic()


def killed(course: Course, name: str, processes: int, longest: float, chance: random.Random) -> int:
    """Start processes, kill each within `longest` seconds after work began; returns how many had ended before."""
    with contextlib.ExitStack() as stack:
        names = [f"{name}-{n}" for n in range(processes)]
        running = [stack.enter_context(course.running("killed", each)) for each in names]
        begun = wait_for_work(course.folder / "killed", running[0])
        moments = sorted((begun + chance.uniform(0, longest), n) for n in range(processes))
        ended = 0
        for moment, n in moments:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[n].wait(max(0.0, moment - time.monotonic()))
            ended += running[n].poll() is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running[n].pid, signal.SIGKILL)
            running[n].wait()
    for each in names:
        course.heard(each)
    return ended


def finished(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Inode, time of change and time of the end of each manifest."""
    found = {}
    for path in sorted(folder.glob("*_manifest.json")):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns, json.loads(path.read_text())["finished"])
    return found


def check_whole(course: Course, when: str) -> None:
    """What has a manifest must be there in full."""
    for path in sorted((course.folder / "killed").glob("*_manifest.json")):
        for entry in json.loads(path.read_text())["outputs"]:
            file = path.parent / entry["path"]
            if not file.is_file() or file.stat().st_size != entry.get("bytes", file.stat().st_size):
                course.faults.append(f"{when}: {path.name} tells of {entry['path']}, which is not there in full")


def check_kept(course: Course, when: str, before: dict[str, tuple[int, int, str]]) -> dict[str, tuple[int, int, str]]:
    """What was finished must be as it was; returns what is finished now."""
    now = finished(course.folder / "killed")
    course.faults.extend([f"{when}: {name} was done again" for name, seen in before.items() if now.get(name) != seen])
    return now


def check_equal(course: Course) -> None:
    """The same files as of the undisturbed run, which say the same."""
    whole, result = course.folder / "whole", course.folder / "killed"
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (whole, result)]
    course.faults.extend([f"{name} is missing" for name in sorted(names[0] - names[1])])
    course.faults.extend([f"{name} is left" for name in sorted(names[1] - names[0])])
    for name in sorted(names[0] & names[1]):
        first, second = whole / name, result / name
        if name.name.endswith(".nii.gz"):
            same = same_image(first, second)
        elif name.suffix in (".tsv", ".txt", ".ctbl") or name.name.endswith("volumes.json"):
            same = first.read_bytes() == second.read_bytes()
        else:
            continue  # manifests and reports tell times
        if not same:
            course.faults.append(f"{name} differs from that of the undisturbed run")


def same_image(first: Path, second: Path) -> bool:
    """Whether two images have the same grid and voxels."""
    a, b = nib.load(first), nib.load(second)
    return np.array_equal(a.affine, b.affine) and np.array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))


def disturbed(course: Course, kills: int, processes: int, longest: float, chance: random.Random) -> None:
    """Kill, resume, and at last let finish, looking at the folder in between."""
    before: dict[str, tuple[int, int, str]] = {}
    for kill in range(kills):
        ended = killed(course, f"kill-{kill}", processes, longest, chance)
        when = f"after kill {kill + 1}"
        before = check_kept(course, when, before)
        check_whole(course, when)
        left = len(list((course.folder / "killed" / HIDDEN).glob("*"))) if (course.folder / "killed").is_dir() else 0
        note = f", {ended} had ended before" if ended else ""
        print(f"{when}: {len(before)} scans finished, {left} files and folders of work left{note}", flush=True)
    with contextlib.ExitStack() as stack:
        names = [f"last-{n}" for n in range(processes)]
        codes = [process.wait() for process in [stack.enter_context(course.running("killed", n)) for n in names]]
    course.faults.extend([f"the last run ended with {code}" for code in codes if code])
    for name in names:
        course.heard(name)
    check_kept(course, "at the end", before)
    check_whole(course, "at the end")


def main() -> None:
    """Print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder for scans and results, which stays")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        course = Course(folder, arguments.report)
        prepare(folder, arguments.scans)
        seconds = undisturbed(course)
        print(f"{arguments.scans} scans undisturbed: {seconds:.2f} s a scan", flush=True)
        starts = (arguments.kills + 1) * arguments.processes
        longest = 1.6 * seconds * arguments.scans / starts  # most of the work is done when the last one is killed
        disturbed(course, arguments.kills, arguments.processes, longest, random.Random(arguments.seed))
        check_equal(course)
        course.faults.extend(f"{scan} was done {count} times" for scan, count in course.done.items() if count > 1)
        rows = len((folder / "killed" / "volumes.tsv").read_text().splitlines()) - 1
        manifests = len(finished(folder / "killed"))
        if not rows == manifests == arguments.scans:
            course.faults.append(f"{rows} rows and {manifests} manifests of {arguments.scans} scans")
        kinds = len({path.read_bytes() for path in (folder / "killed").glob("*_volumes.tsv")})
    silent = arguments.scans - len(course.done)
    print(f"{manifests} results, {kinds} of them different from all others, {rows} rows in volumes.tsv")
    print(f"{len(course.done)} scans reported done once, {silent} finished as their process was killed")
    print(f"{len(course.faults)} faults" + "".join(f"\n  {fault}" for fault in course.faults[:50]))
    sys.exit(1 if course.faults else 0)


if __name__ == "__main__":
    main()
