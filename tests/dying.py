"""Run `phantomseg segment` again and again, each time ending the process at one step further, and once more to the end.

    python dying.py SCANS MODEL OUT

The steps are those that move or remove files. Each run has a folder of its own, OUT/STEP; a number a line is printed,
the last being a run that came to its end undisturbed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import phantomseg.inference.summary  # once here, not in every child
import phantomseg.report.cohort_report
import phantomseg.report.extras  # noqa: F401
from phantomseg.cli.main import main
from phantomseg.inference.find import finder

STEPS = ((os, "replace"), (os, "unlink"), (shutil, "rmtree"))
KILLED = 9


def segment(scans: str, model: str, out: str, last_step: int | None) -> NoReturn:
    if last_step is not None:
        counted = [0]
        for module, name in STEPS:
            setattr(module, name, dying(getattr(module, name), counted, last_step))
    flags = ("--no-report", "--backend", "torch", "--device", "cpu", "--threads", "1")
    try:
        main(["segment", scans, "--model", model, "-o", out, *flags])
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    os._exit(0)


def dying(function: Callable[..., Any], counted: list[int], last_step: int) -> Callable[..., Any]:
    def counting(*arguments: Any, **named: Any) -> Any:
        if counted[0] == last_step:
            os._exit(KILLED)  # nothing is cleaned up, as when power fails
        counted[0] += 1
        return function(*arguments, **named)

    return counting


def ended(scans: str, model: str, out: str, last_step: int | None) -> int:
    child = os.fork()
    if not child:
        segment(scans, model, out, last_step)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    scans, model, folder = sys.argv[1:]
    finder()
    step = 0
    while ended(scans, model, f"{folder}/{step}", step) == KILLED:
        print(step, ended(scans, model, f"{folder}/{step}", None), flush=True)
        step += 1
    print(step, 0)
