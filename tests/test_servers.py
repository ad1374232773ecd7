"""`stemwright up`, `deploy` and `down` for real: a scheduled study, a killed worker, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.lost_runs import SILENCE, watch_for_lost_runs
from tasks.exports import read_scores_parquet
from tasks.marked_processes import marked
from tasks.servers import MLFLOW, PREFECT, WORKER, Servers, running_servers

ROOT = Path(__file__).parent.parent
SMALL = ("--scale", "tiny", "--arms", "+DiT", "--conditionings", "uncond")


def stemwright(*arguments: str) -> str:
    """What a command prints; it must succeed. It runs with no server named by the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    command = [sys.executable, "-m", "flows", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(workspace: Path) -> Servers:
    return Servers(**json.loads((workspace / "servers" / "servers.json").read_text()))


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """The answer of a Prefect or MLflow server. Raises HTTPError for a refusal."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    for _ in range(60):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 503:  # its database is locked; Prefect's own client asks again too
                raise
        time.sleep(0.5)
    raise AssertionError(f"{url} is not available")


def until(true: Callable[[], Any], *, seconds: float) -> Any:
    """What the question answers as soon as it answers something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := true():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"not so within {seconds} s")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace whose servers are up and know the deployments of a small study."""
    folder = tmp_path_factory.mktemp("served")
    try:
        stemwright("up", "--workspace", str(folder))
        stemwright("deploy", "--workspace", str(folder), *SMALL, "--timezone", "Europe/Paris")
        yield folder
    finally:
        stemwright("down", "--workspace", str(folder))


class Server:
    """A Prefect server's deployments and runs."""

    def __init__(self, workspace: Path) -> None:
        self.api = state(workspace).prefect_api

    def deployment(self, name: str) -> dict[str, Any]:
        return ask(f"{self.api}/deployments/name/{name}")

    def run(self, name: str, **parameters: Any) -> str:
        """The id of a new run."""
        asked = {"parameters": parameters} if parameters else {}
        return ask(f"{self.api}/deployments/{self.deployment(name)['id']}/create_flow_run", asked)["id"]

    def state_of(self, run: str) -> str:
        return ask(f"{self.api}/flow_runs/{run}")["state"]["type"]

    def until_state(self, run: str, wanted: str, *, seconds: float) -> None:
        ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        found = until(lambda: (now := self.state_of(run)) in ended | {wanted} and now, seconds=seconds)
        assert found == wanted, ask(f"{self.api}/flow_runs/{run}")["state"]


def watch(server: Server, silence: timedelta) -> None:
    with temporary_settings({PREFECT_API_URL: server.api}):
        watch_for_lost_runs(silence)


def process_of(run: str) -> psutil.Process:
    return until(lambda: marked("PREFECT__FLOW_RUN_ID", run), seconds=60)[0]


@pytest.mark.slow
@pytest.mark.timeout(600)  # the servers start within it
def test_up_again_finds_what_is_running(workspace: Path) -> None:
    before = state(workspace)
    assert set(before.alive()) == {PREFECT, MLFLOW, WORKER}
    assert stemwright("up", "--workspace", str(workspace)).count("running already") == 3
    assert state(workspace) == before


@pytest.mark.slow
def test_servers_listen_on_the_loopback_address_alone(workspace: Path) -> None:
    ours = marked("STEMWRIGHT_SERVERS", state(workspace).token)
    heard = {
        connection.laddr.ip
        for process in ours
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert heard == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "named"),
    [({"seed": -1}, "request.seed"), ({"scale": "huge"}, "request.scale"), ({"lyrics": "la"}, "lyrics")],
)
def test_the_server_refuses_a_bad_value_and_names_it(workspace: Path, bad: dict[str, Any], named: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        Server(workspace).run("reproduce/on-demand", request=bad)
    assert named in json.load(refusal.value)["detail"]


@pytest.mark.slow
def test_the_server_refuses_an_arm_that_the_paper_has_not(workspace: Path) -> None:
    for parameters in ({"arm": "GAN"}, {}):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            Server(workspace).run("train-arm/on-demand", request={}, **parameters)
        assert "arm" in json.load(refusal.value)["detail"]


@pytest.mark.slow
def test_nights_are_planned_in_their_time_zone(workspace: Path) -> None:
    server = Server(workspace)
    wanted = {"deployments": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    planned = until(lambda: ask(f"{server.api}/flow_runs/filter", wanted), seconds=30)
    starts = {run["expected_start_time"][11:16] for run in planned}
    assert len(planned) > 1 and starts <= {"01:00", "02:00"}  # three in the morning in Paris, summer and winter


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_whose_worker_is_killed_is_crashed_and_the_next_one_goes_on_to_the_table(workspace: Path) -> None:
    server, before = Server(workspace), state(workspace)
    watch(server, timedelta(seconds=10))
    lost = server.run("reproduce/nightly")
    server.until_state(lost, "RUNNING", seconds=90)
    os.kill(before.pids[WORKER], signal.SIGKILL)
    process_of(lost).kill()
    server.until_state(lost, "CRASHED", seconds=60)  # by the server alone
    watch(server, SILENCE)

    silent = server.run("prepare/on-demand")
    ask(f"{server.api}/flow_runs/{silent}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    said = stemwright("up", "--workspace", str(workspace))
    assert said.count("marked Crashed") == 1 and "worker   started" in said and said.count("running already") == 2
    assert server.state_of(silent) == "CRASHED"  # there never was a process

    following = server.run("reproduce/nightly")  # cancelled, if the killed one still held its place
    server.until_state(following, "COMPLETED", seconds=600)
    report = workspace / "reports" / "tiny-embedded-seed0"
    assert read_scores_parquet(report / "scores.parquet").cell("+DiT", "uncond", "fad") is not None
    mlflow = f"{before.mlflow_uri}/api/2.0/mlflow"
    (experiment,) = [
        found["experiment_id"]
        for found in ask(f"{mlflow}/experiments/search", {"max_results": 10})["experiments"]
        if found["name"] == "stemwright-eval"
    ]
    rows = ask(f"{mlflow}/runs/search", {"experiment_ids": [experiment]})["runs"]
    (row,) = [run for run in rows if run["info"]["run_name"] == "+DiT / uncond"]
    assert "quality/fad" in {metric["key"] for metric in row["data"]["metrics"]}
    listed = ask(f"{mlflow}/artifacts/list?run_id={row['info']['run_id']}")["files"]
    assert {file["path"] for file in listed} == {"audio", "spectrograms"}


@pytest.mark.slow
def test_down_ends_all_that_up_started(tmp_path: Path, workspace: Path) -> None:
    servers = state(workspace)
    stemwright("down", "--workspace", str(workspace))
    assert marked("STEMWRIGHT_SERVERS", servers.token) == []
    assert running_servers(workspace) is None
    assert "nothing" in stemwright("down", "--workspace", str(workspace))
