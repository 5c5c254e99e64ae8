"""Seconds and peak memory for a 1 mm scan of 192 × 224 × 192: `fast` against `unet`, 2 CPU threads.

    python benchmarks/inference.py [--runs 3]

Each network runs in a process of its own, by the same code, on the same synthetic head; weights are random, which
changes nothing in the time of the network. Restoring to the scan's grid is timed with the rest.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

SHAPE = (192, 224, 192)


def measure(kind: str, runs: int) -> None:
    """Print median seconds and peak memory of one network."""
    import torch
    from scipy import ndimage

    from phantomseg.image.image import Image
    from phantomseg.inference.segment import segment
    from phantomseg.labels import label_set
    from phantomseg.network.model import Model, build_network
    from phantomseg.runtime import keep_freed_memory, set_threads

    set_threads(2)
    keep_freed_memory()
    torch.manual_seed(0)
    labels = label_set("head")
    model = Model(build_network(kind, {"classes": len(labels)}).eval(), labels)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 3)
    scan = Image((noise - noise.min() + 0.1).astype(np.float32), np.eye(4))
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        segment(scan, model, "freesurfer")
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{sorted(seconds)[runs // 2]:.2f} {peak:.2f}")


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--network", choices=["fast", "unet"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.network:
        measure(arguments.network, arguments.runs)
        return
    found = {}
    for kind in ("fast", "unet"):
        command = [sys.executable, __file__, "--network", kind, "--runs", str(arguments.runs)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[kind] = tuple(map(float, output.split()))
        print(f"{kind:5} {found[kind][0]:7.2f} s  {found[kind][1]:6.2f} GB peak", flush=True)
    print(f"fast is {found['unet'][0] / found['fast'][0]:.1f} times faster")


if __name__ == "__main__":
    main()
