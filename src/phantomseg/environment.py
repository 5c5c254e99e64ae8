"""Environment variables that libraries of torch read once, at import; set before that wherever possible.

OpenMP threads synchronise after each loop, and by default spin while they wait. If another program uses one of the
cores, every synchronisation then waits for a scheduler time slice and a scan takes ten times as long. Sleeping instead
costs about a tenth of a millisecond a loop.
"""

from __future__ import annotations

import os
import sys

VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "THP_MEM_ALLOC_ENABLE": "1",  # huge pages for large tensors: far fewer page faults
}

THREADS = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")

# torch was imported first, and the wait policy is not set
threads_spin = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ


def prepare_environment() -> None:
    """Set the variables that are not set yet."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def requested_threads() -> int | None:
    """Number of threads set by the user or a batch system, or None."""
    for name in THREADS:
        said = os.environ.get(name, "").split(",")[0].strip()
        if said.isdecimal() and int(said) > 0:
            return int(said)
    return None


def torchrun_ranks() -> tuple[int, int, int] | None:
    """Rank, world size and local rank as set by `torchrun`, or None."""
    said = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(value.isdecimal() for value in said):
        return None
    rank, world, local = map(int, said)
    return rank, world, local
