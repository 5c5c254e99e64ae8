"""Variables that the libraries under torch read once, when they are loaded: set before that wherever possible.

Threads of a computation wait for each other at the end of each loop. By default they spin meanwhile: where another
program needs one of their cores, everybody waits for whole time slices, and a scan takes ten times as long. To let them
sleep costs a tenth of a millisecond a loop.
"""

from __future__ import annotations

import os
import sys

VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "THP_MEM_ALLOC_ENABLE": "1",  # torch asks for large pages then, which fresh volumes are filled with much quicker
}

THREADS = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")

# torch was there first, and nobody has said how its threads shall wait
threads_spin = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ


def prepare_environment() -> None:
    """Set the variables that nobody has set."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def threads_wanted() -> int | None:
    """Threads that the user or a batch system asks for, None where nobody does."""
    for name in THREADS:
        said = os.environ.get(name, "").split(",")[0].strip()
        if said.isdecimal() and int(said) > 0:
            return int(said)
    return None


def rank_wanted() -> tuple[int, int, int] | None:
    """Number of this process, how many there are, and its number on this machine, as `torchrun` says; else None."""
    said = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(value.isdecimal() for value in said):
        return None
    rank, world, local = map(int, said)
    return rank, world, local
