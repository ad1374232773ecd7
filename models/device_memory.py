"""What does not fit a device's memory, said in one line with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class TooLargeError(ValueError):
    """Work that does not fit the device's memory."""


@contextmanager
def within_memory(what: str, device: torch.device | str, *, remedy: str) -> Iterator[None]:
    """Raise TooLargeError, naming the work, the device and the remedy, where torch runs out of memory in here."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first_line = str(error).splitlines()[0]
        raise TooLargeError(f"{what} does not fit the memory of {device} ({first_line}); {remedy}") from error
