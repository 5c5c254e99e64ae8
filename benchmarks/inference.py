"""Seconds and peak memory for a 1 mm scan of 192 × 224 × 192: `fast` against `unet`, 2 CPU threads.

    python benchmarks/inference.py [--runs 3]

Each network runs in a process of its own, by the same code, from the scan in memory to labels on its own grid. The
scan is the MNI152 average that nilearn carries, with noise around it, so that the whole field of view is worked on.
`fast` has the shipped weights, `unet` random ones. `unet float32` is the paper's network in the number format in
which it was published; the other two use bfloat16 where the processor has it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from phantomseg import runtime
from phantomseg.image.files import read_image
from phantomseg.image.grid import canonical, crop
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.models import find_model
from phantomseg.network.model import Model, build_network
from phantomseg.runtime import keep_freed_memory, set_threads

SHAPE = (192, 224, 192)


def scan() -> Image:
    """A head of 192 × 224 × 192 voxels in noise."""
    path = resources.files("nilearn.datasets") / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    head = canonical(read_image(Path(str(path))))
    low = (np.array(head.shape) - SHAPE) // 2
    head = crop(head, low, low + SHAPE)
    noise = np.abs(np.random.default_rng(0).normal(0, 0.04 * head.voxels.max(), SHAPE))
    return head.with_voxels((head.voxels + noise).astype(np.float32))


def measure(kind: str, runs: int, exact: bool, flip: bool) -> None:
    """Print median seconds and peak memory of one network."""
    set_threads(2)
    if exact:
        runtime.number_format = lambda device: torch.float32
    keep_freed_memory()
    model = find_model()
    if kind != "fast":
        torch.manual_seed(0)
        model = Model(build_network(kind, {"classes": len(model.labels)}).eval(), model.labels)
    given = scan()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        segment(given, model, "freesurfer", flip)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{sorted(seconds)[runs // 2]:.2f} {peak:.2f}")


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--network", choices=["fast", "unet"], help=argparse.SUPPRESS)
    parser.add_argument("--float32", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--flip", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.network:
        measure(arguments.network, arguments.runs, arguments.float32, arguments.flip)
        return
    found = {}
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1"}  # as the command line sets it
    rows = (("fast",), ("fast", "--flip"), ("unet",), ("unet", "--float32"))
    for network, *flags in rows:
        name = " ".join((network, *flags))
        command = [sys.executable, __file__, "--network", network, "--runs", str(arguments.runs), *flags]
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        found[name] = tuple(map(float, output.split()))
        ratio = found[name][0] / found["fast"][0]
        print(f"{name:18} {found[name][0]:7.2f} s  {found[name][1]:6.2f} GB peak  {ratio:5.1f} × fast", flush=True)


if __name__ == "__main__":
    main()
