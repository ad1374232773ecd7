"""What all tests share: a core for each of pytest's workers, seeds, Dask workers, a local S3 server for shards."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else every worker would use every core
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # `flows.__main__` says why


def pytest_collection_modifyitems(items):
    """Files with slow tests first: the last worker would else be alone with them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def seeds():
    """A generator for each of some numbers."""
    import torch

    return lambda *numbers: [torch.Generator().manual_seed(number) for number in numbers]


@pytest.fixture(scope="module")
def workers():
    """The address of two Dask workers in this process."""
    from distributed import LocalCluster

    from tasks.dask_workers import client_at

    with LocalCluster(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address
        client_at(cluster.scheduler_address).close()


@pytest.fixture(scope="session")
def s3_server():
    """moto's server mode; what it keeps outlives a restart, as with a real one."""
    moto_server = pytest.importorskip("moto.server", reason="moto's server is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    running = moto_server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A client of a server with the empty bucket `windows`; address and credentials are in the environment alone."""
    import boto3
    import s3fs

    host, port = s3_server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="windows")
    yield client
    for entry in client.list_objects_v2(Bucket="windows").get("Contents", ()):
        client.delete_object(Bucket="windows", Key=entry["Key"])
