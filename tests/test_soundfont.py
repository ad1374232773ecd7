"""What playing by a soundfont promises: the right command, no clipping, padded stems, errors that say what to install.

The program is played by a small script that notes how it was called, and by the real one where it is there.
"""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_manifests.composer import EmbeddedCorpus, compose, song_record
from data_manifests.folder import list_folder
from data_manifests.midi import read_midi, write_part
from data_manifests.song_file import parse_song_file
from tasks.audio import probe, read_window
from tasks.corpus import CorpusError, folder_corpus
from tasks.runtime import Runtime
from tasks.scores import RenderMidi, RenderScores, levelled, midi_songs
from tasks.soundfont import SoundfontError, find_soundfont, play, soundfont_digest
from tasks.store import Store

FONTS = [
    Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
]
REAL_FONT = next((font for font in FONTS if font.exists()), None)
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or REAL_FONT is None,
    reason="needs fluidsynth and a soundfont: apt-get install fluidsynth fluidr3mono-gm-soundfont",
)
CORPUS = EmbeddedCorpus(songs=2, seconds=6.0, seed=1, heldout=1)

FAKE = """#!{python}
import json, math, os, struct, sys, wave
arguments = sys.argv[1:]
if arguments == ["--version"]:
    sys.exit(print("FakeSynth 1.0"))
log = open({log!r}, "a"); log.write(json.dumps(arguments) + "\\n"); log.close()
setting = lambda name: arguments[arguments.index(name) + 1]
score = open(arguments[-1], "rb").read()
if {complaint!r}:
    print({complaint!r}, file=sys.stderr)
seconds = 0.5 + len(score) / 2000
peak = {loudness} * float(setting("-g")) / 0.6
with wave.open(setting("-F"), "wb") as sound:
    sound.setnchannels(2); sound.setsampwidth(2); sound.setframerate(int(setting("-r")))
    samples = ({offset} + peak * math.sin(k / 20) for k in range(int(seconds * 48000)))
    clipped = (max(-32768, min(32767, round(32768 * sample))) for sample in samples)
    sound.writeframes(b"".join(struct.pack("<hh", sample, sample) for sample in clipped))
sys.exit({code})
"""

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a script in the place of fluidsynth; gives a function that reads how it was called."""

    def install(*, loudness=0.5, offset=0.0, complaint="", code=0):
        home, log = tmp_path / "bin", tmp_path / "calls.jsonl"
        home.mkdir(exist_ok=True)
        script = home / "fluidsynth"
        settings = {"loudness": loudness, "offset": offset, "complaint": complaint, "code": code}
        script.write_text(FAKE.format(python=sys.executable, log=str(log), **settings))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return install


@pytest.fixture
def font(tmp_path):
    path = tmp_path / "a font; rm -rf $HOME.sf2"
    path.write_bytes(b"RIFF\x10\x00\x00\x00sfbkand what follows")
    return path


@pytest.fixture
def here(monkeypatch):
    """Pieces are worked off in this process, not by Dask."""
    monkeypatch.setattr("tasks.scores.fan_out", lambda runtime, function, items, title: [function(i) for i in items])


@pytest.fixture
def runtime(tmp_path, font):
    return Runtime(workspace=str(tmp_path / "workspace"), local_files={soundfont_digest(font): str(font)})


@pytest.fixture
def midi_folder(tmp_path):
    """Two songs, one of them twice under other names, a broken file and a text."""
    folder = tmp_path / "midi"
    song = compose(CORPUS, 0)
    for place, part in enumerate(song.parts[:2]):
        path = folder / f"Artist & Co/Song no. {place}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_part(part, song.plan.bpm))
    (folder / "again.MIDI").write_bytes((folder / "Artist & Co/Song no. 0.mid").read_bytes())
    (folder / "broken.mid").write_bytes(b"MThd and no more")
    (folder / "readme.txt").write_text("songs")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/._again.mid").write_bytes(b"\0")
    return folder


def test_the_program_is_called_as_documented_with_the_font_and_a_score(fake, font):
    calls = fake()
    audio_SN = play(b"score", font, name="song/bass")
    (call,) = calls()
    assert audio_SN.shape == (2, int((0.5 + 5 / 2000) * 48000)) and audio_SN.dtype == np.float32
    assert call[:2] == ["-ni", "-q"] and call[-2] == str(font)
    for words in ("-R 0 -C 0", "-r 48000", "-o synth.dynamic-sample-loading=1", "-g 0.6"):
        assert words in " ".join(call), words
    assert not Path(call[-1]).exists(), "nothing temporary is left"


def test_what_reaches_full_scale_in_integers_is_played_again_quieter_and_raised(fake, font):
    calls = fake(loudness=3.0)
    audio_SN = play(b"score", font, name="loud")
    assert [call[call.index("-g") + 1] for call in calls()] == ["0.6", "0.15"]
    assert np.abs(audio_SN).max() == pytest.approx(3.0, rel=0.06)  # the high-pass settles in


@pytest.mark.parametrize(
    "setup", [{"complaint": "fluidsynth: error: Unable to open file"}, {"code": 3}], ids=["complains", "fails"]
)
def test_complaints_and_failures_name_the_part_the_font_and_what_was_said(fake, font, setup):
    fake(**setup)
    with pytest.raises(SoundfontError, match=r"song/bass: fluidsynth with the soundfont .*a font") as error:
        play(b"score", font, name="song/bass")
    assert setup.get("complaint", "ended with 3") in str(error.value)


def test_without_the_program_the_error_says_what_to_install(font, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SoundfontError, match="apt-get install fluidsynth"):
        play(b"score", font, name="song/bass")


def test_a_font_that_is_none_is_refused_with_its_name_before_anything_is_played(tmp_path, font):
    no_font = tmp_path / "notes.sf2"
    no_font.write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.raises(SoundfontError, match=r"notes\.sf2 is no soundfont.*fluidr3mono"):
        soundfont_digest(no_font)
    with pytest.raises(SoundfontError, match=r"missing\.sf2 cannot be read.*\.sf3"):
        soundfont_digest(tmp_path / "missing.sf2")
    with pytest.raises(SoundfontError, match="--soundfont PATH"):
        find_soundfont("0" * 64, {})
    with pytest.raises(SoundfontError, match="the file changed"):
        find_soundfont("0" * 64, {"0" * 64: str(font)})


def test_a_midi_folder_becomes_a_folder_of_padded_stems_and_says_what_it_left_out(
    fake, here, runtime, font, midi_folder, tmp_path
):
    fake(loudness=3.0)
    step = RenderMidi(folder=folder_corpus(midi_folder, tmp_path), soundfont_sha256=soundfont_digest(font))
    out = tmp_path / "out"
    out.mkdir()
    summary = step.run(out, runtime)
    assert summary["songs"] == 3 and summary["program"] == "FakeSynth 1.0"
    assert [item["path"] for item in summary["left_out"]] == ["broken.mid"]
    assert "broken.mid: not a whole Standard MIDI File" in summary["left_out"][0]["reason"]
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    listing = list_folder(written, lambda path: (out / path).read_text())
    assert not listing.left_out
    tracks = {track.id: track for track in listing.tracks}
    assert set(tracks) == {"again", "Artist & Co/Song no. 0", "Artist & Co/Song no. 1"}
    assert tracks["again"].group_id == tracks["Artist & Co/Song no. 0"].group_id != tracks["Artist & Co/Song no. 1"]
    (stem,) = tracks["again"].stems
    assert (stem.id, stem.role, stem.usable_as_target) == ("drums", "drums", True)
    assert np.abs(read_window(out / "again/drums.flac", 0, 48_000)).max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_stems_of_a_midi_song_are_equally_long_and_share_one_gain(fake, here, runtime, font, tmp_path):
    fake(loudness=2.0)
    slakh = SHARED / "hard_cases/slakh_ccby4/babyslakh_16k/Track00001/all_src.mid"
    folder, out = tmp_path / "one", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    shutil.copy(slakh, folder / "slakh.mid")
    RenderMidi(folder=folder_corpus(folder, tmp_path), soundfont_sha256=soundfont_digest(font)).run(out, runtime)
    stems = sorted((out / "slakh").glob("*.flac"))
    assert len(stems) == 9 and len({probe(stem).frames for stem in stems}) == 1
    assert len({round(float(np.abs(read_window(stem, 0, 20_000)).max()), 2) for stem in stems}) == 1
    record = parse_song_file((out / "slakh/song.json").read_text())
    assert record.tags == ("slow", "80 bpm")
    assert {stem.file for stem in record.stems if stem.is_vocal} == {"choir_aahs.flac"}


def test_a_song_that_is_there_is_not_played_again(fake, here, runtime, font, midi_folder, tmp_path):
    calls = fake()
    (midi_folder / "broken.mid").unlink()
    step = RenderMidi(folder=folder_corpus(midi_folder, tmp_path), soundfont_sha256=soundfont_digest(font))
    out = tmp_path / "out"
    out.mkdir()
    step.run(out, runtime)
    (out / "again/song.json").unlink()
    (out / "again/.playing").mkdir()
    (out / "again/.playing/half.wav").write_bytes(b"of a killed worker")
    before = len(calls())
    step.run(out, runtime)
    assert len(calls()) == before + 1 and not list(out.rglob(".playing"))


def test_folders_without_a_playable_file_are_errors(fake, here, runtime, font, midi_folder, tmp_path):
    fake()
    digest = soundfont_digest(font)
    for path in midi_folder.rglob("Song*"):
        path.unlink()
    (midi_folder / "again.MIDI").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(CorpusError, match=r"none of 1 MIDI files could be played; the first: broken\.mid"):
        RenderMidi(folder=folder_corpus(midi_folder, tmp_path), soundfont_sha256=digest).run(tmp_path / "out", runtime)
    (midi_folder / "broken.mid").unlink()
    with pytest.raises(CorpusError, match="holds no MIDI file"):
        RenderMidi(folder=folder_corpus(midi_folder, tmp_path), soundfont_sha256=digest).run(tmp_path / "out", runtime)


def test_songs_of_one_name_keep_their_suffixes():
    assert midi_songs(["a.mid", "a.midi", "b.mid", "b.txt", ".hidden/c.mid"]) == {
        "a.mid": "a.mid", "a.midi": "a.midi", "b": "b.mid",
    }  # fmt: skip


def test_the_embedded_corpus_by_a_font_has_the_stems_and_lengths_of_the_house_renderer(fake, here, runtime, font):
    calls = fake()
    step = RenderScores(corpus=CORPUS, soundfont_sha256=soundfont_digest(font))
    made = Store(runtime.root / "artifacts").build(step, runtime)
    assert len(calls()) == sum(len(compose(CORPUS, index).parts) for index in range(2))
    for index in range(2):
        song, folder = compose(CORPUS, index), made.path / f"song_{index:04d}"
        record = json.loads((folder / "song.json").read_text())
        house = song_record(song)
        assert [stem["file"] for stem in record["stems"]] == [stem["file"] for stem in house["stems"]]
        assert {probe(folder / stem["file"]).frames for stem in record["stems"]} == {round(6.0 * 48000)}
        assert record["split"] == house["split"] and all(stem["tags"] for stem in record["stems"])
        said = {tag.lower() for stem in record["stems"] for tag in stem["tags"]}
        assert not said & {"bright", "warm", "crisp", "mellow", "reverb", "spacious"}, "the font does not make it true"


def test_another_font_is_another_corpus():
    step = RenderScores(corpus=CORPUS, soundfont_sha256="a" * 64)
    assert step.key() != replace(step, soundfont_sha256="b" * 64).key()


def test_a_stem_is_as_loud_as_its_part_wherever_it_plays():
    rng = np.random.default_rng(0)
    audio_SN = np.zeros((2, 96_000), np.float32)
    audio_SN[:, 48_000:] = 0.01 * rng.standard_normal((2, 48_000))
    loud_SN = levelled(audio_SN, 0.05)
    assert np.sqrt(np.mean(loud_SN[:, 48_000:] ** 2)) == pytest.approx(0.05, rel=0.05)
    assert np.abs(levelled(audio_SN * 1000, 0.05)).max() <= 0.25
    assert not levelled(np.zeros((2, 48_000), np.float32), 0.05).any()


@needs_fluidsynth
def test_fluidsynth_plays_a_composed_part_twice_alike_and_in_tune():
    song = compose(CORPUS, 0)
    bass = next(part for part in song.parts if part.role == "bass")
    data = write_part(bass, song.plan.bpm)
    audio_SN = play(data, REAL_FONT, name="bass")
    assert np.array_equal(audio_SN, play(data, REAL_FONT, name="bass"))
    first = read_midi(data, "bass").parts[0].notes[0]
    quiet, there = (round((first.start_s + shift) * 48000) for shift in (-0.02, 0.05))
    sounding = audio_SN[:, there : there + 4800]
    assert np.abs(sounding).max() > 0.01 and np.abs(audio_SN[:, : max(quiet, 0)]).max(initial=0.0) < 1e-3


@needs_fluidsynth
def test_fluidsynth_plays_the_pitch_that_is_written():
    lead = next(part for index in range(2) for part in compose(CORPUS, index).parts if part.role in ("lead", "keys"))
    part = replace(lead, instrument="flute", notes=(lead.notes[0]._replace(start_s=0.0, duration_s=2.0, pitch=69),))
    audio_SN = play(write_part(part, 120.0), REAL_FONT, name="flute")
    tone_N = audio_SN.mean(axis=0)[24_000:72_000]
    peak_hz = int(np.argmax(np.abs(np.fft.rfft(tone_N * np.hanning(48_000)))))
    assert peak_hz in range(435, 446) or peak_hz in range(870, 892)


def test_direct_current_of_a_font_is_not_taken_for_sound(fake, font):
    fake(loudness=0.25, offset=0.5)
    audio_SN = play(b"score" * 200, font, name="pad")
    settled_SN = audio_SN[:, 12_000:]
    assert np.abs(settled_SN.mean()) < 1e-3 and np.abs(settled_SN).max() == pytest.approx(0.25, rel=0.02)


@needs_fluidsynth
def test_the_pads_of_the_house_have_no_direct_current_in_a_real_font():
    part = compose(CORPUS, 0).parts[0]
    for name in ("warm pad", "glass pad", "string ensemble"):
        held = replace(part, role="pad", instrument=name, notes=(part.notes[0]._replace(duration_s=2.0, pitch=60),))
        audio_N = play(write_part(held, 120.0), REAL_FONT, name=name).mean(axis=0)
        power_F = np.abs(np.fft.rfft(audio_N)) ** 2
        assert power_F[np.fft.rfftfreq(len(audio_N), 1 / 48000) < 5].sum() < 0.02 * power_F.sum(), name


@needs_fluidsynth
def test_fluidsynth_gives_floats_that_go_beyond_full_scale(monkeypatch):
    drums = compose(CORPUS, 0).parts[0]
    data = write_part(drums, 120.0)
    usual = play(data, REAL_FONT, name="drums")
    monkeypatch.setattr("tasks.soundfont.GAIN", 9.6)
    loud = play(data, REAL_FONT, name="drums")
    assert np.abs(loud).max() > 1.5 and np.abs(loud).max() == pytest.approx(16 * np.abs(usual).max(), rel=0.05)


@needs_fluidsynth
def test_each_kit_and_every_instrument_of_the_house_sounds_different():
    song = compose(CORPUS, 0)
    drums = song.parts[0]
    sounds = [play(write_part(replace(drums, instrument=kit), 120.0), REAL_FONT, name=kit) for kit in
              ("acoustic kit", "brush kit", "drum machine")]  # fmt: skip
    shortest = min(sound.shape[1] for sound in sounds)
    for first in range(3):
        for second in range(first):
            same = np.corrcoef(sounds[first][0, :shortest], sounds[second][0, :shortest])[0, 1]
            assert same < 0.9
