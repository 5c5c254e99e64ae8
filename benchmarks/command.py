"""Seconds and peak memory of the whole command, from files to files: a usual scan, a very fine one, and a stripped one.

    python benchmarks/command.py [--threads 2] [--only usual,fine,strip] [-- FLAGS OF THE COMMAND]

The first two show the MNI152 average that nilearn carries, with noise around it: 192 × 224 × 192 voxels of 1 mm, and
512 × 512 × 400 voxels of 0.45 mm (int16, compressed); `strip` gets a drawn head of 256³ voxels of 1 mm. The command
starts anew for each; everything that it writes by default, the report too, is in the time. FLAGS go to all
that `--only` names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from inference import scan
from stripping import ellipsoid_head

from phantomseg.image.grid import Grid, resample_box
from phantomseg.image.image import Image

FINE_SHAPE, FINE_MM = (512, 512, 400), 0.45
# a process begins with the peak of the one that started it, and this one made the scans; so a small one starts each
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)
sys.exit(status)
"""


def fine(usual: Image) -> Image:
    """The same head on a grid of 0.45 mm."""
    affine = usual.affine @ np.diag([FINE_MM, FINE_MM, FINE_MM, 1.0])
    middle = usual.affine @ [*((np.array(usual.shape) - 1) / 2), 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((np.array(FINE_SHAPE) - 1) / 2)
    grid = Grid(FINE_SHAPE, affine)
    return resample_box(usual, grid, np.zeros(3, dtype=int), np.array(FINE_SHAPE))


def save(image: Image, path: Path) -> None:
    """As a scanner's conversion stores it: int16, compressed."""
    values = (image.voxels * (1000 / image.voxels.max())).astype(np.int16)
    nib.save(nib.Nifti1Image(values, image.affine), path)


def measure(verb: str, path: Path, output: Path, flags: list[str]) -> tuple[float, float]:
    """Seconds, and peak memory in GB."""
    command = [sys.executable, "-m", "phantomseg", verb, str(path), "-o", str(output), *flags]
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *command], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"the command failed on {path}"
    seconds, gigabytes = map(float, done.stdout.split())
    return seconds, gigabytes


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="usual,fine,strip")
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        usual = cache(scan)
        makers = {"usual": usual, "fine": lambda: fine(usual()), "strip": ellipsoid_head}
        for name in arguments.only.split(","):
            path = Path(folder) / f"{name}.nii.gz"
            save(makers[name](), path)
            flags = ["--threads", arguments.threads, *arguments.flags]
            verb = "strip" if name == "strip" else "segment"
            seconds, gigabytes = measure(verb, path, Path(folder) / f"out-{name}", flags)
            shape = "×".join(map(str, nib.load(path).shape))
            print(f"{name:8}{shape:>14}  {seconds:6.1f} s  {gigabytes:5.2f} GB peak", flush=True)


if __name__ == "__main__":
    main()
