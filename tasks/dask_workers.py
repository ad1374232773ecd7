"""Workers of a Dask cluster, of this process's own or at an address: the work of `fan_out` spread over them."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import cache, partial
from typing import Any, TypeVar

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed

from tasks.cluster import Resident, WorkersLost
from tasks.progress import Progress
from tasks.runtime import Runtime

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

AHEAD = 1_000  # pieces that are given out at a time: each takes 10 kB of the scheduler, which may live in this process

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    runtime: Runtime,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    title: str,
    resident: Resident | None,
) -> list[Result]:
    """What `fan_out` says, on workers."""
    client = client_of(runtime)
    wanted = _gpu(client, runtime, title) if resident and runtime.device != "cpu" else None
    if resident:
        client.register_plugin(_Resides(resident), name=resident.name)
    give = partial(client.map, function, pure=False, retries=1, resources=wanted)
    under_way = {future: place for place, future in enumerate(give(items[:AHEAD]))}
    done: dict[int, Result] = {}
    try:
        with Progress(title, total=len(items), live=runtime.progress) as progress:
            finished = as_completed(list(under_way))
            for batch in finished.batches():
                for future, result in zip(batch, client.gather(batch), strict=True):
                    done[under_way.pop(future)] = result
                    progress.advance()
                place = len(done) + len(under_way)
                following = give(items[place : place + len(batch)])
                under_way |= {future: place + number for number, future in enumerate(following)}
                finished.update(following)
        return [done[place] for place in range(len(items))]
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
        client.cancel(list(under_way))
        if resident:
            client.unregister_worker_plugin(resident.name)


class _Resides(WorkerPlugin):
    """A resident on every worker: also on one that joins late or was restarted."""

    def __init__(self, resident: Resident) -> None:
        self._resident = resident

    def setup(self, worker: Any) -> None:
        self._resident.move_in()

    def teardown(self, worker: Any) -> None:
        self._resident.move_out()


def dashboard_link(runtime: Runtime) -> str | None:
    """Where the given scheduler shows its work; None for workers of our own, which have no dashboard."""
    return client_of(runtime).dashboard_link if runtime.dask_scheduler else None


def _gpu(client: Client, runtime: Runtime, title: str) -> dict[str, int] | None:
    """What a worker must have for work on a GPU; None for workers of our own, who share this machine's."""
    if not runtime.dask_scheduler:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any("GPU" in worker["resources"] for worker in workers):
        raise ValueError(
            f"{title} needs a GPU, and none of the {len(workers)} workers at {runtime.dask_scheduler} says it has one: "
            f"start some by `dask worker {runtime.dask_scheduler} --nthreads 1 --resources GPU=1`, or take --device cpu"
        )
    return {"GPU": 1}


def client_of(runtime: Runtime) -> Client:
    """A connection to the given scheduler, or to a cluster of this process's own, kept until it ends."""
    return client_at(runtime.dask_scheduler) if runtime.dask_scheduler else _own(runtime.workers, runtime.most_workers)


@cache
def client_at(address: str) -> Client:
    return Client(address)


def prepare_own_cluster() -> None:
    """Dask's settings, as clusters of this process's own need them."""
    dask.config.set(LOCAL_CLUSTER)
    logging.getLogger("distributed").setLevel(logging.ERROR)  # this process has read its setting already


@cache
def _own(workers: int, most_workers: int) -> Client:
    prepare_own_cluster()
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, **QUIET_WORKERS)
    if most_workers:
        cluster.adapt(minimum=workers, maximum=most_workers)
    client = Client(cluster)
    atexit.register(_close, client, cluster)
    return client


def _close(client: Client, cluster: LocalCluster) -> None:
    client.close(timeout=5)
    cluster.close(timeout=10)
