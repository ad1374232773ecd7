import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars
import pytest
import scipy.io
import soundfile

from tasks.catalogue import build_catalogue
from tasks.catalogue_file import STEM_ROWS, read_catalogue, stem_rows, write_catalogue
from tasks.walk import list_corpus_folder

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
RATE_HZ = 8_000


def catalogue_of(root, **settings):
    return build_catalogue(root, list_corpus_folder(root, "plain"), **{"heldout_fraction": 0.5, "seed": 0, **settings})


def tone(seconds, *, level=0.1, rate_hz=RATE_HZ, hz=440, channels=2):
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1) * np.linspace(1, 0.9, channels)


def save(path, audio_FS, rate_hz=RATE_HZ, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio_FS, rate_hz, subtype=subtype)


@pytest.fixture
def corpus(tmp_path):
    """Two sound songs, `one` and `two`, of drums, bass and vocals."""
    root = tmp_path / "corpus"
    for song, hz in (("one", 440), ("two", 550)):
        for i, stem in enumerate(("drums", "bass", "vox")):
            save(root / song / f"{stem}.wav", tone(3, hz=hz + 100 * i))
    return root


@pytest.fixture
def build(corpus):
    def _build(**settings):
        return build_catalogue(
            corpus, list_corpus_folder(corpus, "plain"), **{"heldout_fraction": 0.5, "seed": 0, **settings}
        )

    return _build


@pytest.fixture
def stem_of(build):
    def _stem_of(track, stem):
        stems = {(t.id, s.id): s for t in build().tracks for s in t.stems}
        return stems[track, stem]

    return _stem_of


def test_a_sound_corpus_is_catalogued_whole(build):
    catalogue = build()
    assert [track.id for track in catalogue.tracks] == ["one", "two"]
    assert {track.split for track in catalogue.tracks} == {"train", "heldout"}
    assert not catalogue.quarantined and not catalogue.left_out
    stem = catalogue.tracks[0].stems[0]
    (file,) = stem.files
    assert (stem.id, stem.role, file.channels, file.rate_hz, file.frames) == ("bass", "bass", 2, RATE_HZ, 3 * RATE_HZ)
    assert stem.flags == ("band_limited",)  # 8 kHz files hold nothing above 4 kHz
    assert stem.peak == pytest.approx(0.1, abs=2e-3) and stem.activity == (True,) * 3
    assert catalogue.tracks[0].frames == 3 * 48_000


def test_lengths_rates_and_channels_may_differ_within_a_song(corpus, build):
    save(corpus / "one" / "pad.wav", tone(4.5, rate_hz=44_100, channels=1), 44_100)
    track = build().tracks[0]
    assert track.frames == round(4.5 * 48_000)
    stems = {stem.id: stem for stem in track.stems}
    assert stems["pad"].activity == (True,) * 5 and "mono" in stems["pad"].flags
    assert stems["bass"].activity == (True,) * 3 + (False,) * 2


def test_activity_is_the_rms_of_each_second_above_minus_50_db(corpus, stem_of):
    just = 10 ** (-50 / 20) * np.sqrt(2)
    loud, quiet, silence = tone(1, level=just * 1.2), tone(1, level=just * 0.8), tone(1, level=0)
    save(corpus / "one" / "synth.wav", np.concatenate([loud, quiet, silence, loud[:2_000]]), subtype="FLOAT")
    assert stem_of("one", "synth").activity == (True, False, False, True)


def test_gain_counts_towards_activity(corpus, stem_of):
    save(corpus / "one" / "synth.wav", tone(1, level=0.1))
    (corpus / "one" / "song.json").write_text(
        json.dumps({"stems": [{"file": "drums.wav"}, {"file": "bass.wav"}, {"file": "synth.wav", "gain_db": -40}]})
    )
    assert not any(stem_of("one", "synth").activity) and stem_of("one", "synth").flags == ("near_silent",)


@pytest.mark.parametrize(("level", "flag"), [(0.0, "silent"), (1e-5, "silent"), (1e-3, "near_silent")])
def test_a_silent_stem_is_flagged_and_unusable(corpus, stem_of, level, flag):
    save(corpus / "one" / "synth.wav", tone(2, level=level), subtype="FLOAT")
    stem = stem_of("one", "synth")
    assert flag in stem.flags and not stem.usable_as_target and not stem.usable_in_context and "-50 dB" in stem.reason


def test_clipping_and_mono_are_flagged(corpus, stem_of):
    save(corpus / "one" / "synth.wav", np.clip(tone(1, level=1.5, channels=1), -1, 1))
    save(corpus / "one" / "pad.wav", np.repeat(tone(1, channels=1, hz=700), 2, axis=1))
    save(corpus / "one" / "lead.wav", tone(1, level=0.999, hz=900))
    flags = {name: set(stem_of("one", name).flags) - {"band_limited"} for name in ("synth", "pad", "lead")}
    assert flags == {"synth": {"clipped", "mono"}, "pad": {"mono"}, "lead": set()}


def test_a_copy_under_another_name_is_unusable_in_its_song_only(corpus, build):
    shutil.copy(corpus / "one" / "bass.wav", corpus / "one" / "sub bass.wav")
    shutil.copy(corpus / "one" / "bass.wav", corpus / "two" / "sub bass.wav")
    catalogue = build()
    copy = next(stem for stem in catalogue.tracks[0].stems if stem.id == "sub bass")
    assert copy.flags[-1] == "duplicate_of:bass" and not copy.usable_in_context and "same bytes as bass" in copy.reason
    assert all(stem.usable_in_context for stem in catalogue.tracks[1].stems)


def test_a_copy_with_a_vocal_name_makes_the_original_no_target(corpus, stem_of):
    shutil.copy(corpus / "one" / "vox.wav", corpus / "one" / "synth.wav")
    assert not stem_of("one", "synth").usable_as_target and stem_of("one", "synth").is_vocal


def test_unreadable_files_are_quarantined_with_file_and_reason(corpus, build):
    nan = tone(1)
    nan[4_000] = np.nan
    save(corpus / "one" / "nan.wav", nan, subtype="FLOAT")
    (corpus / "one" / "text.wav").write_text("no audio")
    save(corpus / "two" / "cut.flac", np.random.default_rng(0).standard_normal((RATE_HZ, 2)) * 0.1)
    (corpus / "two" / "cut.flac").write_bytes((corpus / "two" / "cut.flac").read_bytes()[:9_000])
    catalogue = build()
    reasons = {item.path: item.reason for item in catalogue.quarantined}
    assert set(reasons) == {"one/nan.wav", "one/text.wav", "two/cut.flac"}
    assert "not a number at 0.500 s" in reasons["one/nan.wav"]
    assert all(str(corpus) not in reason for reason in reasons.values())
    assert [len(track.stems) for track in catalogue.tracks] == [3, 3]


def test_scipys_odd_wavs_are_sorted_out_without_a_crash(corpus, build):
    for path in (Path(scipy.io.__file__).parent / "tests" / "data").glob("*.wav"):
        (corpus / "odd").mkdir(exist_ok=True)
        shutil.copy(path, corpus / "odd" / path.name)
    catalogue = build()
    quarantined = {item.path.removeprefix("odd/"): item.reason for item in catalogue.quarantined}
    assert len(quarantined) >= 10
    assert "cut short" in quarantined["test-44100Hz-le-1ch-4bytes-early-eof.wav"]
    odd = next((track for track in catalogue.tracks if track.id == "odd"), None)
    assert odd is not None and len(odd.stems) + len(quarantined) == len(list((corpus / "odd").iterdir()))


def test_a_song_with_one_usable_stem_is_left_out_with_the_reason(corpus, build):
    save(corpus / "lonely" / "drums.wav", tone(1))
    save(corpus / "lonely" / "pad.wav", tone(1, level=0))
    save(corpus / "choir" / "vox1.wav", tone(1))
    save(corpus / "choir" / "vox2.wav", tone(1, hz=300))
    reasons = {item.path: item.reason for item in build().left_out}
    assert reasons["lonely"] == "one usable stem (drums): a context and a target are both needed"
    assert "no stem is usable as a target (2 as context)" in reasons["choir"]


def test_a_corpus_that_gives_nothing_is_an_error_with_expectation_and_remedy(tmp_path):
    settings = {"heldout_fraction": 0.5, "seed": 0}
    with pytest.raises(ValueError, match="no such corpus folder"):
        catalogue_of(tmp_path / "gone", **settings)
    with pytest.raises(ValueError, match="no audio: found 0 files"):
        catalogue_of(tmp_path, **settings)
    save(tmp_path / "a" / "drums.wav", tone(1))
    save(tmp_path / "b" / "vox.wav", tone(1))
    with pytest.raises(ValueError, match=r"no usable song\. Expected .* Found: .*one usable stem.* Add songs"):
        catalogue_of(tmp_path, **settings)
    save(tmp_path / "a" / "bass.wav", tone(1, hz=200))
    with pytest.raises(ValueError, match="at least 2"):
        catalogue_of(tmp_path, **settings)


def test_a_group_stays_in_one_split_and_two_fixed_splits_for_it_are_an_error(corpus, build):
    save(corpus / "one live" / "drums.wav", tone(1, hz=333))
    save(corpus / "one live" / "bass.wav", tone(1, hz=222))
    for song, split in (("one", "heldout"), ("one live", None)):
        (corpus / song / "song.json").write_text(json.dumps({"group": "one", "split": split}))
    splits = {track.id: track.split for track in build().tracks}
    assert splits == {"one": "heldout", "one live": "heldout", "two": "train"}
    (corpus / "one live" / "song.json").write_text(json.dumps({"group": "one", "split": "train"}))
    with pytest.raises(ValueError, match="'one' is in two splits"):
        build()


def test_the_catalogue_is_the_same_however_its_files_are_read(build, corpus):
    with ThreadPoolExecutor(2) as pool:
        assert build(map_=pool.map) == build() == build(map_=lambda function, items: [function(item) for item in items])
    copied = corpus.with_name("moved")
    shutil.copytree(corpus, copied)
    assert catalogue_of(copied, heldout_fraction=0.5, seed=0) == build()


def test_linked_songs_are_found_and_a_link_back_up_is_not_followed_forever(corpus, build, tmp_path):
    save(tmp_path / "elsewhere" / "drums.wav", tone(1, hz=333))
    save(tmp_path / "elsewhere" / "bass.wav", tone(1, hz=222))
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    (corpus / "one" / "loop").symlink_to(corpus)
    assert [track.id for track in build().tracks] == ["linked", "one", "two"]


def test_the_catalogue_on_disk_is_the_catalogue(build, corpus, tmp_path):
    (corpus / "one" / "song.json").write_text(json.dumps({"tags": ["warm"], "bpm": 90, "key": "C"}))
    (corpus / "two" / "broken.wav").write_text("no audio")
    catalogue = build()
    assert catalogue.tracks[0].labels and catalogue.quarantined
    write_catalogue(catalogue, tmp_path)
    assert read_catalogue(tmp_path) == catalogue
    rows = polars.read_parquet(tmp_path / "catalogue.parquet")
    assert rows.schema == STEM_ROWS and rows.equals(stem_rows(catalogue))
    assert rows.filter(stem_id="bass", track_id="one")["activity_runs"].to_list() == [[0, 3]]
    first = (tmp_path / "catalogue.parquet").read_bytes()
    write_catalogue(catalogue, tmp_path)
    assert (tmp_path / "catalogue.parquet").read_bytes() == first
    for file, text in (("catalogue.parquet", None), ("left-out.json", '{"format": 99}')):
        write_catalogue(catalogue, tmp_path)
        if text is None:
            stem_rows(catalogue).write_parquet(tmp_path / file, metadata={"format": "99"})
        else:
            (tmp_path / file).write_text(text)
        with pytest.raises(ValueError, match=rf"{file} is a catalogue of format 99.*build it again"):
            read_catalogue(tmp_path)


@needs_shared
def test_three_real_songs_read_as_their_artist_described_them():
    catalogue = build_catalogue(
        SHARED / "songs", list_corpus_folder(SHARED / "songs", "plain"), heldout_fraction=0.25, seed=0
    )
    assert len(catalogue.tracks) == 3 and not catalogue.quarantined
    for track in catalogue.tracks:
        song = {
            stem["file"]: stem for stem in json.loads((SHARED / "songs" / track.id / "song.json").read_text())["stems"]
        }
        for stem in track.stems:
            described = song[Path(stem.files[0].path).name]
            assert stem.is_vocal == any("Vocals" in category for category in described["category"])
            assert sum(stem.activity) / len(stem.activity) == pytest.approx(described["activity"], abs=1.5 / 32)
            assert stem.peak == pytest.approx(described["peak"], abs=2e-3)
            assert ("silent" in stem.flags) == (described["activity"] == 0)
    assert sum("silent" in stem.flags for track in catalogue.tracks for stem in track.stems) == 3


@needs_shared
def test_hard_cases_are_sorted_into_songs_quarantine_and_left_out(corpus, build):
    (corpus / "hard").symlink_to(SHARED / "hard_cases")
    catalogue = build()
    assert [track.id for track in catalogue.tracks] == ["one", "two"]
    reported = {Path(item.path).name: item.reason for item in (*catalogue.quarantined, *catalogue.left_out)}
    assert "4 channels" in reported["audio360_Song1_MAMAINES.wav"]
    assert "whole song" in reported["mix.flac"] and "room microphone" in reported["audio_ORTF_L_Song1_MAMAINES.wav"]
    assert "second microphone" in reported["DCS_LI_QuartetB_Take04_S1_LRX.wav"]
    assert "not read as audio" in reported["video360_MAMAINES.mp4"]
    assert "one usable stem (S00)" in reported["Track00001"]  # the others are digital silence in their first 2 s
    assert "(4 as context)" in reported["audio_wav_22050_mono"]
    with pytest.raises(ValueError, match=r"no usable song.*one usable stem"):
        build_catalogue(
            SHARED / "hard_cases", list_corpus_folder(SHARED / "hard_cases", "plain"), heldout_fraction=0.25, seed=0
        )
