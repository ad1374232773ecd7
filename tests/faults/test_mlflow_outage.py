"""MLflow gone or locked in the middle: the run goes on, one line says so, and a later run brings what was missed."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tasks.tracked_rows import DataRun, publish_data
from tasks.tracking import Tracking, open_tracking
from tasks.tracking_outage import MissedTraining, Spared, publish_missed, training_log

ROOT = Path(__file__).parents[2]
RUN: Mapping[str, Any] = {"name": "denoiser", "params": {"stage": "denoiser"}, "tags": {}}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    root = tmp_path_factory.mktemp("mlflow")
    return open_tracking(f"sqlite:///{root}/mlflow.db", f"{root}/files", "t")


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("stemwright"), "propagate", True)
    caplog.set_level(logging.WARNING, "stemwright")
    return caplog


@contextmanager
def locked(tracking: Tracking) -> Iterator[None]:
    """The SQLite file held by a writer that does not let go."""
    holder = sqlite3.connect(tracking.uri.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.rollback()
        holder.close()


def losses(tracking: Tracking, key: str) -> tuple[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking.uri)
    (run,) = client.search_runs([tracking.train_id], filter_string=f"tags.`stemwright.key` = '{key}'")
    history = client.get_metric_history(run.info.run_id, "loss")
    return run.info.status, [(value.step, value.value) for value in history]


def test_a_database_locked_in_the_middle_ends_no_training_and_its_figures_come_later(tracking, warned, monkeypatch):
    monkeypatch.setattr("tasks.tracked_training.BATCH_VALUES", 1)
    figures = [{"step": step, "loss": 1.0 / (1 + step)} for step in range(4)]
    with training_log(tracking, "k", **RUN) as log:
        log(0, {"loss": 1.0})
        with locked(tracking):
            log(1, {"loss": 0.5})
        log(2, {"loss": 1 / 3})
        log(3, {"loss": 0.25})
    (line,) = [record.getMessage() for record in warned.records if record.name == "stemwright"]
    assert "goes on without it" in line and "locked" in line and "reproduce brings what it misses" in line
    assert losses(tracking, "k") == ("RUNNING", [(0, 1.0)])
    missed = MissedTraining(key="k", **RUN, figures=lambda: figures)
    publish_missed(tracking, missed)
    assert losses(tracking, "k") == ("FINISHED", [(told["step"], pytest.approx(told["loss"])) for told in figures])
    publish_missed(tracking, MissedTraining(key="k", **RUN, figures=lambda: pytest.fail("it is there")))


def test_a_training_that_mlflow_never_heard_of_is_brought_whole(tracking):
    publish_missed(tracking, MissedTraining(key="unheard", **RUN, figures=lambda: [{"step": 7, "loss": 0.5}]))
    assert losses(tracking, "unheard") == ("FINISHED", [(7, 0.5)])


def test_an_error_of_the_training_itself_is_not_mlflows(tracking):
    with pytest.raises(OSError, match="disk"), training_log(tracking, "broken", **RUN) as log:
        log(0, {"loss": 1.0})
        raise OSError("disk")
    assert losses(tracking, "broken")[0] == "FAILED"


class Dying(BaseHTTPRequestHandler):
    """An MLflow server that answers nothing any more but an error."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *told: Any) -> None:
        """Says nothing."""


@pytest.mark.parametrize("is_up", [True, False], ids=["answers errors", "refuses connections"])
def test_a_server_that_is_gone_costs_one_line_and_seconds(is_up, warned, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    uri = f"http://127.0.0.1:{server.server_address[1]}"
    if is_up:
        Thread(target=server.serve_forever, daemon=True).start()
    else:
        server.server_close()
    started = time.monotonic()
    spared = Spared(uri)
    assert spared(lambda: open_tracking(uri, "", "t")) is None
    assert spared(lambda: pytest.fail("asked again")) is None
    assert time.monotonic() - started < 20
    (line,) = [record.getMessage() for record in warned.records if record.name == "stemwright"]
    assert uri in line and "\n" not in line
    if is_up:
        server.shutdown()
        server.server_close()


def test_processes_that_make_the_store_at_once_make_one(tmp_path: Path) -> None:
    code = "import sys; from tasks.tracking import open_tracking; print(open_tracking(*sys.argv[1:]))"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/mlflow.db", f"{tmp_path}/files", "t"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
    opened = {process.communicate(timeout=200)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0] and len(opened) == 1


def test_markup_in_names_parameters_and_tags_stays_text(tracking: Tracking) -> None:
    from mlflow import MlflowClient

    markup = "<script>alert(1)</script> & \"'{{7*7}}"
    run = DataRun(key="m", name=markup, params={"arm": markup}, figures={}, tags={"tag": markup}, files={})
    found = MlflowClient(tracking.uri).get_run(publish_data(tracking, [run])["m"])
    assert (found.info.run_name, found.data.params["arm"], found.data.tags["tag"]) == (markup,) * 3
