"""Tones from equations: harmonics that change over time, plucked strings, ensembles, shaped noise.

Legend: S samples at 48 kHz, R rows of a wavetable over time, H harmonics, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.fft

from data_manifests.schema import RATE_HZ

Wave = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Spectrum = Callable[[Array, Array], Array]
"""Amplitudes from (times_R1 in seconds, frequencies_H in Hz) to an array that broadcasts to (R, H)."""

ROWS_PER_SECOND = 150.0
"""A timbre is renewed this often: faster than the ear follows a change of colour."""
ENSEMBLE_SAMPLES = 2**17


def seconds(samples: int) -> Array:
    """The time of each sample, from 0."""
    return np.arange(samples) / RATE_HZ


def pitch_hz(pitch: int) -> float:
    """The frequency of a MIDI pitch in equal temperament, A4 = 440 Hz."""
    return float(440.0 * 2.0 ** ((pitch - 69) / 12))


def cycles(hz: float, samples: int, *, vibrato_cents: float = 0.0, vibrato_hz: float = 5.5) -> Array:
    """Phase in cycles at each sample. Vibrato grows in over the first 0.4 s, as a player's does."""
    phase_S = hz * seconds(samples)
    if vibrato_cents == 0.0:
        return phase_S
    deviation = hz * (2.0 ** (vibrato_cents / 1200) - 1) / (2 * np.pi * vibrato_hz)
    depth_S = deviation * np.minimum(seconds(samples) / 0.4, 1.0)
    return phase_S + depth_S * (1 - np.cos(2 * np.pi * vibrato_hz * seconds(samples)))


def harmonic_tone(phase_S: Array, hz: float, spectrum: Spectrum) -> Wave:
    """A sum of sines at multiples of `hz`, below Nyquist, whose amplitudes follow `spectrum` over time.

    One period is made per row by an inverse FFT and read out along the phase. All harmonics are sines, so every
    row begins at zero and rows join without a click.
    """
    harmonics_H = np.arange(1, max(2, int(0.42 * RATE_HZ / hz) + 1))
    cycles_per_row = max(1, round(hz / ROWS_PER_SECOND))
    rows = int(phase_S[-1]) // cycles_per_row + 1
    times_R1 = (np.arange(rows) * cycles_per_row / hz)[:, None]
    amplitude_RH = np.broadcast_to(spectrum(times_R1, harmonics_H * hz), (rows, len(harmonics_H)))
    length = 2 ** int(np.ceil(np.log2(2.5 * RATE_HZ / hz)))
    bins = np.zeros((rows, length // 2 + 1), np.complex64)
    bins[:, 1 : len(harmonics_H) + 1] = -0.5j * length * amplitude_RH
    table = np.empty((rows, length + 1), np.float32)
    table[:, :-1] = scipy.fft.irfft(bins, axis=1)
    table[:, -1] = table[:, 0]
    whole_S = phase_S.astype(np.int64)
    place_S = (phase_S - whole_S) * length
    left_S = place_S.astype(np.int64)
    index_S = whole_S // cycles_per_row * (length + 1) + left_S
    flat = table.reshape(-1)
    below_S = flat[index_S]
    wave: Wave = below_S + (place_S - left_S).astype(np.float32) * (flat[index_S + 1] - below_S)
    return wave


def lowpass(frequency_hz: Array, cutoff_hz: Array | float, order: float = 2.0) -> Array:
    """Magnitude of a Butterworth low-pass: 1 / sqrt(1 + (f / f_c)^(2 order))."""
    return 1.0 / np.sqrt(1.0 + (frequency_hz / cutoff_hz) ** (2 * order))


def plucked_string(
    hz: float, samples: int, *, pluck: float, brightness_hz: float, decay_s: float, damping: float
) -> Wave:
    """A Karplus–Strong string in closed form (Karplus and Strong 1983; Jaffe and Smith 1983).

    The loop filter H = rho ((1 - s) + s e^(-jw)) multiplies harmonic h by |H(h)| once per period, so period c has the
    amplitudes A_h |H(h)|^c. `pluck` is the place of the finger (it silences the harmonics that have a node there),
    `brightness_hz` the width of the pick's impulse, `decay_s` the fundamental's time to -60 dB, `damping` the s.
    """

    def spectrum(times_R1: Array, frequency_H: Array) -> Array:
        harmonic_H = frequency_H / hz
        excited_H = (
            np.abs(np.sin(np.pi * harmonic_H * pluck)) / harmonic_H**0.7 * lowpass(frequency_H, brightness_hz, 1.0)
        )
        omega_H = 2 * np.pi * frequency_H / RATE_HZ
        loss_H = np.sqrt(1 - 4 * damping * (1 - damping) * np.sin(omega_H / 2) ** 2)
        rate_H = hz * np.log(loss_H) - 6.91 / decay_s  # per second: ln|H| per period, and ln(1000) over decay_s
        return excited_H * np.exp(rate_H * times_R1)

    return harmonic_tone(cycles(hz, samples), hz, spectrum)


def ensemble(hz: float, samples: int, *, spread_cents: float, spectrum: Spectrum, rng: np.random.Generator) -> Wave:
    """Many players at once, in stereo (C = 2, S): each harmonic is a narrow band of noise.

    PADsynth (Nasca 2006): band h has the width `spread_cents` and random phases; one inverse FFT gives a loop without
    a seam. Left and right have phases of their own.
    """
    bin_hz = RATE_HZ / ENSEMBLE_SAMPLES
    top_hz = min(11_000.0, 0.45 * RATE_HZ)
    frequency_H = hz * np.arange(1, int(top_hz / hz) + 1)
    amplitude_H = np.broadcast_to(spectrum(np.zeros((1, 1)), frequency_H), (1, len(frequency_H)))[0]
    magnitude = np.zeros(int(top_hz * 1.1 / bin_hz) + 2)
    for frequency, amplitude in zip(frequency_H, amplitude_H, strict=True):
        width_hz = max(frequency * (2.0 ** (spread_cents / 1200) - 1), bin_hz)
        low, high = int((frequency - 3 * width_hz) / bin_hz), int((frequency + 3 * width_hz) / bin_hz) + 2
        band = np.arange(max(low, 1), min(high, len(magnitude)))
        magnitude[band] += amplitude * np.exp(-(((band * bin_hz - frequency) / width_hz) ** 2)) / np.sqrt(width_hz)
    turns = rng.random((2, len(magnitude)), dtype=np.float32)
    bins = np.zeros((2, ENSEMBLE_SAMPLES // 2 + 1), np.complex64)
    bins[:, : len(magnitude)] = magnitude * np.exp(2j * np.pi * turns)
    loop = scipy.fft.irfft(bins, axis=1)
    loop /= np.sqrt(np.mean(loop**2)) * 4.0
    wave: Wave = np.tile(loop, (1, -(-samples // ENSEMBLE_SAMPLES)))[:, :samples]
    return wave


def noise(samples: int, low_hz: float, high_hz: float, rng: np.random.Generator) -> Wave:
    """White noise through a band of second order at both ends, of unit RMS."""
    spectrum = scipy.fft.rfft(rng.standard_normal(samples, dtype=np.float32))
    frequency = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    highpass = 1.0 - lowpass(frequency, low_hz) ** 2
    shaped = scipy.fft.irfft(spectrum * highpass * lowpass(frequency, high_hz), samples)
    wave: Wave = (shaped / (np.sqrt(np.mean(shaped**2)) + 1e-9)).astype(np.float32)
    return wave


def rise(samples: int, attack_s: float) -> Wave:
    """A raised-cosine attack from 0 to 1."""
    ramp = np.minimum(seconds(samples) / attack_s, 1.0)
    wave: Wave = (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
    return wave


def fall(samples: int, decay_s: float) -> Wave:
    """An exponential decay that reaches -60 dB after `decay_s`."""
    wave: Wave = np.exp(-6.91 * seconds(samples) / decay_s).astype(np.float32)
    return wave
