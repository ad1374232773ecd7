"""Every row of a report as one flat MLflow run, so that the comparison UI is useful at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tasks.artifact import Artifact
from tasks.examples import first_examples
from tasks.fingerprint import fingerprint
from tasks.plots import spectrogram_plot
from tasks.provenance import embedder_name
from tasks.report import MakeReport, ReportRow
from tasks.runtime import Runtime, code_version
from tasks.tracking import EvaluationRun, open_tracking, publish_evaluations


def track_rows(report: MakeReport, runtime: Runtime) -> None:
    """One run for every arm and conditioning; rows that have their run already are left alone."""
    tracking = open_tracking(runtime.tracking_uri, runtime.mlflow_artifacts, runtime.experiment)
    publish_evaluations(tracking, [_run(report, row) for row in report.rows])


def _run(report: MakeReport, row: ReportRow) -> EvaluationRun:
    table, codecs = report.table(), dict(report.codecs)
    trainings = dict(report.trainings)
    code = code_version()
    return EvaluationRun(
        key=f"{row.scores.key}",
        arm=row.arm,
        inputs=row.inputs,
        codec=codecs.get(row.arm, "none"),
        embedder=embedder_name(table.protocol),
        scale=report.scale,
        table=table,
        tags={
            "git.commit": str(code["commit"]),
            "git.dirty": str(code["dirty"]),
            "protocol": fingerprint("protocol", 1, protocol=table.protocol),
            "seed": str(report.seed),
            "training": str(trainings[row.arm].key) if row.arm in trainings else "",
        },
        files=_files(row.candidates, row, report.windows),
    )


def _files(candidates: Artifact | None, row: ReportRow, windows: Artifact) -> Callable[[], Mapping[str, bytes]]:
    """Audio and pictures of the first candidates, made only where the run is; none for a bound."""
    return partial(_listen, row.arm, row.inputs, candidates, windows) if candidates else dict


def _listen(arm: str, inputs: str, candidates: Artifact, windows: Artifact) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for example in first_examples(arm, inputs, candidates, windows):
        files[f"audio/{example.window}-candidate.mp3"] = example.candidate_mp3
        if example.mixture_mp3:
            files[f"audio/{example.window}-mixture.mp3"] = example.mixture_mp3
        files[f"spectrograms/{example.window}.png"] = spectrogram_plot(example.clips, rate_hz=example.rate_hz)
    return files
