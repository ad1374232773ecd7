"""Workers of a cluster: how many there are, and who among them gets what needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import getoutput

import pytest
from distributed import Scheduler, SpecCluster, Worker, get_worker

from flows.request import StudyRequest
from tasks.cluster import Resident, fan_out
from tasks.dask_workers import client_at, client_of
from tasks.runtime import Runtime


def test_a_local_cluster_grows_while_work_waits(tmp_path: Path) -> None:
    runtime = Runtime(workspace=str(tmp_path), workers=1, most_workers=2, progress=False)
    client = client_of(runtime)
    assert len(client.scheduler_info()["workers"]) == 1
    workers = fan_out(runtime, getoutput, ["sleep 0.3; echo $PPID"] * 60, title="grow")
    assert len(set(workers)) == 2
    client.close()
    client.cluster.close()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"workers": 4, "most_workers": 3}, "the cluster has 4 --workers from its start"),
        ({"most_workers": 9, "dask_scheduler": "tcp://127.0.0.1:8786"}, "is for a local cluster"),
        ({"most_workers": -1}, "greater than or equal to 0"),
    ],
)
def test_a_cluster_that_cannot_grow_is_refused(asked: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        StudyRequest.model_validate(asked)


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A scheduler with workers of these resources."""
    workers = {name: {"cls": Worker, "options": {"resources": held}} for name, held in request.param.items()}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": None, "host": "127.0.0.1"}}
    with SpecCluster(workers=workers, scheduler=scheduler) as cluster:
        yield cluster.scheduler_address
        client_at(cluster.scheduler_address).close()
        client_at.cache_clear()


def taker(_: int) -> str:
    return str(get_worker().name)


@pytest.mark.parametrize("address", [{"plain": {}, "graphic": {"GPU": 1}}], indirect=True)
def test_only_a_worker_with_a_gpu_gets_what_needs_a_model_there(address: str, tmp_path: Path) -> None:
    runtime = Runtime(workspace=str(tmp_path), device="cuda", dask_scheduler=address, progress=False)
    assert {*fan_out(runtime, taker, range(20), title="generate", resident=Resident("none", int))} == {"graphic"}
    assert {*fan_out(runtime, taker, range(20), title="cut")} == {"plain", "graphic"}


@pytest.mark.parametrize("address", [{"plain": {}}], indirect=True)
def test_work_for_a_gpu_where_no_worker_has_one_is_refused_with_the_remedy(address: str, tmp_path: Path) -> None:
    runtime = Runtime(workspace=str(tmp_path), device="cuda", dask_scheduler=address, progress=False)
    with pytest.raises(ValueError, match=r"^generate needs a GPU, .*`dask worker .* --resources GPU=1"):
        fan_out(runtime, taker, [1], title="generate", resident=Resident("none", int))
