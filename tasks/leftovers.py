"""What killed processes left beside the results of a store: half-built folders, half-removed ones, unused locks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.file_lock import locked_if_free

UNBUILT, REMOVED, LOCK = ".building-", ".removed-", ".lock"


class Leftover(NamedTuple):
    """A folder or a lock that no living process holds. `used_s`: when it last changed, in seconds since 1970."""

    path: Path
    bytes: int
    used_s: float

    @property
    def is_lock(self) -> bool:
        return self.path.name.endswith(LOCK)


def leftovers(root: Path) -> Iterator[Leftover]:
    """All of a store, folders first."""
    for pattern in (f"*/{UNBUILT}*", f"*/{REMOVED}*", f"*/.*{LOCK}"):
        for path in sorted(root.glob(pattern)):
            with locked_if_free(_lock_of(path)) as free:
                if free:
                    yield _measured(path)


def clear(leftover: Leftover) -> bool:
    """Remove it. False, and nothing done, where a process has taken hold of it since."""
    with locked_if_free(_lock_of(leftover.path)) as free:
        if free:
            shutil.rmtree(leftover.path) if leftover.path.is_dir() else leftover.path.unlink()
        return free


def _lock_of(path: Path) -> Path:
    name = path.name
    if name.endswith(LOCK):
        return path
    key = name.removeprefix(UNBUILT).removeprefix(REMOVED).partition("-")[0]
    return path.with_name(f".{key}{LOCK}")


def _measured(path: Path) -> Leftover:
    told = [file.stat() for file in (path, *path.rglob("*"))]
    return Leftover(path, sum(each.st_size for each in told), max(each.st_mtime for each in told))
