"""Claims about `stemwright evaluate`: anyone's audio, or anyone's embeddings, against real stems."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from typer.testing import CliRunner, Result

from flows.__main__ import app
from metrics.embeddings import EmbeddingSet
from metrics.protocol import PROFILES
from metrics.table import ScoreTable
from models.clap import Clap
from tasks import evaluate_embed
from tasks.audio_bytes import decode_flac, write_flac
from tasks.clap import SHIPPED, load_clap, shipped_clap
from tasks.embed import embed_one
from tasks.evaluate_clips import ClipRule, listed_clips, track_of
from tasks.evaluate_material import Material
from tasks.evaluate_scores import AS_THE_PAPER, Evaluation, Rules, evaluate
from tasks.evaluate_sizes import fitted, real_against_real
from tasks.exports import TABLE1_SCHEMA, read_frame, read_scores_parquet
from tasks.runtime import Runtime

RATE_HZ = 48_000
Judge = Callable[..., Evaluation]
Spread = Callable[[int, str], str]
Vectors = dict[str, np.ndarray]
SONGS = 8


def tone(seed: int, seconds: float = 10.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A stem of a sort (2, N): one pitch, timbre and rhythm a song."""
    random = np.random.default_rng(seed)
    time_N = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz, overtones, period_s = random.uniform(60, 900), random.integers(2, 9), random.choice([0.25, 0.5, 1.0])
    sound_N = sum(np.sin(2 * np.pi * pitch_hz * number * time_N) / number for number in range(1, overtones))
    return np.tile(0.15 * sound_N * np.exp(-random.uniform(1, 8) * (time_N % period_s)), (2, 1)).astype(np.float32)


def written(folder: Path, clips: dict[str, np.ndarray]) -> Path:
    for name, audio_SN in clips.items():
        path = folder / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_flac(path, audio_SN)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of stems, of what they accompany, of other songs' stems, and of noise."""
    place = tmp_path_factory.mktemp("given")
    written(place / "stems", {f"song{number}/bass": tone(number) for number in range(SONGS)})
    written(
        place / "contexts", {f"song{number}/bass": tone(number)[:, ::-1] * np.float32(0.7) for number in range(SONGS)}
    )
    written(
        place / "swapped",
        {f"song{number}/bass": tone((number + 3) % SONGS)[:, ::-1] * np.float32(0.7) for number in range(SONGS)},
    )
    random = np.random.default_rng(0)
    noise = {f"song{number}/bass": random.uniform(-0.3, 0.3, (2, 480_000)).astype(np.float32) for number in range(4)}
    written(place / "noise", noise)
    return place


@pytest.fixture(scope="module")
def judge(place: Path) -> Judge:
    def judged(
        *candidates: str,
        references: str = "stems",
        space: str | None = None,
        rules: Rules = AS_THE_PAPER,
        **others: str,
    ) -> Evaluation:
        paths: dict[str, Any] = {name: place / path for name, path in others.items()}
        given = tuple(place / name for name in candidates)
        material = Material(candidates=given, references=place / references, space=space, **paths)
        runtime = Runtime(workspace=str(place / "workspace"), workers=1, progress=False)
        return evaluate(material, rules=rules, clap=shipped_clap(), runtime=runtime)

    return judged


def value(table: ScoreTable, arm: str, metric: str) -> float:
    cell = table.cell(arm, table.rows()[0][1], metric)
    assert cell is not None, f"{arm} has no {metric}"
    return cell.mean


def test_real_stems_judged_against_themselves_are_perfect_and_noise_is_far(judge: Judge) -> None:
    judged, noise = judge("stems", targets="stems"), judge("noise")
    assert abs(value(judged.table, "stems", "fad")) < 1e-6
    assert value(judged.table, "stems", "coverage_k2") == 1.0
    assert value(judged.table, "stems", "cs_aa") == pytest.approx(1.0, abs=1e-6)
    assert noise.real is not None
    assert value(noise.table, "noise", "fad") > 1.0 > value(noise.real.table, "real", "fad")
    assert any("8 candidates are among the references" in line for line in judged.lines())
    assert not any("among the references" in line for line in noise.lines())


def test_contexts_of_other_songs_lower_adherence(judge: Judge) -> None:
    true, wrong = (
        judge("stems", contexts=contexts, reference_contexts="contexts") for contexts in ("contexts", "swapped")
    )
    assert value(true.table, "stems", "apa") == pytest.approx(1.0)
    assert value(wrong.table, "stems", "apa") < 0.5
    assert true.blank.keys() == {"cs_aa", "cs_ta"}


def test_a_metric_without_its_material_is_blank_and_says_what_it_needs(judge: Judge) -> None:
    judged = judge("noise", contexts="contexts")
    assert judged.table.cell("noise", "audio", "apa") is None
    assert "blank: APA: it needs contexts and reference_contexts; not given: reference_contexts" in judged.lines()


def test_stems_of_a_single_song_leave_adherence_blank(judge: Judge, place: Path) -> None:
    for name in ("stems", "contexts"):
        written(place / f"one-{name}", {f"song/{number}": tone(number) for number in range(4)})
    judged = judge("noise", references="one-stems", contexts="contexts", reference_contexts="one-contexts")
    assert "cannot be mispaired" in judged.blank["apa"] and judged.real is None


@pytest.fixture(scope="module")
def vectors(place: Path) -> Vectors:
    """Embeddings of the folders by the CLAP alone, with none of the code that judges; the same as `.npy` files."""
    clap = load_clap(str(SHIPPED), {}, "cpu")
    made = {}
    for name in ("stems", "noise", "swapped"):
        files = sorted((place / name).rglob("*.flac"))
        made[name] = np.stack([embed_one(clap, decode_flac(path.read_bytes())) for path in files])
        np.save(place / f"{name}.npy", made[name])
    return made


def test_given_embeddings_have_the_scores_of_the_audio_they_are_of(judge: Judge, place: Path, vectors: Vectors) -> None:
    heard = judge("noise", targets="swapped")
    names = [f"song{number}/bass" for number in range(4)]
    pl.DataFrame({"id": names, "e": vectors["noise"].tolist()}).write_parquet(place / "noise.parquet")
    pl.DataFrame({"id": names[::-1], "e": vectors["swapped"][3::-1].tolist()}).write_parquet(place / "turned.parquet")
    for candidates in ("noise.npy", "noise.parquet"):
        given = judge(candidates, references="stems.npy", space="small")
        for metric in ("kd", "fad", "coverage_k2", "density_k5"):
            assert value(given.table, "noise", metric) == pytest.approx(value(heard.table, "noise", metric), rel=1e-4)
    given = judge("noise.parquet", references="stems.npy", targets="turned.parquet", space="small")
    assert value(given.table, "noise", "cs_aa") == pytest.approx(value(heard.table, "noise", "cs_aa"), rel=1e-4)
    assert given.table.protocol.space.name == "small" and given.table.protocol.space.normalised
    assert given.blank.keys() == {"apa", "cs_ta"}


def test_a_second_look_embeds_nothing_and_a_new_file_only_itself(
    judge: Judge, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "noise", place / "growing")
    first = judge("growing")
    heard: list[tuple[int, ...]] = []

    def listened(clap: Clap, audio_SN: np.ndarray) -> np.ndarray:
        heard.append(audio_SN.shape)
        return embed_one(clap, audio_SN)

    monkeypatch.setattr(evaluate_embed, "embed_one", listened)
    assert judge("growing").table == first.table and heard == []
    written(place / "growing", {"song9/bass": tone(99)})
    shutil.move(place / "growing" / "song0", place / "growing" / "renamed")
    assert value(judge("growing").table, "growing", "fad") != value(first.table, "growing", "fad")
    assert heard == [(2, 480_000)]


def test_any_format_rate_and_length_is_heard_and_what_cannot_be_is_named(judge: Judge, place: Path) -> None:
    folder = place / "mixed"
    folder.mkdir()
    soundfile.write(folder / "mono.ogg", tone(1, 10, 22_050)[0], 22_050)
    soundfile.write(folder / "short.wav", tone(2, 3, 44_100).T, 44_100)
    soundfile.write(folder / "long.mp3", tone(3, 25, 48_000).T, 48_000)
    (folder / "broken.flac").write_bytes(b"fLaC and nothing more")
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_bytes(b"")
    judged = judge("mixed")
    assert judged.table.protocol.batch_size == 3
    assert [one.path for one in judged.left_out["mixed"]] == ["broken"]
    assert "/" not in judged.left_out["mixed"][0].reason.split(":")[0]
    lines = "\n".join(judged.lines())
    assert "mixed: 1 files are shorter than 10 s" in lines and "mixed: 1 files are longer than the 10 s" in lines
    assert judge("mixed", rules=Rules(clips_per_file=3)).table.protocol.batch_size == 4


def test_clips_lie_one_after_the_other_and_files_of_a_subfolder_are_of_one_song(tmp_path: Path) -> None:
    written(tmp_path, {"a/bass": tone(0, 21), "a/drums": tone(1, 9), "b": tone(2, 30)})
    listed = listed_clips(tmp_path, None, None, ClipRule(clip_s=10, stem_s=5, clips_per_file=2))
    assert [clip.row.key for clip in listed.clips] == ["a/bass", "a/bass from 10 s", "a/drums", "b", "b from 10 s"]
    assert [clip.stem_start_samples for clip in listed.clips] == [0, 480_000, 0, 0, 480_000]
    assert [clip.row.track for clip in listed.clips] == ["a", "a", "a", "b", "b"]
    assert (listed.shorter, listed.longer) == (1, 2) and track_of("x/y/z") == "x/y"


def test_a_long_file_heard_as_two_clips_has_the_scores_of_two_files(judge: Judge, place: Path) -> None:
    written(place / "apart", {"a": tone(20), "b": tone(21)})
    written(place / "chained", {"a and b": np.concatenate([tone(20), tone(21)], axis=1)})
    apart, chained = judge("apart"), judge("chained", rules=Rules(clips_per_file=2))
    assert value(chained.table, "chained", "fad") == pytest.approx(value(apart.table, "apart", "fad"), rel=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_prompts_give_cs_ta_and_who_has_none_is_left_out_by_name(judge: Judge, place: Path, suffix: str) -> None:
    told = {f"song{number}/bass{'.flac' * (number % 2)}": "bass, warm" for number in range(3)}
    rows = [{"text": text, "name": name} for name, text in told.items()]
    lines = ["text,name", *(f'"{row["text"]}",{row["name"]}' for row in rows)]
    path = place / f"prompts{suffix}"
    path.write_text("\n".join(lines if suffix == ".csv" else map(json.dumps, rows)) + "\n")
    judged = judge("noise", prompts=path.name)
    assert -1 < value(judged.table, "noise", "cs_ta") < 1 and judged.table.protocol.batch_size == 3
    assert [one.path for one in judged.left_out["noise"]] == ["song3/bass"]
    assert "no prompt bears its name" in judged.left_out["noise"][0].reason


def test_several_candidates_are_judged_at_one_size_and_each_pairs_with_its_own_names(judge: Judge) -> None:
    judged = judge("noise", "swapped", targets="swapped")
    assert judged.table.protocol.batch_size == 4
    assert value(judged.table, "swapped", "cs_aa") == pytest.approx(1.0)
    assert value(judged.table, "noise", "cs_aa") < 0.9
    assert "note: swapped: 4 of 8 are drawn and judged" in judged.lines()
    alone = judge("noise", targets="swapped")
    assert "note: targets: 4 bear no candidate's name: song4/bass, song5/bass, song6/bass …" in alone.lines()


@pytest.fixture(scope="module")
def spread(place: Path) -> Spread:
    """Files of many embeddings of one law."""

    def saved(count: int, name: str) -> str:
        random = np.random.default_rng(count)
        vectors_NE = random.standard_normal((count, 16)) * np.linspace(1, 0.1, 16)
        np.save(place / name, (vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)).astype(np.float32))
        return name

    return saved


def test_the_profile_is_kept_where_there_is_enough_and_said_to_be_smaller_where_not(
    judge: Judge, spread: Spread
) -> None:
    candidates, references = spread(2300, "many.npy"), spread(5001, "real.npy")
    judged = judge(candidates, references=references, space="s")
    protocol = judged.table.protocol
    assert (protocol.batches, protocol.batch_size, protocol.reference_size) == (2, 1000, 5000)
    assert "note: many: 2,000 of 2,300 are drawn and judged" in judged.lines()
    few = judge(spread(100, "few.npy"), references=spread(150, "some.npy"), space="s")
    assert "warning: 1 batch of 100 candidates against 150 references, where the profile paper has 5" in str(
        few.lines()
    )
    assert judge("few.npy", references="some.npy", space="s", rules=Rules(batches=4)).table.protocol.batch_size == 25


def test_the_bias_that_is_told_is_that_of_equal_sets_of_those_sizes(judge: Judge, spread: Spread) -> None:
    biases = []
    for size in (50, 200):
        judged = judge(spread(size, "c.npy"), references=spread(2 * size + 1, "r.npy"), space="s")
        assert judged.real is not None
        sizes = judged.real.protocol
        assert (sizes.batch_size, sizes.reference_size) == (size, size + 1)
        assert value(judged.real.table, "real", "fad") == pytest.approx(value(judged.table, "c", "fad"), rel=0.5)
        biases.append(value(judged.real.table, "real", "fad"))
    assert biases[0] / biases[1] == pytest.approx(4, rel=0.3)


def test_real_against_real_never_has_a_song_on_both_sides(judge: Judge, spread: Spread, place: Path) -> None:
    vectors_NE = np.load(place / spread(60, "songs.npy"))
    noisy_NE = np.repeat(vectors_NE, 5, axis=0) + 1e-3 * np.random.default_rng(0).standard_normal((300, 16))
    space = replace(PROFILES["paper"].space, name="s", width=16, normalised=False)
    protocol = replace(PROFILES["paper"], space=space, mixture_space=space, batch_size=100)
    rows = EmbeddingSet(vectors_ND=noisy_NE, ids=tuple(map(str, range(300))), space=space, content="stem")
    by_song = real_against_real(rows, [str(row // 5) for row in range(300)], protocol, seed=0)
    by_row = real_against_real(rows, list(map(str, range(300))), protocol, seed=0)
    assert by_song is not None and by_row is not None
    assert value(by_song.table, "real", "coverage_k2") < 0.1
    assert value(by_row.table, "real", "coverage_k2") > 0.4
    # Of three songs, half the rows are one song and a half; the half that is left of the second counts on neither side.
    thirds = real_against_real(rows, [str(row // 100) for row in range(300)], replace(protocol, batch_size=150), seed=0)
    assert thirds is not None and thirds.protocol.reference_size == 100


def test_sizes_too_small_for_any_score_are_refused() -> None:
    for candidates, references, batches, told in (
        (1, 9, None, "at least 2"),
        (9, 2, None, "k = 2"),
        (9, 9, 5, "--batches"),
    ):
        with pytest.raises(ValueError, match=told):
            fitted(PROFILES["paper"], candidates=candidates, references=references, batches=batches)


def run(place: Path, *arguments: str) -> Result:
    where = ("--workspace", str(place / "workspace"), "--workers", "1", "--device", "cpu")
    return CliRunner().invoke(app, ["evaluate", *arguments, *where])


def test_the_command_prints_the_table_and_writes_every_form_of_it(place: Path, tmp_path: Path) -> None:
    done = run(
        place,
        "--candidates",
        str(place / "noise"),
        "--references",
        str(place / "stems"),
        "--out",
        str(tmp_path / "out"),
    )
    assert done.exit_code == 0, done.output
    assert "noise against stems" in done.stdout and "blank: CS_TA" in done.stdout and str(tmp_path) in done.stdout
    table = read_scores_parquet(tmp_path / "out" / "scores.parquet")
    wide = read_frame(tmp_path / "out" / "table.parquet", TABLE1_SCHEMA)
    assert wide["fad_mean"].to_list() == [value(table, "noise", "fad")]
    assert pl.read_csv(tmp_path / "out" / "table.csv")["fad_mean"].to_list() == wide["fad_mean"].to_list()
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["protocol"]["batch_size"] == 4 and len(told["real_against_real"]["draws"]["fad"]) == 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("scores.parquet", "table.parquet", "table.csv", "table.md", "table.tex", "evaluation.json")
    }


def bad_inputs(place: Path) -> dict[str, tuple[str, ...]]:
    """Arguments in place of `--candidates noise --references stems`, by what must be said of them."""
    np.save(place / "narrow.npy", np.ones((4, 64), np.float32))
    np.save(place / "flat.npy", np.ones(4, np.float32))
    np.save(place / "words.npy", np.array(["a"]))
    np.save(place / "nan.npy", np.full((4, 128), np.nan, np.float32))
    (place / "torn.npy").write_bytes(b"\x93NUMPY")
    (place / "empty").mkdir()
    written(place / "one", {"only": tone(0)})
    written(place / "twice", {"a": tone(0), "b": tone(1)})
    shutil.copy(place / "twice" / "a.flac", place / "twice" / "a.wav")
    written(place / "strangers", {"x": tone(0), "y": tone(1)})
    (place / "all-broken").mkdir()
    (place / "all-broken" / "z.wav").write_bytes(b"RIFF")
    (place / "bad.csv").write_text("file,words\na,b\n")
    pl.DataFrame({"id": ["a", "a"], "e": [[1.0, 0.0]] * 2}).write_parquet(place / "same.parquet")
    pl.DataFrame({"name": ["a"], "e": [[1.0]]}).write_parquet(place / "nameless.parquet")
    pl.DataFrame({"id": ["a", "b"], "e": [[1.0], [1.0, 2.0]]}).write_parquet(place / "ragged.parquet")
    embedded = ("--references", "stems.npy", "--space", "s")
    return {
        "empty holds no audio file": ("--candidates", "empty"),
        "absent is not a folder": ("--candidates", "absent"),
        "1 candidates and 8 references": ("--candidates", "one"),
        "are both called 'a'": ("--candidates", "twice"),
        "no file of": ("--candidates", "all-broken"),
        "no target bears its name": ("--targets", "strangers"),
        "no prompt bears its name": ("--prompts", "strange.csv"),
        "file, words; expected the columns name and text": ("--prompts", "bad.csv"),
        "there is no profile 'best'": ("--profile", "best"),
        "give audio on both sides": ("--candidates", "noise.npy"),
        "say which model made them": ("--candidates", "noise.npy", "--references", "stems.npy"),
        "different widths": ("--candidates", "narrow.npy", *embedded),
        "expected (embeddings, width)": ("--candidates", "flat.npy", *embedded),
        "expected float16": ("--candidates", "words.npy", *embedded),
        "row 0 holds NaN": ("--candidates", "nan.npy", *embedded),
        "is no whole array of numbers": ("--candidates", "torn.npy", *embedded),
        "there is no such file": ("--candidates", "gone.npy", *embedded),
        "names 'a' twice": ("--candidates", "same.parquet", *embedded),
        "expected id and one column": ("--candidates", "nameless.parquet", *embedded),
        "expected one width for all": ("--candidates", "ragged.parquet", *embedded),
        "embeddings cannot be mixed": ("--candidates", "noise.npy", *embedded, "--contexts", "contexts"),
        "a target is an embedding too": ("--candidates", "noise.npy", *embedded, "--targets", "stems"),
        "is for embeddings": ("--space", "s"),
        "nothing is trained": ("--clap", "fit"),
    }


def test_bad_input_is_one_clear_line(place: Path, vectors: Vectors, tmp_path: Path) -> None:
    (place / "strange.csv").write_text("name,text\nq,bass\n")
    for told, given in bad_inputs(place).items():
        pairs = dict([("--candidates", "noise"), ("--references", "stems"), *zip(given[::2], given[1::2], strict=True)])
        plain = {"--space", "--profile", "--clap"}
        arguments = [part for key, text in pairs.items() for part in (key, text if key in plain else str(place / text))]
        done = run(place, *arguments, "--out", str(tmp_path / "never"))
        assert done.exit_code == 2, f"{told}: {done.output}"
        assert told in done.stderr and len(done.stderr.strip().splitlines()) == 1, f"{told}: {done.stderr}"
    assert not (tmp_path / "never").exists()
