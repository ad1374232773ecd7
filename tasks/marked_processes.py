"""Processes told by a mark in their environment, which every process hands on to what it starts.

A process id alone says little: the system gives it to another program when its holder has ended. A random mark is
nobody else's, and an orphan whose parent was killed still bears it.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil

PATIENCE_S = 15.0


def mark_of(pid: int, name: str) -> str | None:
    """The mark of this name that a process bears; None without one, for one that is gone or another user's."""
    try:
        return psutil.Process(pid).environ().get(name)
    except (psutil.Error, OSError):
        return None


def marks(name: str) -> set[str]:
    """Every mark of this name that a process of this user on this machine bears."""
    return {mark for pid in psutil.pids() if (mark := mark_of(pid, name))}


def marked(name: str, mark: str) -> list[psutil.Process]:
    """The processes that bear this mark."""
    return [process for process in psutil.process_iter() if mark_of(process.pid, name) == mark]


def end(processes: Iterable[psutil.Process]) -> None:
    """Ask these to end, and kill those that have not within a while."""
    asked = list(processes)
    for process in asked:
        _signal(process, kill=False)
    _, deaf = psutil.wait_procs(asked, timeout=PATIENCE_S)
    for process in deaf:
        _signal(process, kill=True)
    psutil.wait_procs(deaf, timeout=PATIENCE_S)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return
