"""What a Prefect server offers of the study: prepare, train an arm, evaluate an arm, reproduce, and a nightly one.

`prefect.yaml` declares them. `stemwright deploy` (for workers) and `stemwright serve` (in the foreground) fill in what
is known only when one of them is typed: the request, with the workspace's place and the addresses of servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prefect import get_client, serve
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import load_flow_from_entrypoint
from prefect.runner.storage import LocalStorage
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.lost_runs import watch_for_lost_runs
from flows.request import StudyRequest
from tasks.servers import RUN_SETTINGS

DECLARED = Path(__file__).parent.parent / "prefect.yaml"


class Night(NamedTuple):
    """When the nightly run starts; None: as declared."""

    cron: str | None = None
    timezone: str | None = None


class Place(NamedTuple):
    """Who runs the deployments, and the folder in which relative paths of a run's parameters are looked up."""

    pool: str
    folder: Path


def deploy(request: StudyRequest, night: Night, place: Place) -> list[str]:
    """Register every deployment at PREFECT_API_URL, in the place of those of the same name; their full names.

    `request` is what a run does whose parameters nobody changed. The pool is made, for processes, where it is missing.
    """
    _have_pool(place.pool)
    watch_for_lost_runs()
    registered = deployments(request, night)
    for deployment in registered:
        deployment.job_variables = {"env": RUN_SETTINGS}
        deployment.storage = LocalStorage(path=str(place.folder))
        deployment.apply(work_pool_name=place.pool)
    return [deployment.full_name for deployment in registered]


def serve_here(request: StudyRequest, night: Night) -> None:
    """Register every deployment and run it in processes of this one, until Ctrl-C."""
    watch_for_lost_runs()
    served = deployments(request, night)
    for deployment in served:
        deployment.paused = False  # the end of the last `serve` paused its schedule
    serve(*served, print_starting_message=False)


def deployments(request: StudyRequest, night: Night) -> list[RunnerDeployment]:
    """The declared deployments of this request. Raises FileNotFoundError where they are not declared."""
    if not DECLARED.exists():
        raise FileNotFoundError(f"{DECLARED} is not there; install Stemwright from its checkout, which holds it")
    declared = yaml.safe_load(DECLARED.read_text(encoding="utf-8"))["deployments"]
    asked = request.model_dump(mode="json", exclude_defaults=True)
    return [_deployment(told, asked, night) for told in declared]


def _deployment(told: dict[str, Any], asked: dict[str, Any], night: Night) -> RunnerDeployment:
    schedules = [
        Cron(night.cron or planned["cron"], timezone=night.timezone or planned["timezone"])
        for planned in told.get("schedules", ())
    ]
    return RunnerDeployment.from_flow(
        load_flow_from_entrypoint(told["entrypoint"]),
        told["name"],
        description=told["description"],
        tags=told["tags"],
        parameters={"request": asked | told["parameters"]["request"]},
        schedules=schedules,
        concurrency_limit=ConcurrencyLimitConfig(**told["concurrency_limit"]),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _have_pool(name: str) -> None:
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
        except ObjectAlreadyExists:
            return
