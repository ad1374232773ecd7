"""Known damages to a stem, in strengths: what a metric must see before anyone trusts the direction of its column."""

from __future__ import annotations

import numpy as np
import scipy.signal
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""One channel of audio (N,). A damaged stem is as long."""

LOWPASS_ORDER = 8
FRAME, HOP = 2048, 512  # of the phase vocoder


def with_noise(stem_N: Samples, *, below_db: float, rng: np.random.Generator) -> Samples:
    """The stem with white noise that many decibels below its own RMS."""
    noise_N = rng.standard_normal(len(stem_N), dtype=np.float32)
    level = np.sqrt(np.mean(np.square(stem_N, dtype=np.float64))) * 10 ** (-below_db / 20)
    return stem_N + noise_N * np.float32(level)


def low_passed(stem_N: Samples, *, cutoff_hz: float, rate_hz: int) -> Samples:
    """The stem without what lies above the cutoff: a Butterworth of order 8, forwards."""
    sections = scipy.signal.butter(LOWPASS_ORDER, cutoff_hz, fs=rate_hz, output="sos")
    return scipy.signal.sosfilt(sections, stem_N).astype(np.float32)


def delayed(stem_N: Samples, *, seconds: float, rate_hz: int) -> Samples:
    """The stem later by so much; its end comes round to its beginning, so that nothing else about it changes."""
    return np.roll(stem_N, round(seconds * rate_hz))


def pitch_shifted(stem_N: Samples, *, semitones: float) -> Samples:
    """The stem at another pitch in its own time: stretched by a phase vocoder, then read faster.

    Source: Laroche & Dolson 1999, the plain vocoder; it smears transients and loses up to a decibel, which belongs to
    the damage.
    """
    ratio = 2.0 ** (semitones / 12.0)
    stretched_N = _stretched(stem_N, ratio)
    place_N = np.arange(len(stem_N)) * ratio
    return np.interp(place_N, np.arange(len(stretched_N)), stretched_N).astype(np.float32)


def _stretched(stem_N: Samples, ratio: float) -> Samples:
    """The stem `ratio` times as long at its own pitch."""
    _, _, spectrum_FT = scipy.signal.stft(stem_N, nperseg=FRAME, noverlap=FRAME - HOP)
    bins, frames = spectrum_FT.shape
    place_S = np.arange(0.0, frames - 1.0, 1.0 / ratio)
    before_S = place_S.astype(int)
    weight_S = place_S - before_S
    magnitude_FT, phase_FT = np.abs(spectrum_FT), np.angle(spectrum_FT)
    magnitude_FS = (1 - weight_S) * magnitude_FT[:, before_S] + weight_S * magnitude_FT[:, before_S + 1]
    # Each bin turns as fast as the stem's did there: the turn expected of its frequency, and the rest of it, wrapped.
    expected_F1 = 2 * np.pi * HOP / FRAME * np.arange(bins)[:, None]
    rest_FS = phase_FT[:, before_S + 1] - phase_FT[:, before_S] - expected_F1
    turn_FS = expected_F1 + rest_FS - 2 * np.pi * np.round(rest_FS / (2 * np.pi))
    phase_FS = phase_FT[:, :1] + np.cumsum(np.pad(turn_FS[:, :-1], ((0, 0), (1, 0))), axis=1)
    _, audio_N = scipy.signal.istft(magnitude_FS * np.exp(1j * phase_FS), nperseg=FRAME, noverlap=FRAME - HOP)
    return audio_N.astype(np.float32)
