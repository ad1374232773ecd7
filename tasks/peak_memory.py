"""The most memory that a piece of work holds at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

MIB = 2**20
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak_mib(work: Callable[[], object], device: str) -> float | None:
    """The most MiB that `work` (picklable) holds beyond what a process holds that has imported it.

    It runs in a process of its own: one that has worked before fills pages it already has, and would show nothing.
    Torch's count on a CUDA device, else resident pages; None where the system does not tell them (not Linux).
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_peak_mib, work, device).result()


def _peak_mib(work: Callable[[], object], device: str) -> float | None:
    if device.startswith("cuda"):
        work()
        return torch.cuda.max_memory_allocated(device) / MIB
    if not _RESET.exists():
        return None
    _RESET.write_text("5")  # proc(5): sets the peak back to what is resident now
    before = _status_mib("VmRSS")
    work()
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
