"""MLflow on a real SQLite store: one run per key however often we publish, and curves that continue."""

import dataclasses
import json
import math

import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import Score, ScoreTable
from tasks.report import TABLE_VIEW, Published
from tasks.tracked_rows import DataRun, EvaluationRun, publish_data, publish_evaluations, view_page
from tasks.tracking import open_tracking
from tasks.tracking_outage import training_log


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    root = tmp_path_factory.mktemp("tracking")
    return open_tracking(f"sqlite:///{root}/made/mlflow.db", f"{root}/files", "t")


@pytest.fixture(scope="module")
def client(tracking):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.uri)


@pytest.fixture
def row():
    space = Space(name="small CLAP", width=8, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(profile="tiny", batches=2, batch_size=4, reference_size=8, space=space, mixture_space=space)
    scores = [
        Score(arm="+DiT", inputs="ctx", metric=metric, batch=batch, value=0.2 + 0.1 * batch, candidates=4)
        for metric in ("fad", "apa")
        for batch in (0, 1)
    ]
    return EvaluationRun(
        key="e1",
        arm="+DiT",
        inputs="ctx",
        codec="spectral",
        embedder="small CLAP",
        scale="tiny",
        table=ScoreTable(protocol=protocol, scores=tuple(scores)),
        tags={"git_commit": "abc"},
        files=lambda: {"plots/fad.png": b"png", "candidate.wav": b"wav"},
    )


def test_opening_twice_finds_the_same_experiments(tracking):
    root = tracking.uri.removeprefix("sqlite:///").removesuffix("/made/mlflow.db")
    assert open_tracking(tracking.uri, f"{root}/files", "t") == tracking


def test_without_a_root_artifacts_go_where_the_server_keeps_them(tracking, client):
    opened = open_tracking(tracking.uri, "", "rootless")
    location = client.get_experiment(opened.train_id).artifact_location
    assert not location.endswith("/rootless-train")


def test_a_row_is_one_flat_run_with_means_spreads_batches_and_files(tracking, client, row):
    run_id = publish_evaluations(tracking, [row])["e1"]
    run = client.get_run(run_id)
    assert run.info.run_name == "+DiT / ctx"
    assert run.data.params == {
        "arm": "+DiT",
        "inputs": "ctx",
        "codec": "spectral",
        "embedder": "small CLAP",
        "scale": "tiny",
    }
    assert run.data.metrics["quality/fad"] == pytest.approx(0.25)
    assert run.data.metrics["adherence/apa"] == pytest.approx(0.25)
    assert run.data.metrics["std/fad"] == pytest.approx(0.1 / math.sqrt(2))
    history = client.get_metric_history(run_id, "batch/fad")
    assert [(value.step, value.value) for value in history] == [(0, 0.2), (1, pytest.approx(0.3))]
    assert run.data.tags["git_commit"] == "abc"
    assert "mlflow.parentRunId" not in run.data.tags
    assert {file.path for file in client.list_artifacts(run_id)} == {"plots", "candidate.wav"}


def test_publishing_again_makes_no_second_run_and_replaces_a_half_made_one(tracking, client, row):
    other = dataclasses.replace(row, key="e2", inputs="ctx")
    first = publish_evaluations(tracking, [row, other])
    assert publish_evaluations(tracking, [row, other]) == first
    client.update_run(first["e2"], status="RUNNING")  # as a crash would leave it
    second = publish_evaluations(tracking, [row, other])
    assert second["e1"] == first["e1"]
    assert second["e2"] != first["e2"]
    keys = [run.data.tags["stemwright.key"] for run in client.search_runs([tracking.eval_id])]
    assert sorted(keys) == ["e1", "e2"]


def test_a_link_opens_the_list_with_all_scores_and_leaves_a_persons_note(tracking, client, row):
    publish_evaluations(tracking, [row])
    tags = client.get_experiment(tracking.eval_id).tags
    view = json.loads(tags["mlflow.sharedViewState.table"])
    assert {"metrics.`quality/fad`", "metrics.`adherence/apa`"} <= set(view["selectedColumns"])
    assert f"#/experiments/{tracking.eval_id}/runs?viewStateShareKey=table" in tags["mlflow.note.content"]
    client.set_experiment_tag(tracking.eval_id, "mlflow.note.content", "ours")
    publish_evaluations(tracking, [row])
    assert client.get_experiment(tracking.eval_id).tags["mlflow.note.content"] == "ours"


def test_a_resumed_training_continues_its_run_without_repeating_steps(tracking, client):
    run = {"name": "+DiT", "params": {"width": "8"}, "tags": {}}
    with pytest.raises(RuntimeError, match="lost"), training_log(tracking, "k1", **run) as log:
        log(0, {"loss": 2.0, "grad_norm": math.nan})
        log(50, {"loss": math.inf, "heldout": 1.5})
        raise RuntimeError("power lost")
    [failed] = client.search_runs([tracking.train_id])
    assert failed.info.status == "FAILED"
    with training_log(tracking, "k1", **run) as log:
        log(50, {"loss": 9.0})
        log(100, {"loss": 1.0})
    [resumed] = client.search_runs([tracking.train_id])
    assert resumed.info.status == "FINISHED"
    assert [(value.step, value.value) for value in client.get_metric_history(resumed.info.run_id, "loss")] == [
        (0, 2.0),
        (100, 1.0),
    ]
    assert "grad_norm" not in resumed.data.metrics


def test_inputs_are_published_once(tracking, client):
    corpus = DataRun(key="d1", name="catalogue", params={"songs": "3"}, figures={"stems": 15.0}, tags={}, files={})
    assert publish_data(tracking, [corpus]) == publish_data(tracking, [corpus])
    [run] = client.search_runs([tracking.data_id])
    assert run.data.metrics == {"stems": 15.0}


def test_the_last_lines_of_a_run_lead_to_that_list_once_there_is_one(tmp_path):
    published = Published(tmp_path / "reports" / "laptop-folder-seed0")
    assert not any("#/experiments" in line for line in published.places("sqlite:///mlflow.db"))
    published.folder.mkdir(parents=True)
    published.folder.with_name(TABLE_VIEW).write_text(view_page("3"), encoding="utf-8")
    page = "#/experiments/3/runs?viewStateShareKey=table"
    assert published.places("sqlite:///mlflow.db")[-1] == f"there    http://127.0.0.1:5000/{page}"
    assert published.places("http://team:8000/")[-1] == f"there    http://team:8000/{page}"


def test_the_closing_lines_open_a_database_by_a_command_and_a_server_by_its_address(tmp_path):
    published = Published(tmp_path / "tiny")
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in published.places("sqlite:///mlflow.db")[-1]
    assert published.places("http://mlflow.lab:5000/")[-1] == "compare  http://mlflow.lab:5000"
    (tmp_path / TABLE_VIEW).write_text("#/runs")
    assert published.places("http://mlflow.lab:5000/")[-1] == "there    http://mlflow.lab:5000/#/runs"
