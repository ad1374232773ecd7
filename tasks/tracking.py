"""MLflow, and nothing else of it anywhere: a store of runs, each found by the key of the result that it shows.

The Parquet files are the source of truth; what is here is for looking and comparing. Every run carries its artifact's
key as the tag `stemwright.key`, so that publishing twice makes one run and a resumed training continues its own.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

KEY_TAG = "stemwright.key"
BATCH_VALUES = 500  # a batch of 100 values costs 14 ms on SQLite, a single value 3 ms; MLflow takes 1,000 at most
_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where runs go: a store that exists and the ids of its three experiments. An address, cheap to hand around."""

    uri: str
    data_id: str
    train_id: str
    eval_id: str


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


def store_errors() -> tuple[type[Exception], ...]:
    """What a call raises where the store is gone, locked or full."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


class Value(NamedTuple):
    """A figure of a run at a step, and when it became known."""

    name: str
    value: float
    step: int
    time_ms: int


def values_now(values: Mapping[str, float], step: int = 0) -> list[Value]:
    """These figures, but for infinity, which MLflow stores as 1.8e308, and NaN, which its charts draw as zero."""
    now_ms = int(time.time() * 1000)
    return [Value(name, float(value), step, now_ms) for name, value in values.items() if math.isfinite(value)]


class Runs:
    """The runs of one experiment."""

    def __init__(self, uri: str, experiment_id: str) -> None:
        self._client, self.experiment_id = _client(uri), experiment_id

    def begin(self, key: str, *, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """The id of a new run for this key."""
        from mlflow.entities import Param

        run = self._client.create_run(self.experiment_id, run_name=name, tags={KEY_TAG: key, **tags})
        run_id: str = run.info.run_id
        self._client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
        return run_id

    def newest(self, key: str) -> str | None:
        """The id of the newest run of this key; None where it has none."""
        found = self._newest(key)
        return found.info.run_id if found else None

    def is_finished(self, key: str) -> bool:
        """Whether the newest run of this key was brought to its end."""
        found = self._newest(key)
        return found is not None and found.info.status == "FINISHED"

    def go_on(self, run_id: str) -> int:
        """Take a run up again; the last step it holds, -1 for none."""
        self._client.update_run(run_id, status="RUNNING")
        names = self._client.get_run(run_id).data.metrics
        histories = [self._client.get_metric_history(run_id, name) for name in names]
        return max((value.step for history in histories for value in history), default=-1)

    def log(self, run_id: str, values: Sequence[Value]) -> None:
        """Add figures, in batches."""
        from mlflow.entities import Metric

        metrics = [Metric(value.name, value.value, value.time_ms, value.step) for value in values]
        for start in range(0, len(metrics), BATCH_VALUES):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH_VALUES])

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Add files by their path in the run."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, scratch)

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status=status)

    def finished(self, keys: Iterable[str]) -> dict[str, str]:
        """Run ids of those keys whose run is complete; runs that a crash left behind are deleted."""
        wanted, finished = set(keys), {}
        for run in self._all():
            key = run.data.tags.get(KEY_TAG)
            if key not in wanted:
                continue
            if run.info.status == "FINISHED":
                finished[key] = run.info.run_id
            else:
                self._client.delete_run(run.info.run_id)
        return finished

    def tags(self) -> Mapping[str, str]:
        """The tags of the experiment itself."""
        tags: Mapping[str, str] = self._client.get_experiment(self.experiment_id).tags
        return tags

    def tag(self, name: str, value: str) -> None:
        self._client.set_experiment_tag(self.experiment_id, name, value)

    def _newest(self, key: str) -> Run | None:
        wanted = f"tags.`{KEY_TAG}` = '{key}'"
        return next(iter(self._client.search_runs([self.experiment_id], filter_string=wanted, max_results=1)), None)

    def _all(self) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self._client.search_runs([self.experiment_id], max_results=1000, page_token=token)
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
