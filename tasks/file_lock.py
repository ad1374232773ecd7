"""Exclusive locks on files, which the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock, after whoever holds it now."""
    while True:
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(path, handle):
                yield
                return


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Whether nobody held the lock; it is held then."""
    with path.open("a") as handle:  # leaves the time of its last use
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield _is_at(path, handle)


def _is_at(path: Path, handle: IO[str]) -> bool:
    """Whether the file that was locked is the one of that name still: unused ones are removed (`tasks.leftovers`)."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
