"""Data-parallel training in processes started by `torchrun`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from phantomseg.environment import torchrun_ranks
from phantomseg.errors import TrainingError
from phantomseg.training.step import Supervised

LONGEST_VALIDATION = timedelta(hours=6)


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process and number of processes."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process validates, writes and reports."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients averaged over all processes."""
        supervised = Supervised(network)
        if self.world_size == 1:
            return supervised
        device = next(network.parameters()).device
        return DistributedDataParallel(supervised, device_ids=[device] if device.type == "cuda" else None)

    def maximum(self, device: torch.device, seconds: float, stopped: bool) -> tuple[float, bool]:
        """The largest value of each over all processes."""
        seconds, stop = self._maximum(device, seconds, float(stopped))
        return seconds, bool(stop)

    def check_same_step(self, device: torch.device, step: int) -> None:
        """Make sure that all processes have read the same checkpoint.

        Raises:
            TrainingError: they have not, as another process saved meanwhile.
        """
        last, first = self._maximum(device, step, -step)
        if last != -first:
            raise TrainingError(f"processes start at steps {-first:.0f} to {last:.0f}, wanted one; start them again")

    def _maximum(self, device: torch.device, *values: float) -> tuple[float, ...]:
        if self.world_size == 1:
            return values
        largest = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return tuple(largest.tolist())


def join_processes(device: torch.device) -> tuple[ProcessGroup, torch.device]:
    """Join the process group of `torchrun`, if there is one; returns it and the device of this process.

    Raises:
        TrainingError: more processes than GPUs.
    """
    wanted = torchrun_ranks()
    if wanted is None:
        return ProcessGroup(), device
    rank, world_size, local_rank = wanted
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise TrainingError(f"local rank {local_rank} has no GPU: this machine has {found}; start fewer processes")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        # the others wait while the main process validates
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_VALIDATION)
    return ProcessGroup(rank, world_size), device
