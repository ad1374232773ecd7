"""Dask: many small pieces of one stage, spread over workers that each hold one model.

What crosses to a worker is scalars, addresses and digests; arrays cross as files. A piece may run twice when a
worker dies, so every piece writes its file whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import torch

from tasks.progress import Progress
from tasks.runtime import Runtime

_RESIDENTS: dict[str, Any] = {}
"""What the worker of this process holds; filled by `resident_model` and by nothing else."""
_LOADERS: dict[str, Callable[[], Any]] = {}
_LOADING = Lock()  # a worker of several threads loads once too

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersLost(OSError):
    """Workers or their scheduler ended before their work did."""


def fan_out(
    runtime: Runtime,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    resident: Resident | None = None,
) -> list[Result]:
    """`[function(item) for item in items]`, spread over the workers, with live progress.

    Raises the first piece's exception, after the pieces under way have ended, and WorkersLost.
    `resident` is loaded once a worker, by its first piece; the function gets it by `resident_model(name)`. Where the
    device is a GPU, such pieces go to those of a scheduler's workers that were started with `--resources GPU=1`, one at
    a time to each; ValueError where there are none. A single worker of our own is this process.
    """
    if runtime.workers == 1 and not runtime.most_workers and not runtime.dask_scheduler:
        return _here(runtime, function, items, title=title, resident=resident)
    from tasks.dask_workers import spread  # here: what only looks at results does without Dask

    return spread(runtime, function, items, title=title, resident=resident)


def _here(
    runtime: Runtime,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    resident: Resident | None,
) -> list[Result]:
    """The same without a cluster, on one thread as workers have: sums of floats, and so digests, depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if resident:
        resident.move_in()
    done = []
    try:
        with Progress(title, total=len(items), live=runtime.progress) as progress:
            for item in items:
                done.append(function(item))
                progress.advance()
        return done
    finally:
        torch.set_num_threads(threads)
        if resident:
            resident.move_out()


class Resident:
    """A model that every worker with a piece of work loads once: also one that joins late or was restarted."""

    def __init__(self, name: str, load: Callable[..., Any], *arguments: Any) -> None:
        self.name = f"stemwright-{name}"
        self._load, self._arguments = load, arguments

    def move_in(self) -> None:
        _LOADERS[self.name] = partial(self._load, *self._arguments)

    def move_out(self) -> None:
        _LOADERS.pop(self.name, None)
        _RESIDENTS.pop(self.name, None)


def resident_model(name: str) -> Any:
    """The model that this worker holds under `name`; loaded when it is first asked for."""
    held = f"stemwright-{name}"
    with _LOADING:
        if held not in _RESIDENTS:
            _RESIDENTS[held] = _LOADERS[held]()
        return _RESIDENTS[held]
