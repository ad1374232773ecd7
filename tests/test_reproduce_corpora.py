"""The main job at tiny scale on recordings: real songs, one of them damaged, and two corpora in a bucket."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from command_line import ROOT, TINY, stemwright

from tasks.exports import read_scores_parquet

pytestmark = pytest.mark.slow

SONGS = ROOT.parent / "shared" / "data" / "songs"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not SONGS.is_dir(), reason="the CC0 songs of ../shared/data are not at hand")
def test_real_songs_give_a_table_and_a_corrupt_stem_is_reported(tmp_path: Path) -> None:
    corpus, workspace = tmp_path / "songs", tmp_path / "workspace"
    shutil.copytree(SONGS, corpus)
    bad = corpus / "eif_1_hydrogen" / "drums_break_2.flac"
    bad.write_bytes(b"fLaC and no more")
    done = stemwright(
        "reproduce", *TINY, "--corpus", str(corpus), "--arms", "+CLAP_beta", "--workspace", str(workspace)
    )
    assert done.returncode == 0, done.stderr
    assert "left out, unreadable: eif_1_hydrogen/drums_break_2.flac" in done.stdout
    table = read_scores_parquet(workspace / "reports" / "tiny-songs-seed0" / "scores.parquet")
    assert len(table.rows()) == 4 + 4  # bounds, one of them through the codec; rows of the arm


@pytest.mark.timeout(900)
def test_two_corpora_with_weights_go_fused_through_a_bucket_to_a_table(tmp_path: Path, s3: Any) -> None:
    workspace, corpora = tmp_path / "workspace", []
    for seed, name in enumerate(("one", "two")):
        corpora += ["--corpus", str(noisy_songs(tmp_path / name, seed))]
    arm = ("--arms", "+DiT", "--conditionings", "CLAP_A,ctx", "--conditionings", "uncond")
    places = ("--shard-root", "s3://windows/study", "--workspace", str(workspace))
    done = stemwright("reproduce", *TINY, *corpora, "--weight", "3", "--weight", "1", "--fused", *arm, *places)
    assert done.returncode == 0, done.stderr
    table = read_scores_parquet(workspace / "reports" / "tiny-one+two-seed0" / "scores.parquet")
    assert table.cell("+DiT", "CLAP_A,ctx", "apa") is not None
    plans = [pl.read_parquet(path) for path in workspace.glob("artifacts/plan/*/pairs.parquet")]
    training = next(plan for plan in plans if plan["track_id"].str.starts_with("one").mean() == 0.75)
    assert training.height == 16
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="windows")["Contents"]]
    assert {key.split("/")[1] for key in keys} >= {"windows", "encode"}
    assert not list(workspace.glob("artifacts/windows/*/*.tar"))
    verified = stemwright("windows", "verify", "--workspace", str(workspace))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.count("all whole") == 3  # prompts, references, the real row; training windows were not kept


def noisy_songs(corpus: Path, seed: int) -> Path:
    """Four songs of three stems of noise, 8 s each."""
    rng = np.random.default_rng(seed)
    for song in range(4):
        (corpus / f"song{song}").mkdir(parents=True)
        for name in ("drums", "bass", "pad"):
            audio = 0.1 * rng.standard_normal((8 * 48_000, 2))
            soundfile.write(corpus / f"song{song}" / f"{name}.wav", audio, 48_000, subtype="PCM_16")
    return corpus
