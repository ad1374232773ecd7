"""Training in several processes that torchrun started: who this process is, its rows, and what all agree on.

The batch of a step is the recipe's, whatever the number of processes: each takes its rows of it. Every process draws
the noise of the whole batch and keeps its rows', so an item's noise never depends on who computes it, and a training
may go on with another number of processes. Only the order in which gradients are summed differs: float rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
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


def own_rows(batch_size: int) -> slice:
    """This process' rows of a batch. Raises ValueError unless the batch divides among the processes."""
    rank, size = processes()
    if batch_size % size:
        raise ValueError(f"a batch of {batch_size} does not divide among {size} processes; start a number that divides")
    share = batch_size // size
    return slice(rank * share, (rank + 1) * share)


def averaged_over_processes(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over the process group and process 0's weights in all; itself if alone."""
    return DistributedDataParallel(module) if processes().size > 1 else module


class ForwardPass(nn.Module):
    """A function of a module's weights as a forward pass, which is where processes begin to share gradients."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, *inputs: Any) -> Tensor:
        """What the function returns."""
        return self._function(*inputs)


def mean_of_processes(values: Tensor) -> Tensor:
    """The mean of every process' tensor, in all of them; all must call it."""
    return sum_of_processes(values) / processes().size


def sum_of_processes(values: Tensor) -> Tensor:
    """The sum of every process' tensor, in all of them; all must call it."""
    if processes().size == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total


def in_any_process(told: bool, device: torch.device) -> bool:
    """Whether any process was told so; all must call it. `device` is where the group's tensors live."""
    if processes().size == 1:
        return told
    return bool(sum_of_processes(torch.tensor(float(told), device=device)) > 0)


def state_of_process_0(
    state: Mapping[str, Tensor] | None, like: Mapping[str, Tensor], device: torch.device
) -> Mapping[str, Tensor] | None:
    """The state that process 0 goes on from, on the CPU, in every process; None where it begins anew.

    `like` has the state's names and shapes in every process. Tensors go one by one, so that a GPU never holds them all.
    """
    rank, size = processes()
    if size == 1:
        return state
    if not in_any_process(rank == 0 and state is not None, device):
        return None
    told = {}
    for name in sorted(like):
        one = (state or like)[name].detach().to(device, copy=True)
        distributed.broadcast(one, src=0)
        told[name] = one.cpu()
    return told
