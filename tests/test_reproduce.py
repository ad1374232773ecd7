"""The main job at tiny scale: every cell of Table 1, nothing built twice, and a killed run that ends the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import ROOT, TINY, stemwright

from flows.arm_training import train_arm
from flows.graph import inspect_arm
from flows.preparation import prepare
from flows.request import StudyRequest
from flows.session import session
from models.denoiser import Denoiser
from tasks.context_sensitivity import ContextIgnored, load_listening
from tasks.exports import TABLE1_SCHEMA, read_frame, read_scores_parquet
from tasks.paper_table import paper_table
from tasks.store import Store
from tasks.sureness import COMPARISONS_SCHEMA, STATISTICS_SCHEMA

pytestmark = pytest.mark.slow


def records(workspace: Path) -> dict[str, tuple[str, str]]:
    """Digest and finishing time of every result, by stage and key."""
    told = (json.loads(path.read_text()) for path in workspace.glob("artifacts/*/*/record.json"))
    return {f"{record['stage']}/{record['key']}": (record["digest"], record["finished"]) for record in told}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the whole study ran once at tiny scale."""
    folder = tmp_path_factory.mktemp("tiny")
    done = stemwright("reproduce", *TINY, "--workspace", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def report(workspace: Path) -> Path:
    return workspace / "reports" / "tiny-embedded-seed0"


@pytest.mark.timeout(900)
def test_every_cell_of_table_1_is_filled(report: Path) -> None:
    table, paper = read_scores_parquet(report / "scores.parquet"), paper_table()
    for arm, inputs in paper.model_rows():
        wanted = ["kd", "fad", "coverage_k2", "density_k2", "cs_aa", "cs_ta"] + ["apa"] * ("ctx" in inputs)
        for metric in wanted:
            assert table.cell(arm, inputs, metric) is not None, f"{arm}, {inputs} has no {metric}"
        if "ctx" not in inputs:
            assert table.cell(arm, inputs, "apa") is None


def test_the_bounds_have_the_cells_of_the_paper(report: Path) -> None:
    table = read_scores_parquet(report / "scores.parquet")
    assert table.cell("real", "original accompaniment", "apa") is not None
    assert table.cell("lower bound", "white noise", "fad") is not None
    assert table.cell("lower bound", "white noise", "apa") is None
    assert table.cell("lower bound", "random accompaniment", "fad") is None
    assert table.cell("lower bound", "random accompaniment", "cs_ta") is not None


def test_real_stems_through_each_codec_stand_below_the_real_row_and_no_value_of_the_papers_beside(report: Path) -> None:
    rows = read_scores_parquet(report / "scores.parquet").rows()
    assert [arm for arm, _ in rows[:5]] == ["real"] * 3 + ["lower bound"] * 2
    assert all(inputs.startswith("through Music2Latent") for _, inputs in rows[1:3])
    assert pl.read_csv(report / "table1.csv")["paper_fad"][1:3].null_count() == 2
    table = (report / "table.txt").read_text(encoding="utf-8")
    assert "There is no row of alike accompaniments: no other song here is " in table


def test_scores_carry_their_protocol(report: Path) -> None:
    frame = pl.read_parquet(report / "scores.parquet")
    assert frame["run_scale"].unique().to_list() == ["tiny"]
    assert frame["protocol_space_name"].unique().to_list() == ["small"]
    assert frame["protocol_space_weights_sha256"].str.len_chars().unique().to_list() == [64]
    assert read_frame(report / "table1.parquet", TABLE1_SCHEMA).height == 33


def test_the_table_is_there_for_papers_and_the_scores_beside_those_of_other_runs(report: Path) -> None:
    assert pl.read_csv(report / "table1.csv").height == 33
    assert all("CLAP" in (report / f"table1.{suffix}").read_text(encoding="utf-8") for suffix in ("md", "tex"))
    runs = pl.scan_parquet(report.parent / "scores" / "**/*.parquet", hive_partitioning=True).collect()
    assert runs.height == pl.read_parquet(report / "scores.parquet").height
    assert runs["run"].unique().to_list() == [report.name]


def test_what_six_candidates_of_four_songs_cannot_tell_is_blank_with_its_reason(report: Path) -> None:
    statistics = read_frame(report / "statistics.parquet", STATISTICS_SCHEMA)
    assert statistics.select("arm", "inputs").unique().height == 33
    assert statistics.filter(pl.col("low").is_null() & (pl.col("note") == "")).is_empty()
    endless = statistics.filter(pl.col("metric") == "fad_infinite")
    assert endless["value"].is_null().all() and endless["note"].str.contains("candidates leave").all()
    pairs = read_frame(report / "comparisons.parquet", COMPARISONS_SCHEMA).select("arm", "before", "inputs").unique()
    assert pairs.height == 6 + 6 + 2 + 6


def test_the_page_asks_nothing_of_the_network(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<audio") >= 5


def test_plus_dit_and_clap_beta_share_one_denoiser(workspace: Path) -> None:
    stages = [name.split("/")[0] for name in records(workspace)]
    assert stages.count("denoiser") == 4
    assert stages.count("bridge") == 1
    assert stages.count("candidates") == 28


@pytest.mark.timeout(900)
def test_a_second_run_builds_nothing_and_makes_no_second_mlflow_run(workspace: Path) -> None:
    before, runs = records(workspace), mlflow_runs(workspace)
    done = stemwright("reproduce", *TINY, "--workspace", str(workspace))
    assert done.returncode == 0, done.stderr
    assert records(workspace) == before
    assert mlflow_runs(workspace) == runs
    assert len(runs["eval"]) == 33
    assert len(runs["data"]) == 4  # catalogue, prompts, the CLAP's quality, the bridge's


def mlflow_runs(workspace: Path) -> dict[str, list[str]]:
    """The ids of all runs, by experiment."""
    code = (
        "import json, sys; from mlflow import MlflowClient; client = MlflowClient(sys.argv[1])\n"
        "experiments = [client.get_experiment_by_name(f'stemwright-{name}') for name in ('data', 'eval')]\n"
        "found = [sorted(r.info.run_id for r in client.search_runs([e.experiment_id])) for e in experiments]\n"
        "print(json.dumps(dict(zip(('data', 'eval'), found))))"
    )
    uri = f"sqlite:///{workspace}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.timeout(900)
def test_invalidating_a_stage_rebuilds_it_and_only_what_has_other_bytes(workspace: Path) -> None:
    before = records(workspace)
    done = stemwright("invalidate", "bridge", "--workspace", str(workspace))
    assert done.returncode == 0 and "made from it" in done.stdout
    planned = stemwright("plan", *TINY, "--workspace", str(workspace))
    assert "to build" in planned.stdout
    assert stemwright("reproduce", *TINY, "--workspace", str(workspace)).returncode == 0
    after = records(workspace)
    assert {name for name in before if before[name] != after[name]} <= {n for n in before if n.startswith("bridge/")}
    assert {name: digest for name, (digest, _) in before.items()} == {
        name: digest for name, (digest, _) in after.items()
    }


def test_an_arm_listens_and_a_cut_context_wire_is_a_loud_error(workspace: Path, monkeypatch: Any) -> None:
    ready = session(StudyRequest(scale="tiny", workspace=str(workspace)))
    arm, make = ready.arm("+DiT"), partial(Store(workspace / "artifacts").build, runtime=ready.runtime)
    prepared = prepare(ready.study, ready.folder, make)
    trained = train_arm(ready.study, prepared, arm, make)
    heard = {row.stems: row.moved for row in load_listening(inspect_arm(ready.study, prepared, arm, trained, make)[0])}
    assert heard["candidates that heard their own context"] == 0
    assert heard["candidates that heard another track's context"] > 1e-3
    whole = Denoiser.raw
    monkeypatch.setattr(Denoiser, "raw", lambda *told, conditions: whole(*told, conditions.without(context=True)))
    with pytest.raises(ContextIgnored, match="does not reach the denoiser"):
        inspect_arm(replace(ready.study, seed=1), prepared, arm, trained, make)


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_and_ends_with_the_same_keys_and_digests(workspace: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows", "reproduce", *TINY, "--arms", "+DiT", "--conditionings", "CLAP_A,ctx"]
    command += ["--workspace", str(tmp_path)]
    for stage in ("windows", "denoiser", "candidates"):
        kill_during(stage, command, tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    whole = records(workspace)
    for name, (digest, _) in records(tmp_path).items():
        if not name.startswith("report/"):
            assert whole[name][0] == digest, name


def kill_during(stage: str, command: list[str], workspace: Path) -> None:
    """Start the command and SIGKILL it and its workers once it builds `stage` for the first time."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        until = time.monotonic() + 300
        while not list(workspace.glob(f"artifacts/{stage}/.building-*")):
            assert process.poll() is None and time.monotonic() < until, f"never saw {stage} being built"
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
