"""The report of a study: the table, its exports and its page, and the evaluation runs in MLflow."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from metrics.protocol import Protocol
from metrics.table import ALIKE_ROW, NOISE_ROW, REAL_ROW, ScoreTable
from tasks.arm_comparison import load_compared
from tasks.artifact import Artifact
from tasks.bridge_quality import PICTURE, load_crossings
from tasks.catalogue_file import read_catalogue
from tasks.checks import CheckResult, ClapQuality, check
from tasks.clap import clap_space
from tasks.context_sensitivity import load_listening
from tasks.embed_alike import told_of_alike
from tasks.embeddings import load_embeddings
from tasks.examples import examples_of
from tasks.exports import add_to_dataset, write_scores_parquet, write_table1_parquet
from tasks.judge import SPACE_PICTURE, in_space, load_quality, load_scores
from tasks.judged_row import JudgedRow
from tasks.lost_shards import lost_shards
from tasks.page import ReportInput, render_page
from tasks.plots import Curve
from tasks.plots_overview import stem_map
from tasks.provenance import Provenance
from tasks.row_statistics import load_statistics
from tasks.runtime import Runtime, code_version
from tasks.step import Step
from tasks.steps_curve import PICTURE as STEPS_PICTURE
from tasks.sureness import Sureness, write_comparisons_parquet, write_statistics_parquet
from tasks.table_text import write_table_text
from tasks.telemetry_file import read_telemetry
from tasks.terminal import print_checks, print_table
from tasks.whole_files import write_whole

STATISTICS, COMPARISONS = "statistics.parquet", "comparisons.parquet"
PAGE, SCORES, TABLE1, TABLE_TEXT, CHECKS = "report.html", "scores.parquet", "table1.parquet", "table.txt", "checks.json"
TABLE1_TEXT = "table1"  # .csv, .md, .tex
CHECKED_SCALE = "laptop"  # the scale that the acceptance bounds were measured for
LATEST = "latest.json"
TABLE_VIEW = "mlflow-table.txt"  # where MLflow shows all runs with their scores, below the address of its interface
MLFLOW_UI = "http://127.0.0.1:5000"  # where `mlflow ui` serves, unless told otherwise
DATASET = "scores"  # the folder of `add_to_dataset` below the reports
SHOWN_LOSSES = ("loss",)


class ReportRow(NamedTuple):
    """One row of the table, what it was made from and what was found; no candidates where the row is a bound."""

    row: JudgedRow
    candidates: Artifact | None
    scores: Artifact
    statistics: Artifact

    @property
    def arm(self) -> str:
        return self.row.arm

    @property
    def inputs(self) -> str:
        return self.row.inputs


@dataclass(frozen=True, kw_only=True)
class MakeReport(Step):
    """The table as Parquet, CSV, Markdown, LaTeX, text and page."""

    stage: ClassVar[str] = "report"
    version: ClassVar[int] = 3

    scale: str
    corpus_name: str
    codecs: tuple[tuple[str, str], ...]
    seed: int
    protocol: Protocol
    corpus: Artifact
    catalogue: Artifact
    clap: Artifact
    clap_quality: Artifact | None
    bridge_quality: Artifact | None
    listening: tuple[tuple[str, Artifact], ...]
    cross_check: Artifact
    windows: Artifact
    rows: tuple[ReportRow, ...]
    comparisons: tuple[Artifact, ...]
    trainings: tuple[tuple[str, Artifact], ...]
    model_rows: tuple[tuple[str, str], ...]
    command: str
    suspects: tuple[str, ...] = ()
    steps_curves: tuple[Artifact, ...] = ()

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        table, provenance = self.table(), self.provenance()
        checks, sure = self._checks(table), self.sureness(table)
        write_scores_parquet(out / SCORES, table, provenance)
        write_table1_parquet(out / TABLE1, table, provenance)
        write_statistics_parquet(out / STATISTICS, sure, table, provenance)
        write_comparisons_parquet(out / COMPARISONS, sure, table, provenance)
        write_table_text(out, TABLE1_TEXT, table, provenance, with_paper=True)
        remarks = [f"{line}\n" for line in sure.lines()] + self._alike() + self._unread() + self._reservations()
        (out / TABLE_TEXT).write_text(_printed(table, provenance) + "".join(remarks), encoding="utf-8")
        (out / CHECKS).write_text(json.dumps([result._asdict() for result in checks], indent=1), encoding="utf-8")
        (out / PAGE).write_text(render_page(self._page(table, provenance, checks, sure)), encoding="utf-8")
        return {"rows": len(self.rows), "checks_failed": sum(not result.passed for result in checks)}

    def table(self) -> ScoreTable:
        """The scores of all rows under the protocol with the embedder that was used."""
        scores = tuple(score for row in self.rows for score in load_scores(row.scores))
        return ScoreTable(protocol=in_space(self.protocol, clap_space(self.clap)), scores=scores)

    def sureness(self, table: ScoreTable) -> Sureness:
        """How far the table can be believed; its rows in the table's order."""
        place = {row: number for number, row in enumerate(table.rows())}
        scored = [row for row in self.rows if (row.arm, row.inputs) in place]
        rows = sorted(scored, key=lambda row: place[row.arm, row.inputs])
        return Sureness.of(
            table,
            [load_statistics(row.statistics) for row in rows],
            [load_compared(comparison) for comparison in self.comparisons],
        )

    def provenance(self) -> Provenance:
        """What a reader must know before believing a number of this table."""
        code = code_version()
        return Provenance(
            name=f"{self.corpus_name}, seed {self.seed}",
            scale=self.scale,
            corpus=self.corpus_name,
            corpus_digest=self.corpus.digest or "",
            codecs=dict(self.codecs),
            seed=self.seed,
            code_version=f"{code['commit']}{' with uncommitted changes' if code['dirty'] else ''}",
        )

    def _checks(self, table: ScoreTable) -> tuple[CheckResult, ...]:
        if self.scale != CHECKED_SCALE:
            return ()
        return tuple(check(table, self._quality(), model_rows=self.model_rows))

    def _quality(self) -> ClapQuality | None:
        if self.clap_quality is None:
            return None
        told = load_quality(self.clap_quality)
        if told.role_accuracy is None:
            return None
        return ClapQuality(windows=told.windows, recall_at_5=told.recall_at_5, role_accuracy=told.role_accuracy)

    def _alike(self) -> list[str]:
        """A line that says what the alike accompaniments are, or why there are none."""
        return [f"{told_of_alike(row.row.candidates)}\n" for row in self.rows if (row.arm, row.inputs) == ALIKE_ROW]

    def _unread(self) -> list[str]:
        """A line for every file of the corpus that could not be read."""
        quarantined = read_catalogue(self.catalogue.path).quarantined
        return [f"left out, unreadable: {item.path}: {item.reason}\n" for item in quarantined]

    def _reservations(self) -> list[str]:
        """A line for every suspect result that was allowed, and for every broken shard that all this goes without."""
        rows = (artifact for row in self.rows for artifact in (row.scores, row.statistics))
        lost = lost_shards(self.clap, *rows, *self.comparisons, *dict(self.trainings).values())
        made = [f"made by code that has changed since, and allowed: {suspect}\n" for suspect in self.suspects]
        return made + [f"left out, broken shard of windows: {shard}\n" for shard in dict.fromkeys(lost)]

    def _witness(self) -> str:
        told = json.loads((self.cross_check.path / "fad.json").read_text(encoding="utf-8"))
        return (
            f"All windows of the real row at once have FAD {told['ours']:.6f} by our arithmetic "
            f"and {told['peer']:.6f} by the package frechet-audio-distance, on the same embeddings."
        )

    def _page(
        self, table: ScoreTable, provenance: Provenance, checks: tuple[CheckResult, ...], sure: Sureness
    ) -> ReportInput:
        made = tuple((row.row, row.candidates) for row in self.rows if row.candidates)
        quality, bridge = self.clap_quality, self.bridge_quality
        return ReportInput(
            provenance=provenance,
            table=table,
            checks=checks,
            sure=sure,
            judge=(load_quality(quality), (quality.path / SPACE_PICTURE).read_bytes()) if quality else None,
            listening=tuple((name, load_listening(artifact)) for name, artifact in self.listening),
            bridge=(load_crossings(bridge), (bridge.path / PICTURE).read_bytes()) if bridge else None,
            stem_map=self._stem_map(),
            curves=tuple(curve(name, artifact) for name, artifact in self.trainings),
            steps_curves=tuple((curve.path / STEPS_PICTURE).read_bytes() for curve in self.steps_curves),
            examples=examples_of(made, self.windows),
            notes=(self._witness(), *self._alike(), *self._unread(), *self._reservations()),
            commands=(self.command,),
        )

    def _stem_map(self) -> bytes | None:
        """Where the first row of every arm lies; None where there is no arm, or a bound is missing."""
        rows: dict[tuple[str, ...], Artifact] = {}
        for row in self.rows:
            rows.setdefault((row.arm,) if row.candidates else (row.arm, row.inputs), row.row.candidates)
        stems = {name: load_embeddings(judged).arrays["stem_NE"] for name, judged in rows.items()}
        made = {name[0]: stem_NE for name, stem_NE in stems.items() if len(name) == 1}
        if not made or not {REAL_ROW, NOISE_ROW} <= stems.keys():
            return None
        return stem_map(stems[REAL_ROW], stems[NOISE_ROW], made)


def curve(name: str, artifact: Artifact) -> Curve:
    """The losses of a finished training over its steps."""
    points = [told for told in read_telemetry(artifact.path) if set(SHOWN_LOSSES) <= told.keys()]
    values = {name: tuple(float(told[name]) for told in points) for name in SHOWN_LOSSES if points}
    return Curve(name=name, steps=tuple(int(told["step"]) for told in points), values=values)


def _printed(table: ScoreTable, provenance: Provenance) -> str:
    text = io.StringIO()
    print_table(table, provenance, file=text)
    return text.getvalue()


class Published(NamedTuple):
    """Where a report lies for people, under names that stay."""

    folder: Path

    @property
    def table(self) -> str:
        return (self.folder / TABLE_TEXT).read_text(encoding="utf-8")

    @property
    def results(self) -> list[CheckResult]:
        return [CheckResult(**told) for told in json.loads((self.folder / CHECKS).read_text(encoding="utf-8"))]

    @property
    def checks(self) -> str:
        if not self.results:
            return f"no bounds: they were measured for the scale {CHECKED_SCALE}"
        text = io.StringIO()
        print_checks(self.results, file=text)
        return text.getvalue()

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    def places(self, mlflow_uri: str) -> list[str]:
        """The closing lines of a run."""
        view = self.folder.parent / TABLE_VIEW
        served = mlflow_uri.startswith("http")
        interface = mlflow_uri.rstrip("/") if served else MLFLOW_UI
        return [
            f"report   {self.folder / PAGE}",
            f"scores   {self.folder / SCORES}",
            f"how sure {self.folder / STATISTICS}, {COMPARISONS}",
            f"table 1  {self.folder / TABLE1}, .csv, .md, .tex",
            f"all runs {self.folder.parent / DATASET}",
            f"compare  {interface if served else f'.venv/bin/mlflow ui --backend-store-uri {mlflow_uri}'}",
            *([f"there    {interface}/{view.read_text(encoding='utf-8')}"] if view.exists() else []),
        ]


def publish(report: Artifact, root: Path, name: str) -> Published:
    """Copy a finished report to `reports/<name>`, where people look for it, and remember it as the latest.

    Its scores also go into the data set of all runs of the workspace.
    """
    reports = root / "reports"
    folder, scratch = reports / name, reports / f".{name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(report.path, scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    add_to_dataset(reports / DATASET, folder / SCORES, run=name)
    write_whole(reports / LATEST, json.dumps({"name": name}).encode())
    return Published(folder)


def latest_report(root: Path) -> Published:
    """The report published last. Raises ValueError where there is none."""
    pointer = root / "reports" / LATEST
    if not pointer.exists():
        raise ValueError(f"there is no report in {root}; make one with stemwright reproduce --workspace {root}")
    return Published(root / "reports" / json.loads(pointer.read_text(encoding="utf-8"))["name"])
