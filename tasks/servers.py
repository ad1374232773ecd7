"""A Prefect server, an MLflow server and a worker for one workspace: started, found again, and ended with nothing else.

Whatever is started bears a random token, and so does all that it starts in turn (`marked_processes`): a process is
ours exactly if it bears it. Everything binds to the loopback address alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from tasks.file_lock import locked_if_free
from tasks.marked_processes import end, mark_of, marked, marks
from tasks.runtime import Runtime
from tasks.whole_files import write_whole

POOL = "stemwright"
PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
LOOPBACK = "127.0.0.1"
USUAL_PORTS = {PREFECT: 4200, MLFLOW: 5000, WORKER: 8080}

# What a run is told wherever it runs: nothing is sent outside, and its own lines are shown in Prefect's log of it.
RUN_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # Prefect's least; a lost run is told by its silence
    "PREFECT_LOGGING_EXTRA_LOGGERS": "stemwright",
}

_TOKEN = "STEMWRIGHT_SERVERS"
_RUN_ID = "PREFECT__FLOW_RUN_ID"  # Prefect puts it into the environment of a run's process
_START_S = 180.0  # a new Prefect database took 41 s on a busy machine


class ServerError(ValueError):
    """A server that did not start or does not answer."""


@dataclass(frozen=True, kw_only=True)
class Servers:
    """What runs for a workspace, as its state file keeps it: the token, a port and a process id by name."""

    token: str
    ports: Mapping[str, int]
    pids: Mapping[str, int] = field(default_factory=dict)

    @property
    def prefect_api(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[PREFECT]}/api"

    @property
    def mlflow_uri(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[MLFLOW]}"

    def alive(self) -> tuple[str, ...]:
        """Those whose process is there and is the one that was started."""
        return tuple(name for name, pid in self.pids.items() if mark_of(pid, _TOKEN) == self.token)


class Started(NamedTuple):
    """The servers, all answering, and the names of those that were not there and had to be started."""

    servers: Servers
    names: tuple[str, ...]


def start(workspace: Path, wanted: Sequence[str] = (PREFECT, MLFLOW, WORKER)) -> Started:
    """The servers of a workspace: those that are alive stay, the others are started, at their last ports if free.

    A state that a reboot or a kill left behind names processes that do not bear its token. Raises ServerError, with
    the log's last line, for one that does not come up.
    """
    folder = _folder(workspace)
    with _alone(folder):
        servers = _living(_read(folder) or Servers(token=secrets.token_hex(16), ports=USUAL_PORTS))
        _keep(servers, folder)  # the token before the first process that bears it
        missing = tuple(name for name in wanted if name not in servers.pids)
        for name in missing:
            servers = replace(servers, pids={**servers.pids, name: _spawn(name, servers, folder)})
            _keep(servers, folder)
            if name != PREFECT or MLFLOW not in missing:  # those two come up side by side
                _await(servers, folder)
        return Started(servers, missing)


def stop(workspace: Path) -> tuple[str, ...]:
    """End what `start` started, and all that it started in turn; the names of those that were still running.

    The worker and its runs go first, so that a run that is under way can still say how it ended.
    """
    folder = _folder(workspace)
    with _alone(folder):
        servers = _read(folder)
        if servers is None:
            return ()
        running = servers.alive()
        if WORKER in running:
            end([psutil.Process(servers.pids[WORKER])])
        end(process for process in marked(_TOKEN, servers.token) if mark_of(process.pid, _RUN_ID))
        end(marked(_TOKEN, servers.token))
        _state(folder).unlink()
        return running


def running_servers(workspace: Path) -> Servers | None:
    """The servers of a workspace, if its Prefect server is running."""
    servers = _read(workspace.resolve() / "servers")
    return servers if servers and PREFECT in servers.alive() else None


@contextmanager
def serving(workspace: Path) -> Iterator[None]:
    """The right to serve a workspace, which one process has at a time. Raises ServerError where another has it."""
    place = _folder(workspace) / "serve.lock"
    with locked_if_free(place) as free:
        if not free:
            raise ServerError(
                f"process {place.read_text()} serves {workspace} already; end that one, or name another --workspace"
            )
        place.write_text(str(os.getpid()))
        yield


def check_prefect(api: str) -> None:
    """Raise ServerError unless a Prefect server answers at this address."""
    if not _answers(f"{api.rstrip('/')}/health"):
        raise ServerError(f"no Prefect server answers at {api}; start one with `stemwright up`, or set PREFECT_API_URL")


def runs_with_a_process() -> set[str]:
    """The ids of all Prefect runs that have a process of this user on this machine."""
    return marks(_RUN_ID)


def log_file(workspace: Path, name: str) -> Path:
    """Where a server's output goes."""
    return _folder(workspace) / f"{name}.log"


def _spawn(name: str, servers: Servers, folder: Path) -> int:
    """The process id of a server in a session of its own, which Ctrl-C and the end of this terminal do not reach."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *_command(name, servers, folder)],
            env=os.environ | RUN_SETTINGS | _settings(servers, folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process.pid


def _command(name: str, servers: Servers, folder: Path) -> list[str]:
    if name == PREFECT:
        return ["prefect", "server", "start"]
    if name == WORKER:
        return ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck"]
    runtime = Runtime(workspace=str(folder.parent))
    place = ["--host", LOOPBACK, "--port", str(servers.ports[MLFLOW]), "--workers", "1"]
    stores = ["--backend-store-uri", runtime.tracking_uri, "--artifacts-destination", runtime.mlflow_artifacts]
    return ["mlflow", "server", *place, *stores]


def _settings(servers: Servers, folder: Path) -> dict[str, str]:
    """What the servers are told by their environment: Prefect's pages learn its port only from there."""
    return {
        _TOKEN: servers.token,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": servers.prefect_api,
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(servers.ports[PREFECT]),
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite has one writer at a time; others wait for it
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # 10 by default, which only many workers need
        "PREFECT_WORKER_WEBSERVER_HOST": LOOPBACK,
        "PREFECT_WORKER_WEBSERVER_PORT": str(servers.ports[WORKER]),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that wait for jobs we have none of
    }


def _await(servers: Servers, folder: Path) -> None:
    """Wait until all that were started answer. Raises ServerError for one that ends or takes too long."""
    until = time.monotonic() + _START_S
    for name in servers.pids:
        path = "/api/health" if name == PREFECT else "/health"
        while not _answers(f"http://{LOOPBACK}:{servers.ports[name]}{path}"):
            if name not in servers.alive() or time.monotonic() > until:
                log = folder / f"{name}.log"
                raise ServerError(f"the {name} server did not start; {log} ends: {_last_line(log)}")
            time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it is there, and wants credentials that Prefect's own client has
    except (OSError, ValueError):
        return False
    return True


def _free_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """These ports, and another free one in the place of each that something else has."""
    held = {name: _bound(port) for name, port in wanted.items()}
    ports = {name: place.getsockname()[1] for name, place in held.items()}
    for place in held.values():
        place.close()
    return ports


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((LOOPBACK, port))
    except OSError:
        place.bind((LOOPBACK, 0))
    return place


def _folder(workspace: Path) -> Path:
    folder = workspace.resolve() / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _state(folder: Path) -> Path:
    return folder / "servers.json"


def _keep(servers: Servers, folder: Path) -> None:
    write_whole(_state(folder), json.dumps(asdict(servers), indent=1).encode())


def _read(folder: Path) -> Servers | None:
    """What the state file keeps. Raises ServerError where it cannot be read."""
    try:
        return Servers(**json.loads(_state(folder).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ServerError(f"{_state(folder)} is damaged ({error}); remove it, and end its servers by hand") from error


def _living(servers: Servers) -> Servers:
    """Only those that are alive; where a port of the others has been taken meanwhile, another."""
    pids = {name: servers.pids[name] for name in servers.alive()}
    others = {name: port for name, port in servers.ports.items() if name not in pids}
    return replace(servers, pids=pids, ports={**servers.ports, **_free_ports(others)})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One `up` or `down` of a workspace at a time; the kernel frees the lock of one that dies."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "(nothing)"
