"""The Prefect flows: prepare, train an arm, evaluate an arm, reproduce the whole study."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask
from prefect import flow, task
from prefect.futures import wait
from prefect_dask import DaskTaskRunner

from flows import graph, preparation
from flows.preparation import Prepared
from flows.request import StudyRequest
from flows.session import Session, session
from flows.study import Make
from tasks.evaluation_runs import track_rows
from tasks.materialise import materialise
from tasks.report import Published, ReportRow, publish
from tasks.store import Store


@flow(name="prepare", persist_result=False)
def prepare(request: StudyRequest) -> Prepared:
    """Windows, the CLAP and the embeddings of the windows."""
    ready = session(request)
    return preparation.prepare(ready.study, ready.folder, _make(ready))


@flow(name="train-arm", persist_result=False)
def train_arm(request: StudyRequest, arm: str) -> graph.Trained:
    """One arm's codec, denoiser and bridge, and all they need."""
    ready = session(request)
    prepared = preparation.prepare(ready.study, ready.folder, _make(ready))
    return graph.train_arm(ready.study, prepared, ready.arm(arm), _make(ready))


@flow(name="evaluate-arm", persist_result=False)
def evaluate_arm(request: StudyRequest, arm: str) -> list[ReportRow]:
    """One arm's rows of the table, and all they need."""
    ready = session(request)
    wanted = ready.arm(arm)
    prepared = preparation.prepare(ready.study, ready.folder, _make(ready))
    trained = graph.train_arm(ready.study, prepared, wanted, _make(ready))
    return graph.evaluate_arm(ready.study, prepared, wanted, trained, request.conditionings_of(wanted), _make(ready))


@flow(name="reproduce", persist_result=False)
def reproduce(request: StudyRequest) -> Published:
    """The whole study: every arm under every conditioning, the bounds, and the report."""
    ready = session(request)
    if request.arm_workers > 1:
        runner: Any = _dask_runner(request)  # prefect-dask's runner is not typed as one
        build_arms.with_options(task_runner=runner)(request)
    step = ready.report(_make(ready))
    report = materialise(step, ready.runtime)
    track_rows(step, ready.runtime)
    return publish(report, ready.runtime.root, request.name())


@flow(name="build-arms", persist_result=False)
def build_arms(request: StudyRequest) -> None:
    """Every arm's rows side by side on Dask workers; what they build, the study then finds.

    Arms that share a result wait for one another at its lock. Raises the first arm's error.
    """
    ready = session(request)
    preparation.prepare(ready.study, ready.folder, _make(ready))
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
    prepared = preparation.prepare(ready.study, ready.folder, make)
    trained = graph.train_arm(ready.study, prepared, wanted, make)
    graph.evaluate_arm(ready.study, prepared, wanted, trained, request.conditionings_of(wanted), make)


def _make(ready: Session) -> Make:
    """What turns a step into its result: through Prefect."""
    return partial(materialise, runtime=ready.runtime)


def _dask_runner(request: StudyRequest) -> DaskTaskRunner:
    """The given scheduler, or local workers that may have workers of their own."""
    if request.dask_scheduler:
        return DaskTaskRunner(address=request.dask_scheduler)
    dask.config.set({"distributed.worker.daemon": False})
    return DaskTaskRunner(cluster_kwargs={"n_workers": request.arm_workers, "threads_per_worker": 1})
