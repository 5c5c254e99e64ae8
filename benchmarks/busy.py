"""Seconds alone and beside one busy neighbour: `segment`, `strip`, and a step of training.

    python benchmarks/busy.py [--threads 2] [--runs 3] [--templates LABEL_MAPS] [--only "training step"]

The neighbour is one endless loop in a session of its own, as another user's work, a service or a container is: Linux
then shares the cores between sessions, not between threads. Rows: threads that wait for each other sleep, as the
command has them; they sleep because the package came after torch and says so late, as in a program of one's own; and
they spin, as without this package. The step of training needs label maps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FIRST = "import phantomseg; import torch"
WAYS = {
    "asleep": (FIRST, {}),
    "torch first": ("import torch; import phantomseg", {}),
    "spinning": (FIRST, {"OMP_WAIT_POLICY": "ACTIVE"}),
}
KINDS = ["segment", "strip", "training step"]
LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**7): pass"


@contextmanager
def neighbour() -> Iterator[None]:
    """One busy process in a scheduling group of its own."""
    process = subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True)
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def timed(work: str, way: str, arguments: argparse.Namespace) -> float:
    """Seconds of one piece of work in a process of its own, without what it imports and reads first."""
    first, variables = WAYS[way]
    words = [sys.executable, "-c", f"{first}; import busy; busy.work()", work, str(arguments.threads)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "THP_"))}
    kept["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), kept.get("PYTHONPATH", "")])
    words += [str(arguments.templates)] if arguments.templates else []
    done = subprocess.run(words, env=kept | variables, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def work() -> None:
    """Do in this process what its arguments say, and print the seconds."""
    from phantomseg.runtime import keep_freed_memory, set_threads

    kind, threads, *templates = sys.argv[1:]
    set_threads(int(threads))
    keep_freed_memory()
    print(step(Path(templates[0])) if kind == "training step" else use(kind))


def use(kind: str) -> float:
    """Seconds of segmenting or stripping a synthetic scan of 1 mm."""
    from inference import scan

    from phantomseg.inference.segment import segment
    from phantomseg.inference.strip import strip
    from phantomseg.models import find_model

    given, model = scan(), find_model("head" if kind == "segment" else "strip")
    started = time.perf_counter()
    segment(given, model) if kind == "segment" else strip(given, model)
    return time.perf_counter() - started


def step(templates: Path) -> float:
    """Seconds a step, after the first ones."""
    from phantomseg.models import find_model
    from phantomseg.synth.recipe import load_recipe
    from phantomseg.synth.templates import load_templates
    from phantomseg.training.config import TrainConfig
    from phantomseg.training.loop import Run, train

    seconds: list[float] = []
    report = lambda state, progress: seconds.append(state.seconds)  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), start=find_model("head"), report=report)
        train(load_recipe("head"), load_templates(templates), TrainConfig(steps=9, validate_every=99), run)
    return (seconds[-1] - seconds[2]) / (len(seconds) - 3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--templates", type=Path)
    parser.add_argument("--only", choices=KINDS)
    arguments = parser.parse_args()
    if arguments.only == KINDS[2] and not arguments.templates:
        parser.error("a training step needs --templates")
    kinds = [arguments.only] if arguments.only else KINDS if arguments.templates else KINDS[:2]
    print(f"| {arguments.threads} threads, median of {arguments.runs} | waiting threads | alone, s | busy, s | times |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        for way in WAYS:
            alone, busy = [], []
            for _ in range(arguments.runs):  # by turns, so that other work on the machine slows both
                alone.append(timed(kind, way, arguments))
                with neighbour():
                    busy.append(timed(kind, way, arguments))
            a, b = statistics.median(alone), statistics.median(busy)
            print(f"| {kind} | {way} | {a:.2f} | {b:.2f} | {b / a:.1f} |", flush=True)


if __name__ == "__main__":
    main()
