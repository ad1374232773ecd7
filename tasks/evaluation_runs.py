"""Every row of a report as one flat MLflow run, so that the comparison UI is useful at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from tasks.artifact import Artifact
from tasks.audio_bytes import wav_bytes
from tasks.examples import first_heard
from tasks.fingerprint import fingerprint
from tasks.plots import spectrogram_plot
from tasks.provenance import embedder_name
from tasks.report import TABLE_VIEW, MakeReport, ReportRow
from tasks.runtime import Runtime, code_version
from tasks.store import Store
from tasks.telemetry_file import read_telemetry
from tasks.tracked_rows import DataRun, EvaluationRun, publish_data, publish_evaluations, view_page
from tasks.tracking import open_tracking
from tasks.tracking_outage import MissedTraining, Spared, publish_missed
from tasks.whole_files import write_whole


def track_rows(report: MakeReport, runtime: Runtime) -> None:
    """One run for every arm and conditioning, for what they share, and for trainings that MLflow missed.

    What has its run already is left alone. Where MLflow is gone, that is told in one line, and the next run brings all.
    """
    Spared(runtime.tracking_uri)(partial(_publish, report, runtime))


def _publish(report: MakeReport, runtime: Runtime) -> None:
    tracking = open_tracking(runtime.tracking_uri, runtime.mlflow_artifacts, runtime.experiment)
    store = Store(runtime.root / "artifacts")
    shared = [report.catalogue, report.windows, report.clap_quality, report.bridge_quality]
    publish_data(tracking, [_prepared(artifact, store.record(artifact)) for artifact in shared if artifact])
    for training in dict(report.trainings).values():
        publish_missed(tracking, _training(training, store.record(training)))
    scored = set(report.table().rows())
    publish_evaluations(tracking, [_run(report, row) for row in report.rows if (row.arm, row.inputs) in scored])
    told = runtime.root / "reports" / TABLE_VIEW
    told.parent.mkdir(exist_ok=True)
    write_whole(told, view_page(tracking.eval_id).encode())


def _prepared(artifact: Artifact, record: Mapping[str, Any]) -> DataRun:
    """What all rows share, with the figures of its record and its pictures."""
    return DataRun(
        key=str(artifact.key),
        name=record["describe"],
        params={"stage": artifact.stage},
        figures=dict(_figures(record["summary"])),
        tags=_commit(record["code"]),
        files={path.name: path.read_bytes() for path in artifact.path.glob("*.png")},
    )


def _training(training: Artifact, record: Mapping[str, Any]) -> MissedTraining:
    """A training as its own process tells it: see `tasks.training_session`."""
    return MissedTraining(
        key=str(training.key),
        name=record["describe"],
        params={"stage": training.stage, "device": record["runtime"]["device"]},
        tags=_commit(record["code"]),
        figures=partial(read_telemetry, training.path),
    )


def _figures(summary: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record's summary, those of a table within it under the name of their row."""
    for name, value in summary.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{name}/")
        elif isinstance(value, int | float):
            yield f"{group}{name}", float(value)


def _commit(code: Mapping[str, Any]) -> dict[str, str]:
    return {f"git.{name}": str(code[name]) for name in ("commit", "dirty")}


def _run(report: MakeReport, row: ReportRow) -> EvaluationRun:
    table, codecs = report.table(), dict(report.codecs)
    trainings = dict(report.trainings)
    return EvaluationRun(
        key=f"{row.scores.key}",
        arm=row.arm,
        inputs=row.inputs,
        codec=codecs.get(row.arm, "none"),
        embedder=embedder_name(table.protocol),
        scale=report.scale,
        table=table,
        tags={
            **_commit(code_version()),
            "protocol": fingerprint("protocol", 1, protocol=table.protocol),
            "seed": str(report.seed),
            "training": str(trainings[row.arm].key) if row.arm in trainings else "",
        },
        files=_files(row, report.windows),
    )


def _files(row: ReportRow, windows: Artifact) -> Callable[[], Mapping[str, bytes]]:
    """Audio and a picture of the first candidate, made only where the run is; none for a bound."""
    return partial(_listen, row.candidates, windows, "ctx" in row.inputs.split(",")) if row.candidates else dict


def _listen(candidates: Artifact, windows: Artifact, with_context: bool) -> dict[str, bytes]:
    heard = first_heard(candidates, windows)
    clips = {"candidate": heard.candidate_SN}
    if with_context:
        clips |= {"context": heard.context_SN, "mixture": heard.context_SN + heard.candidate_SN}
    files = {
        f"audio/{heard.window}-{name}.wav": wav_bytes(_within_full_scale(clip))
        for name, clip in clips.items()
        if name != "context"
    }
    return files | {f"spectrograms/{heard.window}.png": spectrogram_plot(clips, rate_hz=48_000)}


def _within_full_scale(audio_SN: np.ndarray) -> np.ndarray:
    return audio_SN / np.float32(max(1.0, float(np.abs(audio_SN).max())))
