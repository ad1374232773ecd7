"""The Prefect flows: prepare, train an arm, evaluate an arm, reproduce the whole study."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_link_artifact
from prefect.futures import PrefectFuture, wait
from prefect_dask import DaskTaskRunner

from flows import arm_training, graph, preparation, table_rows
from flows.preparation import Prepared
from flows.request import ArmName, StudyRequest
from flows.session import Session, session
from flows.status import inspected, settle_suspects
from flows.study import Make
from models.arms import ONE_STEP_FROM
from tasks.dask_workers import QUIET_WORKERS, dashboard_link, prepare_own_cluster
from tasks.evaluation_runs import track_rows
from tasks.materialise import build, materialise
from tasks.progress import say_results
from tasks.report import Published, ReportRow, publish
from tasks.runtime import Runtime


@flow(name="prepare", persist_result=False)
def prepare(request: StudyRequest) -> Prepared:
    """Windows, the CLAP and the embeddings of the windows."""
    ready = session(request)
    return preparation.prepare(ready.study, ready.folder, _make(ready))


@flow(name="train-arm", persist_result=False)
def train_arm(request: StudyRequest, arm: ArmName) -> arm_training.Trained:
    """One arm's codec, denoiser and bridge, and all they need."""
    ready = session(request)
    prepared = preparation.prepare(ready.study, ready.folder, _make(ready))
    return arm_training.train_arm(ready.study, prepared, ready.arm(arm), _make(ready))


@flow(name="evaluate-arm", persist_result=False)
def evaluate_arm(request: StudyRequest, arm: ArmName) -> list[ReportRow]:
    """One arm's rows of the table, and all they need."""
    ready = session(request)
    wanted = ready.arm(arm)
    prepared = preparation.prepare(ready.study, ready.folder, _make(ready))
    trained = arm_training.train_arm(ready.study, prepared, wanted, _make(ready))
    graph.inspect_arm(ready.study, prepared, wanted, trained, _make(ready))
    return table_rows.evaluate_arm(
        ready.study, prepared, wanted, trained, request.conditionings_of(wanted), _make(ready)
    )


@flow(name="reproduce", persist_result=False)
def reproduce(request: StudyRequest) -> Published:
    """The whole study: every arm under every conditioning, the bounds, and the report."""
    ready = session(request)
    settled = settle_suspects(ready, inspected(ready))
    _link_dashboard(ready.runtime)
    at_once = request.arms_at_once(ready.runtime)
    if at_once > 1:
        preparation.prepare(ready.study, ready.folder, _make(ready))
        runner: Any = _dask_runner(request, at_once)  # prefect-dask's runner is not typed as one
        build_arms.with_options(task_runner=runner)(request, at_once)
    step = settled.told_by(ready.report(_make(ready)))
    report = materialise(step, ready.runtime)
    track_rows(step, ready.runtime)
    return publish(report, ready.runtime.root, request.name())


@flow(name="build-arms", persist_result=False)
def build_arms(request: StudyRequest, at_once: int) -> None:
    """Every arm side by side on Dask workers: trained, evaluated, then compared; the study finds what they built.

    An arm waits for those before it from which it takes its denoiser. Raises the first arm's error.
    """
    arms = session(request).study.arms
    submit = partial(build_arm.submit, return_state=False)
    compare = partial(compare_arms.submit, return_state=False)
    trained: dict[str, PrefectFuture[None]] = {}
    for place, arm in enumerate(arms):
        before = [trained[other.name] for other in arms[:place] if other.denoiser in (arm.denoiser, arm.denoiser.start)]
        trained[arm.name] = submit(request, arm.name, at_once, rows=False, wait_for=before)
    rows = {arm.name: submit(request, arm.name, at_once, rows=True, wait_for=[trained[arm.name]]) for arm in arms}
    futures = list(rows.values())
    for arm in arms:
        other = ONE_STEP_FROM.get(arm.name)
        if other in rows:
            both = (other, arm.name)
            futures.append(compare(request, both, at_once, wait_for=[rows[name] for name in both]))
    wait(futures)
    for future in futures:
        future.result()


@task(name="build-arm", task_run_name="build-arm {arm}, rows {rows}", persist_result=False)
def build_arm(request: StudyRequest, arm: str, at_once: int, *, rows: bool) -> None:
    """One arm trained, or its rows too, straight into the store: a worker runs it, and Prefect sees it as one task."""
    say_results()
    ready = session(request)
    wanted, runtime = ready.arm(arm), ready.runtime.shared_by(at_once)
    make = partial(build, runtime=runtime)
    prepared = preparation.prepare(ready.study, ready.folder, make)
    trained = arm_training.train_arm(ready.study, prepared, wanted, make)
    if rows:
        table_rows.evaluate_arm(ready.study, prepared, wanted, trained, request.conditionings_of(wanted), make)
        graph.inspect_arm(ready.study, prepared, wanted, trained, make)


@task(name="compare-arms", task_run_name="compare-arms {arms}", persist_result=False)
def compare_arms(request: StudyRequest, arms: tuple[str, str], at_once: int) -> None:
    """All that a report of two built arms is made from: the bounds, and the arms side by side."""
    say_results()
    ready = session(request.only(*arms))
    ready.report(partial(build, runtime=ready.runtime.shared_by(at_once)))


def _link_dashboard(runtime: Runtime) -> None:
    """The dashboard of a given Dask scheduler among the run's artifacts in Prefect."""
    link = dashboard_link(runtime)
    if link:
        create_link_artifact(link=link, key="dask-dashboard", description="What the Dask workers are doing.")


def _make(ready: Session) -> Make:
    """What turns a step into its result: through Prefect."""
    return partial(materialise, runtime=ready.runtime)


def _dask_runner(request: StudyRequest, at_once: int) -> DaskTaskRunner:
    """The given scheduler, or local workers that may have workers of their own."""
    if request.dask_scheduler:
        return DaskTaskRunner(address=request.dask_scheduler)
    prepare_own_cluster()
    return DaskTaskRunner(cluster_kwargs={"n_workers": at_once, "threads_per_worker": 1, **QUIET_WORKERS})
