"""The most memory that a stretch of work holds at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

MIB = 2**20
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """`mib` after the work: the most MiB in use above what was there before; None where the system does not tell."""

    mib: float | None = None


@contextmanager
def peak_memory(device: str) -> Iterator[PeakMemory]:
    """Watches a stretch of work: torch's own count on a CUDA device, else the process' resident pages (Linux)."""
    watched = PeakMemory()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield watched
        watched.mib = (torch.cuda.max_memory_allocated(device) - before) / MIB
        return
    if not _RESET.exists():
        yield watched
        return
    _RESET.write_text("5")  # proc(5): sets the peak back to what is resident now
    resident = _status_mib("VmRSS")
    yield watched
    watched.mib = _status_mib("VmHWM") - resident


def _status_mib(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
