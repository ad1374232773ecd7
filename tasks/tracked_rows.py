"""Rows of Table 1 and prepared inputs in MLflow: one flat run each, and a view that shows the table's columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metrics.table import ScoreTable
from tasks.columns import scored_columns
from tasks.tracking import Runs, Tracking, Value, values_now

NOTE = "mlflow.note.content"
VIEW = "table"
"""The name of the shared view in which MLflow's list of runs shows the columns of the table."""


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


def publish_evaluations(tracking: Tracking, rows: Sequence[EvaluationRun]) -> dict[str, str]:
    """The run id of every row's key: runs that exist are left alone, missing ones are made, half-made ones replaced.

    Runs are flat, because MLflow's interface does not chart collapsed children.
    """
    runs = Runs(tracking.uri, tracking.eval_id)
    _share_view(runs, rows)
    finished = runs.finished(row.key for row in rows)
    # Last row first: the interface lists the newest run on top, and so reads like the table.
    for row in reversed(rows):
        if row.key not in finished:
            params = {name: getattr(row, name) for name in ("arm", "inputs", "codec", "embedder", "scale")}
            run_id = runs.begin(row.key, name=f"{row.arm} / {row.inputs}", params=params, tags=row.tags)
            finished[row.key] = _filled(runs, run_id, _scores(row), row.files())
    return finished


def publish_data(tracking: Tracking, prepared: Sequence[DataRun]) -> dict[str, str]:
    """The run id of every key in the `-data` experiment, made where missing."""
    runs = Runs(tracking.uri, tracking.data_id)
    finished = runs.finished(run.key for run in prepared)
    for run in prepared:
        if run.key not in finished:
            run_id = runs.begin(run.key, name=run.name, params=run.params, tags=run.tags)
            finished[run.key] = _filled(runs, run_id, values_now(run.figures), run.files)
    return finished


def _filled(runs: Runs, run_id: str, values: Sequence[Value], files: Mapping[str, bytes]) -> str:
    runs.log(run_id, values)
    if files:
        runs.log_files(run_id, files)
    runs.end(run_id, "FINISHED")
    return run_id


def _scores(row: EvaluationRun) -> list[Value]:
    """Means and spreads of a row at step 0, and each batch's scores at a step of its own."""
    means: dict[str, float] = {}
    for column in scored_columns(row.table):
        cell = row.table.cell(row.arm, row.inputs, column.metric)
        if cell:
            means[f"{column.group}/{column.metric}"] = cell.mean
            means |= {f"std/{column.metric}": cell.std} if cell.batches > 1 else {}
    own = [score for score in row.table.scores if (score.arm, score.inputs) == (row.arm, row.inputs)]
    batches = [value for score in own for value in values_now({f"batch/{score.metric}": score.value}, score.batch)]
    return values_now(means) + batches


def _share_view(runs: Runs, rows: Sequence[EvaluationRun]) -> None:
    """MLflow's list hides metrics until they are chosen; a view that has them, and a link to it on the page.

    It is kept as the interface's own *Share* button keeps views: as a tag of the experiment.
    """
    scored = {column.metric: column for row in rows for column in scored_columns(row.table)}
    present = {score.metric for row in rows for score in row.table.scores}
    metrics = [f"metrics.`{column.group}/{metric}`" for metric, column in scored.items() if metric in present]
    view = {"selectedColumns": ["params.`codec`", *metrics]}
    runs.tag(f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    if not runs.tags().get(NOTE):  # what a person wrote there stays
        runs.tag(NOTE, f"[The table: all runs with their scores]({view_page(runs.experiment_id)})")


def view_page(experiment_id: str) -> str:
    """Where the list of runs shows the columns of the table, below the address of MLflow's interface."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"
