"""What the renderer promises: the same bytes each time, one stem never depends on another, tones as their equations."""

from dataclasses import replace

import numpy as np
import pytest

from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.drum_kit import KITS, PAN, drum_strokes
from data_manifests.instruments import INSTRUMENTS
from data_manifests.renderer import render
from data_manifests.tones import cycles, harmonic_tone, noise, pitch_hz, plucked_string

RATE_HZ = 48_000


@pytest.fixture(scope="module")
def songs():
    corpus = EmbeddedCorpus(songs=3, seconds=8.0, seed=1, heldout=1)
    return [compose(corpus, index) for index in range(3)]


@pytest.fixture(scope="module")
def rendered(songs):
    return [render(song) for song in songs]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_tone_is_the_sum_of_the_sines_it_is_made_of():
    time_S = np.arange(9600) / RATE_HZ
    wave_S = harmonic_tone(cycles(220.0, 9600), 220.0, lambda times_R1, hz_H: np.where(hz_H < 800, 220.0 / hz_H, 0.0))
    expected_S = sum(np.sin(2 * np.pi * 220 * h * time_S) / h for h in (1, 2, 3))
    assert np.abs(wave_S - expected_S).max() < 5e-3


def test_a_string_falls_by_60_db_in_its_decay_time():
    wave_S = plucked_string(110.0, 96_000, pluck=0.2, brightness_hz=200, decay_s=1.0, damping=0.0)
    early, late = (np.abs(wave_S[start : start + 4800]).max() for start in (0, 48_000))
    assert 20 * np.log10(early / late) == pytest.approx(60, abs=0.5)


def test_damping_takes_the_upper_harmonics_of_a_string_first():
    wave_S = plucked_string(220.0, 48_000, pluck=0.13, brightness_hz=8000, decay_s=4.0, damping=0.3)
    power = [np.abs(np.fft.rfft(wave_S[start : start + 24_000] * np.hanning(24_000))) for start in (0, 24_000)]
    fundamental, tenth = (power[1][hz // 2] / power[0][hz // 2] for hz in (220, 2200))
    assert tenth < 0.7 * fundamental


def test_noise_has_unit_power_within_its_band(rng):
    wave_S = noise(48_000, 1000, 4000, rng)
    power_F = np.abs(np.fft.rfft(wave_S)) ** 2
    assert np.mean(wave_S**2) == pytest.approx(1.0, rel=1e-3)
    assert power_F[1000:4000].sum() > 0.6 * power_F.sum()


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_an_instrument_sounds_at_the_pitch_it_is_asked_for(name, rng):
    wave_S = np.atleast_2d(INSTRUMENTS[name].voice(pitch_hz(57), 24_000, 0.5, rng))[0]
    power_F = np.abs(np.fft.rfft(wave_S * np.hanning(len(wave_S)))) ** 2
    nearest_F = np.abs(np.arange(len(power_F)) * 2.0 / 110.0)
    off_F = np.abs(nearest_F - np.round(nearest_F)) * 110.0
    assert np.isfinite(wave_S).all()
    assert power_F[off_F <= 12].sum() > 0.8 * power_F.sum()


@pytest.mark.parametrize("name", sorted(KITS))
def test_every_piece_of_every_kit_sounds_and_no_stroke_is_a_copy(name, rng):
    for strokes in drum_strokes(name, frozenset(PAN), 0.5, rng).values():
        assert all(np.isfinite(stroke).all() and np.abs(stroke).max() > 0.05 for stroke in strokes)
        assert not np.array_equal(strokes[0], strokes[1])


def test_an_unknown_piece_of_the_kit_is_refused(rng):
    with pytest.raises(ValueError, match="percussion key 99"):
        drum_strokes("acoustic kit", frozenset({99}), 0.5, rng)


def test_stems_are_stereo_of_one_length_finite_and_on_the_grid_of_16_bits(songs, rendered):
    for song, stems in zip(songs, rendered, strict=True):
        assert list(stems) == [part.id for part in song.parts]
        for stem_CS in stems.values():
            assert stem_CS.shape == (2, 8 * RATE_HZ) and stem_CS.dtype == np.float32
            assert np.isfinite(stem_CS).all() and np.abs(stem_CS).max() > 0.01
            assert np.array_equal(stem_CS * 32768, np.rint(stem_CS * 32768))


def test_rendering_twice_gives_the_same_bytes(songs, rendered):
    again = render(songs[0])
    assert {name: stem.tobytes() for name, stem in again.items()} == {
        name: stem.tobytes() for name, stem in rendered[0].items()
    }


def test_taking_players_away_leaves_the_bytes_of_the_others_alone(songs, rendered):
    few = render(replace(songs[1], parts=songs[1].parts[::3]))
    assert 1 < len(few) < len(rendered[1])
    assert all(np.array_equal(few[name], rendered[1][name]) for name in few)


def test_the_sum_of_all_stems_does_not_clip(rendered):
    assert max(float(np.abs(sum(stems.values())).max()) for stems in rendered) < 0.9


def test_a_player_without_notes_is_silent(songs):
    silent = render(replace(songs[0], parts=(replace(songs[0].parts[1], notes=()),)))
    assert not np.any(silent["bass"])


def test_length_is_the_nearest_sample_to_the_asked_seconds():
    corpus = EmbeddedCorpus(songs=1, seconds=4.00001, seed=0, heldout=0)
    song = compose(corpus, 0)
    assert render(replace(song, parts=song.parts[1:2]))["bass"].shape == (2, 192_000)


def test_bass_lies_below_the_chords_and_drums_reach_above(rendered):
    def centroid_hz(stem_CS):
        power_F = np.abs(np.fft.rfft(stem_CS.mean(axis=0))) ** 2
        log_hz_F = np.log(np.fft.rfftfreq(stem_CS.shape[1], 1 / RATE_HZ)[1:])
        return np.exp(np.average(log_hz_F, weights=np.sqrt(power_F[1:])))

    for stems in rendered:
        chords = [centroid_hz(stems[name]) for name in stems if name in ("guitar", "keys", "pad", "strings")]
        assert centroid_hz(stems["bass"]) < min(chords)
        assert centroid_hz(stems["drums"]) > np.mean(chords)
