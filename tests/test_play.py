"""`stemwright play` from files to files, and what it says of whatever a musician may bring along."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
import soundfile
import torch
from tiny_arms import WINDOW_SAMPLES, train_arm
from typer.testing import CliRunner

from flows.__main__ import app
from metrics.mixing import integrated_lufs
from models.accompanist import Accompanist
from tasks.audio import read_window
from tasks.export_model import export_model
from tasks.play import NO_ADHERENCE, TOLD, play_along
from tasks.play_ask import Ask, Inpaint, Loop
from tasks.play_audio import Music, mixed, read_music

RATE_HZ = 48_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder and a few files of noise."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("play")
    export_model(train_arm("+CLAP_beta", place / "workspace"), place / "model", scores=None)
    random = np.random.default_rng(0)
    for name, seconds in (("song", 4.0), ("stem", 2.5)):
        soundfile.write(place / f"{name}.wav", 0.1 * random.standard_normal((round(seconds * RATE_HZ), 2)), RATE_HZ)
    return place


@pytest.fixture(scope="module")
def player(place):
    return Accompanist.load(place / "model")


def run(place, out, *asked):
    options = ("--model", str(place / "model"), "--out", str(out), "--device", "cpu")
    return CliRunner().invoke(app, ["play", *options, *map(str, asked)])


def test_every_variation_is_a_stem_a_mix_and_scores_and_the_same_command_gives_the_same_bytes(place, tmp_path):
    asked = (place / "song.wav", "--prompt", "warm bass, slow", "--reference", place / "stem.wav", "--seed", 7)
    controls = ("--variations", 2, "--steps", 2, "--guide-context", 1.5, "--guide-clap", 1.5)
    for out in ("one", "two"):
        result = run(place, tmp_path / out, *asked, *controls)
        assert result.exit_code == 0, result.output
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("one", "two"))
    assert one == two
    assert one.keys() == {TOLD, "variation-1.wav", "variation-2.wav", "mix-1.wav", "mix-2.wav"}
    assert one["variation-1.wav"] != one["variation-2.wav"]
    for name in one.keys() - {TOLD}:
        info = soundfile.info(tmp_path / "one" / name)
        assert (info.samplerate, info.channels, info.frames) == (RATE_HZ, 2, 4 * RATE_HZ)
    record = json.loads(one[TOLD])
    assert record["seed"] == 7 and record["sampler"]["steps"] == 2 and record["guidance"]["context"] == 1.5
    assert record["adherence"] == NO_ADHERENCE
    for played in record["variations"]:
        scores = played["scores"]
        assert -1 <= scores["prompt"] <= 1 and len(scores["references"]) == 1 and scores["adherence"] is None


def test_the_bridge_gives_each_variation_of_a_prompt_a_style_of_its_own(player):
    style_BE = player.style_of_text("warm bass", variations=3, seed=0)
    assert len(style_BE.unique(dim=0)) == 3
    torch.testing.assert_close(player.style_of_text("warm bass", variations=1, seed=0)[0], style_BE[0])


@pytest.mark.parametrize(
    "asked",
    [
        ("--inpaint", "1.0:2.0", "stem.wav"),
        ("--vary", "0.5", "stem.wav"),
        ("--continue", "stem.wav"),
        ("--loop", "1bars", "--tempo", "360"),
        ("--interpolate", "song.wav", "stem.wav", "0.3"),
    ],
    ids=lambda asked: asked[0],
)
def test_every_edit_fills_the_music(place, tmp_path, asked):
    files = [place / word if word.endswith(".wav") else word for word in asked]
    result = run(place, tmp_path / "out", place / "song.wav", "--variations", 1, "--steps", 1, *files)
    assert result.exit_code == 0, result.output
    assert soundfile.info(tmp_path / "out" / "variation-1.wav").frames == 4 * RATE_HZ


@pytest.mark.parametrize(("loop", "samples"), [(("1bars", "--tempo", "360"), 32_000), (("0.5s",), 24_000)])
def test_a_loop_repeats_after_exactly_what_was_asked_for(place, tmp_path, loop, samples):
    run(place, tmp_path / "out", place / "song.wav", "--variations", 1, "--steps", 1, "--loop", *loop)
    stem_2N = read_window(tmp_path / "out" / "variation-1.wav", 0, 3 * samples)
    np.testing.assert_array_equal(stem_2N[:, samples:], stem_2N[:, :-samples])
    assert not np.array_equal(stem_2N[:, 1:], stem_2N[:, :-1])


def test_progress_is_told_while_music_is_encoded_played_and_decoded(place, player, tmp_path):
    heard = []
    ask = Ask(context=place / "song.wav", variations=2, steps=1)
    play_along(player, ask, tmp_path / "out", lambda stage, share: heard.append((stage, share)))
    shares = {stage: [share for one, share in heard if one == stage] for stage in ("listening", "playing", "writing")}
    assert [stage for stage, _ in heard] == [stage for stage, told in shares.items() for _ in told]  # one by one
    for told in shares.values():
        assert told == sorted(told) and told[-1] == 1 and len({share for share in told if 0 < share < 1}) > 0
    assert 0 < shares["writing"][1] < 0.5  # within the first of two variations


def test_neither_prompt_nor_context_is_needed(place, player, tmp_path):
    record = play_along(player, Ask(), tmp_path / "free")
    assert record["samples"] == WINDOW_SAMPLES and "mix" not in record["variations"][0]
    record = play_along(player, Ask(seconds=1.5), tmp_path / "long")
    assert soundfile.info(tmp_path / "long" / "variation-1.wav").frames == round(1.5 * RATE_HZ)


def test_what_is_outside_an_inpainted_part_is_the_stem_that_was_given(place, player, tmp_path):
    edit = Inpaint(stem=place / "stem.wav", start_s=1.0, stop_s=1.5)
    record = play_along(player, Ask(edit=edit), tmp_path / "out")
    given, made = (read_window(path, 0, 40_000) for path in (place / "stem.wav", tmp_path / "out" / "variation-1.wav"))
    assert record["changed_s"][0] <= 1.0 and record["changed_s"][1] >= 1.5
    np.testing.assert_allclose(made, given, atol=2 / 32768)


def audio(seconds, channels=2, rate_hz=RATE_HZ):
    return 0.1 * np.random.default_rng(1).standard_normal((round(seconds * rate_hz), channels))


def video(path, *, sound):
    """A second of black pictures, with sound or without."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        heard = container.add_stream("aac", rate=RATE_HZ, layout="stereo") if sound else None
        for _ in range(10):
            container.mux(pictures.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(pictures.encode())
        if heard:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(audio(1.0).T, dtype=np.float32), format="fltp", layout="stereo"
            )
            frame.rate = RATE_HZ
            container.mux(heard.encode(frame))
            container.mux(heard.encode())


@pytest.mark.parametrize(
    ("channels", "rate_hz", "suffix"),
    [(1, RATE_HZ, ".wav"), (2, 8_000, ".wav"), (2, 96_000, ".flac"), (1, 22_050, ".ogg"), (2, 44_100, ".mp3")],
)
def test_any_format_and_rate_is_played_along_with_at_its_own_length(player, tmp_path, channels, rate_hz, suffix):
    path = tmp_path / f"song{suffix}"
    soundfile.write(path, audio(1.25, channels, rate_hz), rate_hz)
    samples = read_music(path, "the context").audio_2N.shape[1]
    assert samples == pytest.approx(1.25 * RATE_HZ, abs=2_500 if suffix == ".mp3" else 1)
    play_along(player, Ask(context=path, steps=1), tmp_path / "out")
    assert soundfile.info(tmp_path / "out" / "variation-1.wav").frames == samples


def test_of_a_video_the_sound_is_taken(player, tmp_path):
    video(tmp_path / "clip.mp4", sound=True)
    record = play_along(player, Ask(context=tmp_path / "clip.mp4", steps=1), tmp_path / "out")
    assert record["samples"] == pytest.approx(RATE_HZ, abs=2_048)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: soundfile.write(path, audio(0.2), RATE_HZ), r"lasts 0\.20 s; it may last from 0\.5 s to 30 min"),
        (lambda path: soundfile.write(path, audio(1, 6), RATE_HZ), "6 channels; expected mono or stereo, so mix it"),
        (lambda path: path.write_text("la la la " * 99), "song.wav: Format not recognised. Expected whole audio"),
        (lambda path: path.write_bytes(b""), "song.wav: .* Expected whole audio"),
        (lambda path: None, "there is no such file"),
        (
            lambda path: soundfile.write(path, np.where(audio(1) > 0.3, np.nan, audio(1)), RATE_HZ, subtype="FLOAT"),
            r"a sample that is not a number at 0\.\d+ s; export the stem again",
        ),
    ],
    ids=["0.2 s", "5.1", "text", "empty", "absent", "NaN"],
)
def test_what_is_no_music_is_refused_in_words(player, tmp_path, write, message):
    write(tmp_path / "song.wav")
    with pytest.raises(ValueError, match=message):
        play_along(player, Ask(context=tmp_path / "song.wav"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != "song.wav"] == []


def test_a_video_without_sound_and_more_than_half_an_hour_are_refused(player, tmp_path):
    video(tmp_path / "clip.mp4", sound=False)
    with pytest.raises(ValueError, match="holds no audio stream"):
        play_along(player, Ask(context=tmp_path / "clip.mp4"), tmp_path / "out")
    soundfile.write(tmp_path / "long.flac", np.zeros(31 * 60 * 8_000), 8_000)
    with pytest.raises(ValueError, match=r"lasts 1860\.00 s; .* cut it into parts"):
        play_along(player, Ask(context=tmp_path / "long.flac"), tmp_path / "out")


@pytest.mark.parametrize(
    ("samples", "notes"),
    [
        (
            np.zeros((RATE_HZ, 2)),
            ["the context is silent", "as nothing is heard, the part is played without a context"],
        ),
        (
            np.clip(40 * audio(1.0), -1, 1),
            ["the context is clipped: the distortion is heard as part of the music"],
        ),
    ],
    ids=["silence", "clipped"],
)
def test_silence_and_clipping_are_played_along_with_and_said(player, tmp_path, samples, notes):
    soundfile.write(tmp_path / "song.wav", samples, RATE_HZ)
    record = play_along(player, Ask(context=tmp_path / "song.wav", steps=1), tmp_path / "out")
    assert record["notes"] == notes
    assert soundfile.info(tmp_path / "out" / "mix-1.wav").frames == RATE_HZ


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Ask(prompt="  "), "the prompt is empty; describe the part in a few words"),
        (Ask(prompt="bass " * 2_000), "a prompt of 10,000 characters; describe the part in at most 500"),
        (
            Ask(prompt="温かいベース"),
            "knows no word of the prompt '温かいベース'; describe instrument and sound in English",
        ),
        (Ask(seconds=0.1), "a part lasts at least 0.5 s"),
        (Ask(stereo_width=0.4), "this model plays stereo by itself; leave it out"),
        (Ask(variations=0), "at least one can be played"),
        (Ask(edit=Loop(period_s=60.0)), "ask for another number of bars"),
    ],
    ids=["empty prompt", "10,000 characters", "another script", "0.1 s", "width", "none", "loop"],
)
def test_what_cannot_be_asked_for_is_said(player, tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        play_along(player, asked, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--inpaint", "soon", "stem.wav"), "write it as two times in seconds, such as 12.0:16.5"),
        (("--loop", "4bars"), "depends on the tempo; give it with --tempo"),
        (("--loop", "long"), "write it as 4bars"),
        (("--tempo", "90"), "a tempo is only read for a loop"),
        (("--loop", "1s", "--continue", "stem.wav"), "exclude each other"),
        (("--model", "absent"), "is no model: it has no config.json"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(place, tmp_path, asked, message):
    result = run(place, tmp_path / "out", *asked)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_mix_has_both_at_one_loudness_and_never_clips():
    music, stem = Music(0.5 * audio(2.0).T.astype(np.float32), {}, ()), 0.01 * audio(2.0)[::-1].T.astype(np.float32)
    made = mixed(music, stem) - music.audio_2N
    loudness = [integrated_lufs(side.mean(axis=0), rate_hz=RATE_HZ) for side in (music.audio_2N, made)]
    assert loudness[0] == pytest.approx(loudness[1], abs=0.1)
    assert np.abs(mixed(Music(20 * music.audio_2N, {}, ()), stem)).max() <= 1.0
