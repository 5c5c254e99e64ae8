"""Seconds, peak memory and labels of the backends `torch` and `openvino`, for a 1 mm scan of 192 × 224 × 192.

    python benchmarks/backends.py [--rounds 3] [--threads 2] [--float32]

Each backend runs in a process of its own, from the scan in memory to labels on its own grid, by turns, so that other
work on the machine slows both. "First" is the first scan of a process: OpenVINO compiles its graphs in it. CPU seconds
are those of all threads; they suffer least from other work. Labels are compared where either backend sees head.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from inference import scan

from phantomseg import runtime
from phantomseg.inference.segment import segment
from phantomseg.memory import peak_bytes
from phantomseg.models import find_model
from phantomseg.network.openvino import BACKENDS, to_openvino
from phantomseg.runtime import keep_freed_memory, set_threads

SETS = ("freesurfer", "head")
LEAST_EQUAL = 0.995


def measure(backend: str, threads: int | None, exact: bool, folder: Path) -> None:
    """Print seconds of a first and a second scan and the peak, as JSON; leave label maps in the folder."""
    set_threads(threads)
    if exact:
        runtime.number_format = lambda device: torch.float32
    keep_freed_memory()
    model = find_model()
    if backend == "openvino":
        model = to_openvino(model)
    given, found, maps = scan(), {}, []
    for name in ("first", "second"):
        started, used = time.perf_counter(), time.process_time()
        maps.append(segment(given, model, SETS[0]).image.voxels)
        found[name], found[f"{name} CPU"] = time.perf_counter() - started, time.process_time() - used
    found["peak GB"] = peak_bytes() / 2**30
    assert np.array_equal(*maps), "the same scan, other labels"
    for labels in SETS:
        np.save(folder / f"{backend}_{labels}.npy", maps[0] if labels == SETS[0] else _labelled(given, model, labels))
    print(json.dumps(found))


def _labelled(given: object, model: object, labels: str) -> np.ndarray:
    return segment(given, model, labels).image.voxels


def main() -> None:
    """Print medians over the rounds, and how far the labels agree; exit code 1 where that is too little."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--float32", action="store_true", help="as on processors without bfloat16")
    parser.add_argument("--backend", choices=BACKENDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.backend:
        measure(arguments.backend, arguments.threads, arguments.float32, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        shares = compare(arguments, folder)
    sys.exit(min(shares) < LEAST_EQUAL)


def compare(arguments: argparse.Namespace, folder: str) -> list[float]:
    """Run both by turns; returns the share of equal labels in each label set."""
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1"}  # as the command line sets it
    flags = ["--threads", str(arguments.threads)] if arguments.threads else []
    flags += ["--float32"] if arguments.float32 else []
    rounds: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
    for _ in range(arguments.rounds):
        for backend in BACKENDS:
            command = [sys.executable, __file__, "--backend", backend, "--folder", folder, *flags]
            output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            rounds[backend].append(json.loads(output))
            numbers = "  ".join(f"{name} {value:.2f}" for name, value in rounds[backend][-1].items())
            print(f"{backend:9} {numbers}", flush=True)
    print("\nmedians")
    for backend, rows in rounds.items():
        numbers = "  ".join(f"{name} {np.median([row[name] for row in rows]):.2f}" for name in rows[0])
        print(f"{backend:9} {numbers}")
    return [_equal(Path(folder), labels) for labels in SETS]


def _equal(folder: Path, labels: str) -> float:
    first, second = (np.load(folder / f"{backend}_{labels}.npy") for backend in BACKENDS)
    head = (first > 0) | (second > 0)
    share = float((first == second)[head].mean())
    print(f"{labels}: {share:.4%} of {head.sum()} voxels have the same label, wanted {LEAST_EQUAL:.1%}")
    return share


if __name__ == "__main__":
    main()
