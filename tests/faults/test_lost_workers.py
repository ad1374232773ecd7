"""Dask lost in the middle of a stage: a piece that no worker survives, and a scheduler that is gone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import dask
import pytest
from distributed import LocalCluster

from tasks.cluster import WorkersLost, fan_out
from tasks.dask_workers import QUIET_WORKERS, client_at
from tasks.runtime import Runtime


@pytest.fixture(autouse=True)
def _forgets_its_client() -> Iterator[None]:
    yield
    client_at.cache_clear()


def test_a_piece_that_no_worker_survives_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, **QUIET_WORKERS) as cluster,
    ):
        runtime = Runtime(workspace=str(tmp_path), dask_scheduler=cluster.scheduler_address, progress=False)
        with pytest.raises(WorkersLost, match=r"^encode: one piece ended every worker .* Take fewer --workers"):
            # What the kernel does with a process that takes all memory.
            fan_out(runtime, signal.raise_signal, [signal.SIGKILL], title="encode")
        client_at(cluster.scheduler_address).close()


def test_a_scheduler_that_is_gone_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    told = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(told)]
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scheduler,
    ):
        while not (told.exists() and told.read_text()):
            time.sleep(0.05)
        runtime = Runtime(workspace=str(tmp_path), dask_scheduler=json.loads(told.read_text())["address"])
        client_at(runtime.dask_scheduler)  # before the two seconds begin
        Timer(2.0, scheduler.kill).start()
        with pytest.raises(WorkersLost, match=r"^encode: the Dask scheduler is gone .* Start it and run again"):
            fan_out(runtime, abs, [1], title="encode")
