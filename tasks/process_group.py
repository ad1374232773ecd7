"""The processes that torchrun started, as one group: opened and closed by the command, led by process 0.

    torchrun --nproc-per-node 2 -m flows codec fit --audio DIR

Process 0 alone prepares, writes and reports. The others wait until it has, find what it made, and help it train.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import torch
from torch import distributed

from models.data_parallel import Processes, processes
from tasks.artifact import Artifact
from tasks.runtime import Runtime

PATIENCE = timedelta(days=1)  # others wait while process 0 renders a corpus; one that dies ends them all at once


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """This process among those of torchrun, each with a GPU of its own where `device` is cuda; else 0 of 1."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield processes()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield processes()
    finally:
        distributed.destroy_process_group()


@contextmanager
def first_alone() -> Iterator[None]:
    """What is done in here process 0 does first, and the others when it has."""
    if processes().rank == 0:
        yield
        as_process_0(True)
    else:
        as_process_0(True)
        yield


class Shared(Protocol):
    """A step that calls for assistance (`call_assistants`) when it comes to what several processes share."""

    def assist(self, runtime: Runtime) -> None:
        """Take part in what process 0 is doing, until it is done."""


SharedStep = TypeVar("SharedStep", bound=Shared)


def built_together(step: SharedStep, build: Callable[[SharedStep], Artifact], runtime: Runtime) -> Artifact | None:
    """The result, built by process 0 if it is not there; the other processes assist when called, and get None."""
    if processes().rank == 0:
        artifact = build(step)
        as_process_0(False)
        return artifact
    while as_process_0(False):
        step.assist(runtime)
    return None


def call_assistants() -> None:
    """Have the others leave `built_together` for a moment and assist; process 0 calls it."""
    as_process_0(True)


def as_process_0(told: bool) -> bool:
    """What process 0 was told; the others wait for it, and what they are told counts for nothing."""
    if processes().size == 1:
        return told
    answer = torch.tensor(int(told))
    distributed.broadcast(answer, src=0)
    return bool(answer)
