"""Training in several processes that torchrun started: who this process is, and gradients averaged over all."""

from __future__ import annotations

from typing import NamedTuple

from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Processes(NamedTuple):
    """This process among those of its group, counted from 0."""

    rank: int
    size: int


def processes() -> Processes:
    """This process and how many there are: 0 of 1 without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Processes(0, 1)
    return Processes(distributed.get_rank(), distributed.get_world_size())


def averaged_over_processes(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over the process group and process 0's weights in all; itself if alone."""
    return DistributedDataParallel(module) if processes().size > 1 else module
