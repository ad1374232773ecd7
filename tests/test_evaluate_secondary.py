"""Claims about `stemwright evaluate --secondary`: FADs in other spaces beside the table, never among the paper's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_vggish import write_tiny_vggish
from typer.testing import CliRunner, Result

from flows.__main__ import app
from metrics.embeddings import Floats
from metrics.frechet import frechet_distance
from metrics.protocol import PROFILES
from tasks import evaluate_secondary
from tasks.audio import read_window
from tasks.audio_bytes import write_flac
from tasks.columns import columns
from tasks.evaluate_secondary import Ear, Picked, secondary_scores
from tasks.exports import TABLE1_SCHEMA, read_frame, read_scores_parquet
from tasks.secondary_fad import EMBEDDERS, secondary_fad

METRIC = "secondary_fad_vggish"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of references and of louder candidates, and a checkpoint of VGGish in small."""
    place = tmp_path_factory.mktemp("secondary")
    random = np.random.default_rng(4)
    for name, count, peak in (("stems", 5, 0.3), ("made", 4, 0.6)):
        (place / name).mkdir()
        for number in range(count):
            clip_SN = random.uniform(-peak, peak, (2, 480_000)).astype(np.float32)
            write_flac(place / name / f"{number}.flac", clip_SN)
    write_tiny_vggish(place / "models")
    np.save(place / "made.npy", np.ones((4, 8), np.float32))
    return place


def run(place: Path, secondary: str, out: Path, suffix: str = "") -> Result:
    given = ("--candidates", str(place / f"made{suffix}"), "--references", str(place / f"stems{suffix}"))
    where = ("--workspace", str(out / "workspace"), "--workers", "1", "--device", "cpu", "--out", str(out / "out"))
    return CliRunner().invoke(app, ["evaluate", *given, "--secondary", secondary, *where])


@pytest.fixture(scope="module")
def judged(place: Path) -> Result:
    done = run(place, f"vggish={place / 'models'}", place)
    assert done.exit_code == 0, done.output
    return done


def test_a_secondary_fad_is_a_labelled_column_after_the_papers_with_the_digest_of_its_weights(
    place: Path, judged: Result
) -> None:
    digest = sha256((place / "models" / EMBEDDERS["vggish"].files[0]).read_bytes()).hexdigest()
    assert "↓ secondary FAD, vggish" in judged.stdout
    assert f"secondary FAD in the space of vggish, weights {digest[:12]}: no column of the paper" in judged.stdout
    assert METRIC not in {column.metric for column in columns((2, 5))}
    assert "secondary FAD, vggish" in (place / "out" / "table.md").read_text()
    wide = read_frame(place / "out" / "table.parquet", TABLE1_SCHEMA)
    assert wide.columns[-2:] == [f"{METRIC}_mean", f"{METRIC}_std"]
    long = pl.read_parquet(place / "out" / "scores.parquet")
    assert long["run_secondary_vggish_sha256"].unique().to_list() == [digest]
    assert json.loads((place / "out" / "evaluation.json").read_text())["provenance"]["secondary"] == {"vggish": digest}


@pytest.mark.usefixtures("judged")
def test_its_value_is_the_fad_of_the_models_embeddings_of_the_clips(place: Path) -> None:
    stems, made = ([read_window(path, 0, 480_000) for path in sorted((place / n).iterdir())] for n in ("stems", "made"))
    expected = secondary_fad("vggish", stems, made, rate_hz=48_000, checkpoints=place / "models")
    cell = read_scores_parquet(place / "out" / "scores.parquet").cell("made", "audio", METRIC)
    assert cell is not None and cell.mean == pytest.approx(expected, rel=1e-9) and expected > 0.1


def test_every_batch_is_measured_by_its_own_candidates_in_pieces_that_change_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(clips: Sequence[Floats], rate_hz: int) -> Floats:
        return np.stack([clip_SN[0, :3] for clip_SN in clips])

    monkeypatch.setattr(evaluate_secondary, "PIECE_CLIPS", 4)
    protocol = replace(PROFILES["paper"], batches=2, batch_size=3)
    keys = ["0", "1", "2", "3", "4", "2"]
    scores = secondary_scores(
        {"own": Ear(embed, "")},
        {"arm": Picked(place / "stems", keys)},
        Picked(place / "stems", keys[:5]),
        protocol,
        live=False,
    )
    rows = [read_window(place / "stems" / f"{key}.flac", 0, 480_000)[0, :3] for key in keys]
    expected = [frechet_distance(np.stack(rows[:5]), np.stack(rows[first : first + 3])) for first in (0, 3)]
    assert [score.value for score in scores] == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_that_is_missing_or_wrong_is_one_line_with_the_remedy_before_anything_is_embedded(
    place: Path, tmp_path: Path
) -> None:
    weights = tmp_path / EMBEDDERS["encodec"].files[0]
    weights.parent.mkdir()
    weights.write_text("no weights")
    for told, secondary, suffix in (
        ("Nothing is downloaded", f"vggish={tmp_path}", ""),
        ("get them again: checkpoints/encodec", f"encodec={tmp_path}", ""),
        ("there are vggish, pann, encodec", f"openl3={tmp_path}", ""),
        ("give NAME=FOLDER", "vggish", ""),
        ("needs audio to embed", f"vggish={place / 'models'}", ".npy"),
    ):
        done = run(place, secondary, tmp_path, suffix)
        assert done.exit_code == 2 and told in done.stderr, done.output
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "workspace" / "artifacts").exists()
