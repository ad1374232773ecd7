"""Dask: many small pieces of one stage, spread over workers that each hold one model.

What crosses to a worker is scalars, addresses and digests; arrays cross as files. A piece may run twice when a
worker dies, so every piece writes its file whole or not at all.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import cache, partial
from threading import Lock
from typing import Any, TypeVar

import dask
import torch
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed

from tasks.progress import Progress
from tasks.runtime import Runtime

_RESIDENTS: dict[str, Any] = {}
"""What the worker of this process holds; filled by `resident_model` and by nothing else."""
_LOADERS: dict[str, Callable[[], Any]] = {}
_LOADING = Lock()  # a worker of several threads loads once too

# One thread a worker; and memory of finished arrays is kept: Dask's default gives every 64 kB back to the system, and
# windows of 4 MB then spend a quarter of their time in page faults.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
}

LOCAL_CLUSTER = {
    "distributed.worker.daemon": False,
    "distributed.logging.distributed": "error",
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
}
QUIET_WORKERS = {"dashboard_address": None, "memory_limit": 0, "silence_logs": logging.ERROR}

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
    device is a GPU, such pieces go to the workers that were started with `--resources GPU=1`, if there are any, one at
    a time to each. A single worker of our own is this process.
    """
    if runtime.workers == 1 and not runtime.dask_scheduler:
        return _here(runtime, function, items, title=title, resident=resident)
    client = _client(runtime.dask_scheduler, runtime.workers)
    if resident:
        client.register_plugin(resident, name=resident.name)
    wanted = {"GPU": 1} if resident and runtime.device != "cpu" and _has_gpu_workers(client) else None
    futures = client.map(function, items, pure=False, retries=1, resources=wanted)
    try:
        with Progress(title, total=len(items), live=runtime.progress) as progress:
            for future in as_completed(futures):
                future.result()
                progress.advance()
        return client.gather(futures)
    except KilledWorker as error:
        raise WorkersLost(
            f"{title}: one piece ended every worker that took it, most often for want of memory ({error}). Take fewer "
            "--workers, or give them more memory, and run again: what is done is kept"
        ) from error
    except CancelledError as error:
        reason = " ".join(str(error).split())
        raise WorkersLost(
            f"{title}: the Dask scheduler is gone ({reason}). Start it and run again: what is done is kept"
        ) from error
    finally:
        client.cancel(futures)
        if resident:
            client.unregister_worker_plugin(resident.name)


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
        resident.setup(None)
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
            resident.teardown(None)


class Resident(WorkerPlugin):
    """A model that every worker with a piece of work loads once: also one that joins late or was restarted."""

    def __init__(self, name: str, load: Callable[..., Any], *arguments: Any) -> None:
        self.name = f"stemwright-{name}"
        self._load, self._arguments = load, arguments

    def setup(self, worker: Any) -> None:
        _LOADERS[self.name] = partial(self._load, *self._arguments)

    def teardown(self, worker: Any) -> None:
        _LOADERS.pop(self.name, None)
        _RESIDENTS.pop(self.name, None)


def resident_model(name: str) -> Any:
    """The model that this worker holds under `name`; loaded when it is first asked for."""
    held = f"stemwright-{name}"
    with _LOADING:
        if held not in _RESIDENTS:
            _RESIDENTS[held] = _LOADERS[held]()
        return _RESIDENTS[held]


def dashboard_link(runtime: Runtime) -> str | None:
    """Where the given scheduler shows its work; None for workers of our own, which have no dashboard."""
    return _client(runtime.dask_scheduler, runtime.workers).dashboard_link if runtime.dask_scheduler else None


def _has_gpu_workers(client: Client) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any("GPU" in worker["resources"] for worker in workers)


@cache
def _client(address: str | None, workers: int) -> Client:
    """A connection to the given scheduler, or to a cluster of this process's own, kept until it ends."""
    if address:
        return Client(address)
    dask.config.set(LOCAL_CLUSTER)
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, **QUIET_WORKERS)
    client = Client(cluster)
    atexit.register(_close, client, cluster)
    return client


def _close(client: Client, cluster: LocalCluster) -> None:
    client.close(timeout=5)
    cluster.close(timeout=10)
