"""What is ours is told by a mark, never by a number: state files lie after a reboot, and orphans have no parent."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from tasks import servers
from tasks.servers import (
    PREFECT,
    WORKER,
    ServerError,
    Servers,
    running_servers,
    runs_with_a_process,
    serving,
    start,
    stop,
)

SLEEP = "import time; time.sleep(60)"
PORTS = {"prefect": 4200, "mlflow": 5000, "worker": 8080}

Sleeper = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """Processes that sleep, with these variables in their environment; all are ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def sleep(code: str = SLEEP, **environment: str) -> subprocess.Popen[str]:
        command, told = [sys.executable, "-c", f"print(flush=True); {code}"], {**os.environ, **environment}
        process = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()  # its environment is its own by now
        return process

    yield sleep
    for process in started:
        process.kill()
        process.wait()


def keep(workspace: Path, **pids: int) -> str:
    """Write a state file with these process ids; its token."""
    token = secrets.token_hex(16)
    (workspace / "servers").mkdir()
    told = {"token": token, "ports": PORTS, "pids": pids}
    (workspace / "servers" / "servers.json").write_text(json.dumps(told))
    return token


def test_a_second_serve_of_a_workspace_is_refused_and_names_the_first(tmp_path: Path, sleeper: Sleeper) -> None:
    code = f"from pathlib import Path; from tasks.servers import serving\nwith serving(Path({str(tmp_path)!r})): {{}}"
    first = sleeper(f"{code.format('print(flush=True); import time; time.sleep(60)')}")
    assert first.stdout is not None and first.stdout.readline()
    second = CliRunner().invoke(app, ["serve", "--scale", "tiny", "--workspace", str(tmp_path)])
    assert (second.exit_code, second.stderr.count("\n")) == (2, 1)
    assert f"process {first.pid} serves {tmp_path} already" in second.stderr
    assert not (tmp_path / "servers" / "servers.json").exists()
    first.kill()
    first.wait()
    with serving(tmp_path):  # a lock dies with its holder
        pass


def test_a_process_that_has_a_servers_number_by_chance_is_left_alone(tmp_path: Path, sleeper: Sleeper) -> None:
    stranger = sleeper()
    keep(tmp_path, prefect=stranger.pid, worker=stranger.pid)
    assert running_servers(tmp_path) is None
    assert stop(tmp_path) == ()
    assert stranger.poll() is None


def test_a_server_of_another_workspace_is_left_alone(tmp_path: Path, sleeper: Sleeper) -> None:
    other = sleeper(STEMWRIGHT_SERVERS="another token")
    keep(tmp_path, prefect=other.pid)
    assert stop(tmp_path) == ()
    assert other.poll() is None


def test_what_the_servers_started_ends_with_them_even_without_its_parent(tmp_path: Path, sleeper: Sleeper) -> None:
    token = keep(tmp_path)
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    parent = sleeper(child, STEMWRIGHT_SERVERS=token)
    parent.wait()
    assert len(servers.marked("STEMWRIGHT_SERVERS", token)) == 1
    stop(tmp_path)
    assert servers.marked("STEMWRIGHT_SERVERS", token) == []


def test_those_that_are_alive_are_told_and_the_dead_are_not(tmp_path: Path, sleeper: Sleeper) -> None:
    (tmp_path / "servers").mkdir()
    alive, dead = sleeper(STEMWRIGHT_SERVERS="mark"), sleeper(STEMWRIGHT_SERVERS="mark")
    dead.kill()
    while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)  # not waited for, it stays a number without a program
    kept = Servers(token="mark", ports=PORTS, pids={PREFECT: alive.pid, WORKER: dead.pid})
    assert kept.alive() == (PREFECT,)


def test_one_that_does_not_ask_to_end_is_killed(
    tmp_path: Path, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.marked_processes.PATIENCE_S", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = sleeper(deaf, STEMWRIGHT_SERVERS=keep(tmp_path))
    assert process.stdout is not None
    process.stdout.readline()
    stop(tmp_path)
    assert not psutil.pid_exists(process.pid)


def test_a_run_with_a_process_is_known_by_its_id(sleeper: Sleeper) -> None:
    sleeper(PREFECT__FLOW_RUN_ID="7d005ea6")
    assert "7d005ea6" in runs_with_a_process()


def test_a_port_that_is_taken_is_not_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert servers._free_ports({PREFECT: port})[PREFECT] != port
    assert servers._free_ports({PREFECT: port}) == {PREFECT: port}


def test_a_server_that_does_not_start_is_named_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_command", lambda *_: ["no_such_server"])
    with pytest.raises(ServerError, match=r"prefect server did not start; .*prefect\.log ends: .*no_such_server"):
        start(tmp_path, (PREFECT,))


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / "servers" / "servers.json").write_text("{")
    with pytest.raises(ServerError, match=r"servers\.json is damaged"):
        stop(tmp_path)
