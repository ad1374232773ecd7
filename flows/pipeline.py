"""The Prefect flows: prepare, train an arm, evaluate an arm, reproduce the whole study."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import dask
from prefect import flow, task
from prefect.futures import wait
from prefect_dask import DaskTaskRunner

from flows import study as graph
from flows.request import StudyRequest
from flows.study import Prepared, Study
from models.arms import Arm
from tasks.artifact import Artifact
from tasks.evaluation_runs import track_rows
from tasks.materialise import materialise
from tasks.report import Published, ReportRow, publish
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store


class Session(NamedTuple):
    """A request made ready: the study, the user's folder, and where it runs."""

    request: StudyRequest
    study: Study
    folder: Artifact | None
    runtime: Runtime

    def make(self, step: Step) -> Artifact:
        """The result of a step, through Prefect."""
        return materialise(step, self.runtime)

    def arm(self, name: str) -> Arm:
        """An arm of this study. Raises ValueError naming those there are."""
        for arm in self.study.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"this study has no arm {name!r}; it has {', '.join(arm.name for arm in self.study.arms)}")


def session(request: StudyRequest) -> Session:
    """Check a request whole before anything is built."""
    study = request.study()
    request.check(study)
    return Session(request=request, study=study, runtime=request.runtime(), folder=request.folder())


@flow(name="prepare", persist_result=False)
def prepare(request: StudyRequest) -> Prepared:
    """Windows, the CLAP and the embeddings of the windows."""
    ready = session(request)
    return graph.prepare(ready.study, ready.folder, ready.make)


@flow(name="train-arm", persist_result=False)
def train_arm(request: StudyRequest, arm: str) -> graph.Trained:
    """One arm's codec, denoiser and bridge, and all they need."""
    ready = session(request)
    prepared = graph.prepare(ready.study, ready.folder, ready.make)
    return graph.train_arm(ready.study, prepared, ready.arm(arm), ready.make)


@flow(name="evaluate-arm", persist_result=False)
def evaluate_arm(request: StudyRequest, arm: str) -> list[ReportRow]:
    """One arm's rows of the table, and all they need."""
    ready = session(request)
    wanted = ready.arm(arm)
    prepared = graph.prepare(ready.study, ready.folder, ready.make)
    trained = graph.train_arm(ready.study, prepared, wanted, ready.make)
    return graph.evaluate_arm(ready.study, prepared, wanted, trained, request.conditionings_of(wanted), ready.make)


@flow(name="reproduce", persist_result=False)
def reproduce(request: StudyRequest) -> Published:
    """The whole study: every arm under every conditioning, the bounds, and the report."""
    ready = session(request)
    if request.arm_workers > 1:
        runner: Any = _dask_runner(request)  # prefect-dask's runner is not typed as one
        build_arms.with_options(task_runner=runner)(request)
    command = request.command_line()
    step = graph.whole(ready.study, ready.folder, request.conditionings_of, ready.make, command=command)
    report = ready.make(step)
    track_rows(step, ready.runtime)
    return publish(report, ready.runtime.root, request.name())


@flow(name="build-arms", persist_result=False)
def build_arms(request: StudyRequest) -> None:
    """Every arm's rows side by side on Dask workers; what they build, the study then finds.

    Arms that share a result wait for one another at its lock. Raises the first arm's error.
    """
    ready = session(request)
    graph.prepare(ready.study, ready.folder, ready.make)
    futures = [build_arm.submit(request, arm.name) for arm in ready.study.arms]
    wait(futures)
    for future in futures:
        future.result()


@task(name="build-arm", task_run_name="build-arm {arm}", persist_result=False)
def build_arm(request: StudyRequest, arm: str) -> None:
    """One arm's rows, straight into the store: this runs in a worker, where Prefect sees it as one task."""
    ready = session(request)
    wanted, store = ready.arm(arm), Store(ready.runtime.root / "artifacts")
    make = partial(store.build, runtime=ready.runtime)
    prepared = graph.prepare(ready.study, ready.folder, make)
    trained = graph.train_arm(ready.study, prepared, wanted, make)
    graph.evaluate_arm(ready.study, prepared, wanted, trained, request.conditionings_of(wanted), make)


def _dask_runner(request: StudyRequest) -> DaskTaskRunner:
    """The given scheduler, or local workers that may have workers of their own."""
    if request.dask_scheduler:
        return DaskTaskRunner(address=request.dask_scheduler)
    dask.config.set({"distributed.worker.daemon": False})
    return DaskTaskRunner(cluster_kwargs={"n_workers": request.arm_workers, "threads_per_worker": 1})
