"""The commands that serve and schedule: `stemwright up`, `down`, `deploy`, `serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import WHOLE, Workspace, asking, guard

if TYPE_CHECKING:
    from flows.request import StudyRequest
    from tasks.servers import Servers

CronOption = Annotated[str | None, typer.Option("--cron", help="When the nightly run starts; else as in prefect.yaml.")]
Timezone = Annotated[str | None, typer.Option(help="The time zone of the nightly run, such as Europe/Paris.")]
Pool = Annotated[str, typer.Option(help="The Prefect work pool whose workers run them; made where it is missing.")]


def up(workspace: Workspace = "workspace") -> None:
    """Start a Prefect server, an MLflow server and a worker for a workspace; those that run already stay."""
    guard(lambda: _up(Path(workspace)))


def _up(workspace: Path) -> int:
    from tasks.servers import WORKER, log_file, start

    started = start(workspace)
    for name in started.servers.pids:
        told = "started" if name in started.names else "running already"
        print(f"{name:8} {told}, output in {log_file(workspace, name)}")
    if WORKER in started.names:
        _crash_lost_runs(started.servers, workspace)
    print(f"Prefect  {started.servers.prefect_api.removesuffix('/api')}")
    print(f"MLflow   {started.servers.mlflow_uri}")
    print(f"next     export PREFECT_API_URL={started.servers.prefect_api}")
    print(f"         stemwright deploy --workspace {workspace}")
    print("         prefect deployment run reproduce/on-demand")
    print(f"         stemwright down --workspace {workspace}")
    return 0


def down(workspace: Workspace = "workspace") -> None:
    """End what `up` started for a workspace, and nothing else."""
    guard(lambda: _down(Path(workspace)))


def _down(workspace: Path) -> int:
    from tasks.servers import stop

    ended = stop(workspace)
    print(f"ended {', '.join(ended)}" if ended else "nothing of this workspace was running")
    return 0


@asking(WHOLE)
def deploy(request: StudyRequest, pool: Pool = "stemwright", cron: CronOption = None, timezone: Timezone = None) -> int:
    """Register the deployments at PREFECT_API_URL, or at the server that `up` started; runs take these options."""
    request = _at_a_full_path(request)
    from tasks.servers import ServerError, check_prefect, running_servers

    servers = running_servers(Path(request.workspace))
    api = os.environ.get("PREFECT_API_URL") or (servers.prefect_api if servers else None)
    if api is None:
        raise ServerError(f"no Prefect server for {request.workspace}: `stemwright up` first, or set PREFECT_API_URL")
    check_prefect(api)
    if servers and servers.prefect_api == api:
        request = _tracked(request, servers)
    _prefect_environment(api, Path(request.workspace))
    from flows.deployments import Night, Place, deploy

    for name in deploy(request, Night(cron, timezone), Place(pool, Path.cwd())):
        print(f"registered {name} at {api}")
    return 0


@asking(WHOLE)
def serve(request: StudyRequest, cron: CronOption = None, timezone: Timezone = None) -> int:
    """Register the deployments and run them from here until Ctrl-C; without PREFECT_API_URL with servers of its own."""
    from tasks.servers import serving

    request = _at_a_full_path(request)
    with serving(Path(request.workspace)):
        return _serve(request, cron, timezone)


def _serve(request: StudyRequest, cron: str | None, timezone: str | None) -> int:
    from tasks.servers import MLFLOW, PREFECT, WORKER, check_prefect, running_servers, start, stop

    workspace, api = Path(request.workspace), os.environ.get("PREFECT_API_URL")
    if api:
        check_prefect(api)
        _prefect_environment(api, workspace)
        return _serve_here(request, cron, timezone)
    started = start(workspace, (PREFECT, MLFLOW))
    try:
        _crash_lost_runs(started.servers, workspace)
        return _serve_here(_tracked(request, started.servers), cron, timezone)
    finally:
        servers = running_servers(workspace)
        if servers and WORKER not in servers.alive():  # with a worker they are those of `up`
            stop(workspace)


def _serve_here(request: StudyRequest, cron: str | None, timezone: str | None) -> int:
    from flows.deployments import Night, serve_here

    print(f"serving at {os.environ['PREFECT_API_URL']} until Ctrl-C; MLflow: {request.mlflow_uri or 'the workspace'}")
    serve_here(request, Night(cron, timezone))
    return 0


def _at_a_full_path(request: StudyRequest) -> StudyRequest:
    """The request, whose runs find the workspace from any folder."""
    return request.model_copy(update={"workspace": str(Path(request.workspace).resolve())})


def _tracked(request: StudyRequest, servers: Servers) -> StudyRequest:
    """The request, with its runs shown by the workspace's own MLflow server unless another was named."""
    return request.model_copy(update={"mlflow_uri": request.mlflow_uri or servers.mlflow_uri})


def _crash_lost_runs(servers: Servers, workspace: Path) -> None:
    """Nobody but this machine reaches these servers: a run without a process here has none."""
    _prefect_environment(servers.prefect_api, workspace)
    from flows.lost_runs import crash_lost_runs

    for name in crash_lost_runs():
        print(f"run {name} lost its process and is marked Crashed; what it built is kept")


def _prefect_environment(api: str, workspace: Path) -> None:
    """What Prefect reads when it is first imported: whom to ask, a home in the workspace, nothing sent outside."""
    from tasks.servers import RUN_SETTINGS

    os.environ["PREFECT_API_URL"] = api
    os.environ.setdefault("PREFECT_HOME", str(workspace.resolve() / "servers" / "prefect"))
    for name, value in RUN_SETTINGS.items():
        os.environ.setdefault(name, value)
