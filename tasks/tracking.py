"""MLflow, and nothing else of it anywhere: curves while training, one flat run per row of Table 1, and the inputs.

The Parquet files are the source of truth; what is here is for looking and comparing. Every run carries its artifact's
key as the tag `stemwright.key`, so that publishing twice makes one run and a resumed training continues its own.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.table import Cell, ScoreTable
from tasks.columns import Column, scored_columns

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Param, Run

KEY_TAG = "stemwright.key"
NOTE = "mlflow.note.content"
VIEW = "table"
"""The name of the shared view in which MLflow's list of runs shows the columns of the table."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where runs go: a store that exists and the ids of its three experiments. An address, cheap to hand around."""

    uri: str
    data_id: str
    train_id: str
    eval_id: str


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """One row of Table 1 as one run. `key` identifies the scores it shows; `files` gives artifacts by path.

    It is called only where the run is made: pictures and audio of thirty rows take longer than their numbers.
    """

    key: str
    arm: str
    inputs: str
    codec: str
    embedder: str
    scale: str
    table: ScoreTable
    tags: Mapping[str, str]
    files: Callable[[], Mapping[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class DataRun:
    """One prepared set of inputs (a catalogue, a fitted codec, a CLAP) with the figures that describe it."""

    key: str
    name: str
    params: Mapping[str, str]
    figures: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]


def open_tracking(uri: str, artifact_root: str, name: str) -> Tracking:
    """The store with its experiments `<name>-data`, `-train` and `-eval`, created where missing.

    Call it once before anything runs side by side: several processes that meet an empty SQLite store at the same
    time crash on each other's schema, so a file lock lets one of them make it. Artifacts of experiment X go to
    `<artifact_root>/X`, or without a root to wherever the server keeps its own.
    """
    with _store_lock(uri):
        client = _client(uri)
        ids = {kind: _experiment(client, f"{name}-{kind}", artifact_root) for kind in ("data", "train", "eval")}
    return Tracking(uri=uri, data_id=ids["data"], train_id=ids["train"], eval_id=ids["eval"])


def training_buffer(
    tracking: Tracking, key: str, *, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> MetricBuffer:
    """What takes the figures of the key's run, made where missing; it leaves out the steps that the run holds."""
    client = _client(tracking.uri)
    run_id, last_step = _training_run(client, tracking.train_id, key, name=name, params=params, tags=tags)
    return MetricBuffer(client, run_id, last_step)


def training_is_finished(tracking: Tracking, key: str) -> bool:
    """Whether the key's run was brought to its end."""
    found = _runs_of(_client(tracking.uri), tracking.train_id, key)
    return bool(found) and found[0].info.status == "FINISHED"


def log_training_files(tracking: Tracking, key: str, files: Mapping[str, bytes]) -> None:
    """Pictures and audio by path into the run of this key, inside its `training_log`."""
    client = _client(tracking.uri)
    (run,) = _runs_of(client, tracking.train_id, key)
    _log_files(client, run.info.run_id, files)


def publish_evaluations(tracking: Tracking, rows: Sequence[EvaluationRun]) -> dict[str, str]:
    """The run id of every row's key: runs that exist are left alone, missing ones are made, half-made ones replaced.

    Runs are flat, because MLflow's interface does not chart collapsed children.
    """
    client = _client(tracking.uri)
    _share_view(client, tracking.eval_id, rows)
    finished = _finished_runs(client, tracking.eval_id, {row.key for row in rows})
    # Last row first: the interface lists the newest run on top, and so reads like the table.
    for row in reversed(rows):
        if row.key not in finished:
            finished[row.key] = _publish(client, tracking.eval_id, _evaluation_record(row))
    return finished


def _share_view(client: MlflowClient, experiment_id: str, rows: Sequence[EvaluationRun]) -> None:
    """MLflow's list hides metrics until they are chosen; a view that has them, and a link to it on the page.

    It is kept as the interface's own *Share* button keeps views: as a tag of the experiment.
    """
    scored = {column.metric: column for row in rows for column in scored_columns(row.table)}
    present = {score.metric for row in rows for score in row.table.scores}
    metrics = [f"metrics.`{column.group}/{metric}`" for metric, column in scored.items() if metric in present]
    view = {"selectedColumns": ["params.`codec`", *metrics]}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    link = view_page(experiment_id)
    if not client.get_experiment(experiment_id).tags.get(NOTE):  # what a person wrote there stays
        client.set_experiment_tag(experiment_id, NOTE, f"[The table: all runs with their scores]({link})")


def view_page(experiment_id: str) -> str:
    """Where the list of runs shows the columns of the table, below the address of MLflow's interface."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"


def publish_data(tracking: Tracking, runs: Sequence[DataRun]) -> dict[str, str]:
    """The run id of every key in the `-data` experiment, made where missing."""
    client = _client(tracking.uri)
    finished = _finished_runs(client, tracking.data_id, {run.key for run in runs})
    for run in runs:
        if run.key not in finished:
            values = [(name, value, 0) for name, value in run.figures.items()]
            record = _Record(run.key, run.name, run.params, values, run.tags, run.files)
            finished[run.key] = _publish(client, tracking.data_id, record)
    return finished


def store_errors() -> tuple[type[Exception], ...]:
    """What a call raises where the store is gone, locked or full."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def ui_command(tracking: Tracking) -> str:
    """The line that opens the interface on this store."""
    return f"mlflow ui --workers 1 --backend-store-uri {tracking.uri}"


_BUFFERED_VALUES = 500  # a batch of 100 values costs 14 ms on SQLite, a single value 3 ms; MLflow takes 1,000 at most
_BUFFERED_SECONDS = 15.0


class MetricBuffer:
    """Values of one run on their way to the store."""

    def __init__(self, client: MlflowClient, run_id: str, last_step: int) -> None:
        self._client, self._run_id, self._last_step = client, run_id, last_step
        self._values: list[Metric] = []
        self._flushed_s = time.monotonic()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._last_step:
            self._values += _metrics((name, value, step) for name, value in values.items())
        if len(self._values) >= _BUFFERED_VALUES or time.monotonic() - self._flushed_s > _BUFFERED_SECONDS:
            self.flush()

    def flush(self) -> None:
        _log_in_batches(self._client, self._run_id, self._values)
        self._values = []
        self._flushed_s = time.monotonic()

    def end(self, status: str) -> None:
        self.flush()
        self._client.set_terminated(self._run_id, status=status)


@dataclass(frozen=True)
class _Record:
    key: str
    name: str
    params: Mapping[str, str]
    values: Sequence[tuple[str, float, int]]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]


def _evaluation_record(row: EvaluationRun) -> _Record:
    cells = [
        (column, cell)
        for column in scored_columns(row.table)
        if (cell := row.table.cell(row.arm, row.inputs, column.metric))
    ]
    params = {"arm": row.arm, "inputs": row.inputs, "codec": row.codec, "embedder": row.embedder, "scale": row.scale}
    values = [value for column, cell in cells for value in _cell_values(column, cell)]
    batches = [
        (f"batch/{score.metric}", score.value, score.batch)
        for score in row.table.scores
        if (score.arm, score.inputs) == (row.arm, row.inputs)
    ]
    return _Record(row.key, f"{row.arm} / {row.inputs}", params, values + batches, row.tags, row.files())


def _cell_values(column: Column, cell: Cell) -> list[tuple[str, float, int]]:
    mean = (f"{column.group}/{column.metric}", cell.mean, 0)
    return [mean, (f"std/{column.metric}", cell.std, 0)] if cell.batches > 1 else [mean]


def _publish(client: MlflowClient, experiment_id: str, record: _Record) -> str:
    run = client.create_run(experiment_id, run_name=record.name, tags={KEY_TAG: record.key, **record.tags})
    run_id: str = run.info.run_id
    client.log_batch(run_id, params=_params(record.params))
    _log_in_batches(client, run_id, _metrics(record.values))
    if record.files:
        _log_files(client, run_id, record.files)
    client.set_terminated(run_id, status="FINISHED")
    return run_id


def _training_run(
    client: MlflowClient,
    experiment_id: str,
    key: str,
    *,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> tuple[str, int]:
    """The id of the key's run and the last step it holds, -1 for none."""
    found = _runs_of(client, experiment_id, key)
    if not found:
        run = client.create_run(experiment_id, run_name=name, tags={KEY_TAG: key, **tags})
        client.log_batch(run.info.run_id, params=_params(params))
        return run.info.run_id, -1
    run = found[0]
    client.update_run(run.info.run_id, status="RUNNING")
    histories = [client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics]
    return run.info.run_id, max((value.step for history in histories for value in history), default=-1)


def _runs_of(client: MlflowClient, experiment_id: str, key: str) -> list[Run]:
    """The newest run of this key, or none."""
    return list(client.search_runs([experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1))


def _finished_runs(client: MlflowClient, experiment_id: str, keys: set[str]) -> dict[str, str]:
    """Run ids of those keys whose run is complete; runs that a crash left behind are deleted."""
    finished = {}
    for run in _all_runs(client, experiment_id):
        key = run.data.tags.get(KEY_TAG)
        if key not in keys:
            continue
        if run.info.status == "FINISHED":
            finished[key] = run.info.run_id
        else:
            client.delete_run(run.info.run_id)
    return finished


def _all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _client(uri: str) -> MlflowClient:
    # Before the import, which is where MLflow decides about them; its schema messages would drown ours.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 take minutes a call, where a server is gone
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # with traces, what the exception says as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, name: str, artifact_root: str) -> str:
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is None:
        location = f"{artifact_root.rstrip('/')}/{name}" if artifact_root else None  # None: where the server keeps them
        return client.create_experiment(name, artifact_location=location)
    if found.lifecycle_stage == "deleted":
        raise ValueError(f"the MLflow experiment {name} was deleted: restore it (mlflow experiments restore) or rename")
    return found.experiment_id


_SQLITE = "sqlite:///"


@contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    """One process at a time while a SQLite store is made; a server looks after itself."""
    if not uri.startswith(_SQLITE):
        yield
        return
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _metrics(values: Iterable[tuple[str, float, int]]) -> list[Metric]:
    """MLflow stores infinity as 1.8e308 and NaN as a flag that its charts draw as zero: neither is passed on."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    return [Metric(name, float(value), now_ms, step) for name, value, step in values if math.isfinite(value)]


def _params(params: Mapping[str, str]) -> list[Param]:
    from mlflow.entities import Param

    return [Param(name, value) for name, value in params.items()]


def _log_in_batches(client: MlflowClient, run_id: str, values: Sequence[Metric]) -> None:
    for start in range(0, len(values), _BUFFERED_VALUES):
        client.log_batch(run_id, metrics=values[start : start + _BUFFERED_VALUES])


def _log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, scratch)
