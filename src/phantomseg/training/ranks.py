"""Several processes at one run, as `torchrun` starts them: each takes its share of every batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from phantomseg.environment import rank_wanted
from phantomseg.errors import TrainingError
from phantomseg.training.step import Supervised


@dataclass(frozen=True)
class Ranks:
    """This process's number among so many."""

    number: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, writes and reports."""
        return self.number == 0

    def share(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are the mean over all processes."""
        supervised = Supervised(network)
        if self.count == 1:
            return supervised
        device = next(network.parameters()).device
        return DistributedDataParallel(supervised, device_ids=[device] if device.type == "cuda" else None)

    def agree(self, device: torch.device, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        said = torch.tensor(float(flag), device=device)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return bool(said.item())


def join(device: torch.device) -> tuple[Ranks, torch.device]:
    """This process's place among those that `torchrun` started, and the device that is its own.

    Raises:
        TrainingError: there are more processes than GPUs.
    """
    wanted = rank_wanted()
    if wanted is None:
        return Ranks(), device
    number, count, here = wanted
    if device.type == "cuda":
        if here >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise TrainingError(f"torchrun starts process {here} of this machine, which has {found} GPUs; start fewer")
        device = torch.device("cuda", here)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(number, count), device
