"""The machine: device, threads, number formats, memory allocator."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
import threading
from pathlib import Path

import torch

from phantomseg import environment
from phantomseg.cgroups import quota_cores
from phantomseg.errors import PhantomSegError

POOL_VOXELS = 2**20


def choose_device(name: str = "auto") -> torch.device:
    """The device that `name` asks for; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        PhantomSegError: the device is not there.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there.get(name, False):
        found = ", ".join(kind for kind, yes in there.items() if yes)
        raise PhantomSegError(f"device {name!r} is not available here; choose auto or one of {found}")
    return torch.device(name)


def set_threads(count: int | None = None) -> int:
    """Use `count` CPU threads, by default `usual_threads`; returns the number."""
    count = count or usual_threads()
    torch.set_num_threads(count)
    let_threads_sleep()
    return count


def usual_threads() -> int:
    """Default number of threads: OMP_NUM_THREADS or that of a batch system, else one per available physical core.

    A CPU quota of a container is an upper limit.
    """
    if wanted := environment.requested_threads():
        return wanted
    cores = physical_cores()
    return max(1, min(cores, math.ceil(quota_cores() or cores)))


@functools.cache
def let_threads_sleep() -> None:
    """Make waiting threads sleep even if torch was imported before the wait policy was set.

    GNU's OpenMP spins only briefly while it has more threads than cores, so this starts a second pool, which sleeps.
    """
    if not environment.threads_spin or not sys.platform.startswith("linux"):
        return
    ready = threading.Event()

    def keep_a_pool() -> None:
        torch.set_num_threads(cores)
        torch.ones(POOL_VOXELS).add_(1)  # large enough for all threads
        ready.set()
        threading.Event().wait()

    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    if cores > 1:
        threading.Thread(target=keep_a_pool, name="phantomseg-idle", daemon=True).start()
        ready.wait()
        torch.set_num_threads(threads)


def physical_cores() -> int:
    """Physical cores this process may run on."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.is_file() else str(cpu))
    return max(1, len(siblings))


def number_format(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes with it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & _processor_flags() else torch.float32
    return torch.float32


@functools.cache
def _processor_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    return frozenset(info.read_text().split()) if info.is_file() else frozenset()


def autocast(device: torch.device, *, enabled: bool = True) -> torch.autocast:
    """A block in which the device computes in its `number_format`, or in float32 if not `enabled`."""
    let_threads_sleep()  # here, as every pass of a network comes by
    dtype = number_format(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and dtype == torch.bfloat16)


def hardware(device: torch.device) -> str:
    """What a run ran on: processor or GPU, threads, number format, version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = f"{torch.get_num_threads()} threads of " if device.type == "cpu" else ""
    precision = str(number_format(device)).removeprefix("torch.")
    return f"{threads}{name}, {precision}, torch {torch.__version__}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Have the C library reuse large blocks instead of returning them to the system (Linux, glibc).

    Volumes are allocated and freed at every step; fetching their pages anew each time doubled the time of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)
