"""Claims about damages: each changes what its name says, by as much as it is told, and nothing else."""

import numpy as np
import pytest

from metrics.damages import delayed, low_passed, pitch_shifted, with_noise

RATE_HZ = 48_000


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def sine(frequency_hz, seconds=1.0):
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ).astype(np.float32)


def rms(audio_N):
    return float(np.sqrt(np.mean(np.square(audio_N, dtype=np.float64))))


def peak_hz(audio_N):
    spectrum_F = np.abs(np.fft.rfft(audio_N * np.hanning(len(audio_N))))
    return np.fft.rfftfreq(len(audio_N), 1 / RATE_HZ)[int(spectrum_F.argmax())]


@pytest.mark.parametrize("below_db", [20.0, 0.0, -10.0])
def test_noise_lies_as_far_below_the_stem_as_it_is_told(rng, below_db):
    stem_N = 0.3 * sine(440)
    noise_N = with_noise(stem_N, below_db=below_db, rng=rng) - stem_N
    assert 20 * np.log10(rms(stem_N) / rms(noise_N)) == pytest.approx(below_db, abs=0.05)


def test_a_low_pass_keeps_what_lies_below_and_takes_what_lies_above():
    low_N, high_N = (low_passed(sine(hz), cutoff_hz=1000, rate_hz=RATE_HZ)[RATE_HZ // 2 :] for hz in (250, 4000))
    assert rms(low_N) == pytest.approx(rms(sine(250)), rel=1e-3)
    assert rms(high_N) < 1e-4


def test_a_delay_moves_every_sample_and_changes_none(rng):
    stem_N = rng.standard_normal(RATE_HZ).astype(np.float32)
    later_N = delayed(stem_N, seconds=0.25, rate_hz=RATE_HZ)
    assert np.array_equal(later_N[12_000:], stem_N[:-12_000])
    assert np.array_equal(later_N[:12_000], stem_N[-12_000:])


@pytest.mark.parametrize("semitones", [0.5, 4.0, 7.0, -5.0])
def test_a_pitch_shift_moves_the_pitch_keeps_the_length_and_loses_at_most_a_decibel(semitones):
    stem_N = sine(440, seconds=2.0)
    shifted_N = pitch_shifted(stem_N, semitones=semitones)
    assert len(shifted_N) == len(stem_N)
    assert peak_hz(shifted_N) == pytest.approx(440 * 2 ** (semitones / 12), abs=1.0)
    middle = slice(RATE_HZ // 2, -RATE_HZ // 2)
    assert rms(shifted_N[middle]) == pytest.approx(rms(stem_N[middle]), rel=0.12)


def test_a_pitch_shift_keeps_the_tempo():
    clicks_N = np.zeros(2 * RATE_HZ, np.float32)
    clicks_N[RATE_HZ // 4 :: RATE_HZ // 2] = 1.0
    shifted_N = np.abs(pitch_shifted(clicks_N, semitones=4.0))
    loudest = [int(part.argmax()) for part in np.split(shifted_N, 4)]
    assert loudest == pytest.approx([RATE_HZ // 4] * 4, abs=1024)  # half a frame of the vocoder


def test_no_shift_is_the_stem():
    stem_N = sine(440) + 0.2 * sine(3000)
    assert pitch_shifted(stem_N, semitones=0.0)[2048:-2048] == pytest.approx(stem_N[2048:-2048], abs=1e-5)
