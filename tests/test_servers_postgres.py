"""A team's servers for real: Prefect's and MLflow's on Postgres, with MLflow's files in a bucket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from tasks.tracked_rows import DataRun, publish_data
from tasks.tracking import open_tracking

ROOT = Path(__file__).parent.parent
OWNER = "postgres" if os.geteuid() == 0 else None  # Postgres refuses to run as root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("pg_config") is None and not list(Path("/usr/lib/postgresql").glob("*/bin")),
        reason="Postgres is not installed",
    ),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def serving(url: str, *command: str, folder: Path, **environment: str) -> Iterator[None]:
    """A server of our environment's, until it answers; ended with all that it started."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 150
        while not answers(url):
            assert process.poll() is None and time.monotonic() < end, (folder / f"{command[0]}.log").read_text()[-2000:]
            time.sleep(0.3)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Postgres of our own with the databases `prefect` and `mlflow`: user:password@host:port."""
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    found = programs or Path(shutil.which("initdb") or "initdb").parent
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    for parent in (folder, *takewhile(lambda parent: parent != Path(tempfile.gettempdir()), folder.parents)):
        parent.chmod(parent.stat().st_mode | 0o011)  # its owner passes through
    if OWNER:
        shutil.chown(folder, OWNER)

    def program(name: str, *arguments: str) -> None:
        subprocess.run([found / name, *arguments], check=True, capture_output=True, user=OWNER, cwd=folder, timeout=60)

    data = str(folder / "data")
    program("initdb", "-D", data, "-U", "stemwright", "--auth=trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    program("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        for database in ("prefect", "mlflow"):
            program("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "stemwright", database)
        yield f"stemwright@127.0.0.1:{port}"
    finally:
        program("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_deployments_are_registered_at_a_server_on_postgres(postgres: str, tmp_path: Path) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment: Mapping[str, str] = {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{postgres}/prefect",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
    }
    command = [sys.executable, "-m", "flows", "deploy", "--scale", "tiny", "--workspace", str(tmp_path)]
    with serving(f"{api}/health", "prefect", "server", "start", folder=tmp_path, **environment):
        told = {**os.environ, **environment}
        for _ in range(2):  # the second time in the place of the first
            done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("registered") == 5


def test_runs_and_their_files_go_to_postgres_and_a_bucket(postgres: str, tmp_path: Path, s3) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed, by which MLflow speaks to Postgres")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"postgresql://{postgres}/mlflow",
        "--artifacts-destination",
        "s3://windows/mlflow",
    ]
    environment = {
        "MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with serving(f"{uri}/health", "mlflow", "server", *place, *stores, folder=tmp_path, **environment):
        run = DataRun(key="k", name="codec", params={}, figures={"snr_db": 20.0}, tags={}, files={"a/b.txt": b"heard"})
        tracking = open_tracking(uri, "", "study")
        first = publish_data(tracking, [run])
        assert publish_data(tracking, [run]) == first
    kept = [entry["Key"] for entry in s3.list_objects_v2(Bucket="windows")["Contents"]]
    assert len(kept) == 1 and kept[0].endswith("artifacts/a/b.txt")
