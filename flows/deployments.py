"""What a Prefect server offers of the study: prepare, train an arm, evaluate an arm, reproduce, and a nightly one.

Written here once and registered by code: `stemwright deploy` (for workers) and `stemwright serve` (in the foreground)
share it, and a workspace's place and addresses are known only when one of them is typed. A `prefect.yaml` would say
it all a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prefect import Flow, get_client, serve
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.runner.storage import LocalStorage
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.lost_runs import watch_for_lost_runs
from flows.pipeline import evaluate_arm, prepare, reproduce, train_arm
from flows.request import StudyRequest
from tasks.servers import RUN_SETTINGS

ON_DEMAND, NIGHTLY = "on-demand", "nightly"
TAGS = ["stemwright"]


class Night(NamedTuple):
    """When the nightly run starts."""

    cron: str
    timezone: str


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
    """The deployments of this request. Two runs of one would share what they build, but slow each other down."""
    asked = {"request": request.model_dump(mode="json", exclude_defaults=True)}
    nightly = {"request": {**asked["request"], "refresh": True}}  # what was made by code that has changed is made again
    waiting, skipped = ConcurrencyLimitStrategy.ENQUEUE, ConcurrencyLimitStrategy.CANCEL_NEW
    return [
        _deployment(prepare, ON_DEMAND, asked, waiting, "Windows, the CLAP and the embeddings that every arm shares."),
        _deployment(train_arm, ON_DEMAND, asked, waiting, "One arm's codec, denoiser and bridge."),
        _deployment(evaluate_arm, ON_DEMAND, asked, waiting, "One arm's rows of the table, trained where needed."),
        _deployment(reproduce, ON_DEMAND, asked, waiting, "The whole study: every arm, the bounds and the report."),
        _deployment(
            reproduce,
            NIGHTLY,
            nightly,
            skipped,
            "Every night: what has changed since the last report, in recordings, recipes or code, is made and scored "
            "again. A night is left out while the one before is still running.",
            schedule=Cron(night.cron, timezone=night.timezone),
        ),
    ]


def _deployment(
    flow: Flow[..., Any],
    name: str,
    parameters: Mapping[str, Any],
    collision: ConcurrencyLimitStrategy,
    description: str,
    schedule: Any = None,
) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        flow,
        name,
        description=description,
        tags=TAGS,
        parameters=dict(parameters),
        schedule=schedule,
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=collision),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _have_pool(name: str) -> None:
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
        except ObjectAlreadyExists:
            return
