"""Data-parallel training in processes started by `torchrun`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from phantomseg.environment import torchrun_ranks
from phantomseg.errors import TrainingError
from phantomseg.training.step import Supervised


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

    def any(self, device: torch.device, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world_size == 1:
            return flag
        said = torch.tensor(float(flag), device=device)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return bool(said.item())


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
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(rank, world_size), device
