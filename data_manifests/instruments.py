"""The pitched instruments of the embedded corpus: what one note of each sounds like.

A voice takes a frequency, a length and how bright the player likes it (0..1), and gives a mono (S,) or stereo (2, S)
wave with its attack but without its release: the renderer ends a note where its part does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_manifests.tones import (
    Array,
    Wave,
    cycles,
    ensemble,
    fall,
    harmonic_tone,
    lowpass,
    noise,
    plucked_string,
    rise,
    seconds,
)

Voice = Callable[[float, int, float, np.random.Generator], Wave]


class Instrument(NamedTuple):
    """A voice, how long its notes fade when let go, how hard its amplifier is driven, and its amplifier's bandwidth."""

    voice: Voice
    release_s: float
    drive: float = 0.0
    bandwidth_hz: float = 0.0


def _string(
    *, pluck: float, dark_hz: float, bright_hz: float, decay_s: float, damping: float, body: float = 0.0
) -> Voice:
    """A plucked string whose pick widens from `dark_hz` to `bright_hz`; low strings ring longer than high ones."""

    def voice(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
        wave = plucked_string(
            hz,
            samples,
            pluck=pluck + rng.uniform(-0.02, 0.02),
            brightness_hz=dark_hz * (bright_hz / dark_hz) ** brightness,
            decay_s=decay_s * (110 / hz) ** 0.4,
            damping=damping,
        )
        knock = noise(samples, 80, 400, rng) * fall(samples, 0.08)
        return (wave + body * knock) * rise(samples, 0.002)

    return voice


def _piano(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """Two strings a cent apart whose upper harmonics die first, and the thump of the hammer."""

    def spectrum(times_R1: Array, frequency_H: Array) -> Array:
        struck_H = lowpass(frequency_H, 500 + 2500 * brightness + hz, 1.2) * (hz / frequency_H) ** 0.4
        rate_H = 0.9 + hz / 400 + frequency_H / 1400
        return struck_H * (0.75 * np.exp(-rate_H * times_R1 * 2.2) + 0.25 * np.exp(-rate_H * times_R1 * 0.6))

    strings = [harmonic_tone(cycles(hz * detune, samples), hz * detune, spectrum) for detune in (0.9996, 1.0005)]
    hammer = noise(samples, 100, 900, rng) * fall(samples, 0.05)
    return (strings[0] + strings[1] + 0.12 * hammer) * rise(samples, 0.002)


def _electric_piano(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """Two FM pairs (Chowning 1973): a mellow 1:1 body and a tine at 14 times the pitch; slow stereo tremolo."""
    time_S = seconds(samples)
    phase_S = 2 * np.pi * hz * time_S
    index_S = (0.6 + 1.8 * brightness) * np.exp(-time_S / 0.5)
    body_S = np.sin(phase_S + index_S * np.sin(phase_S)) * fall(samples, 4.5)
    tine_S = 0.12 * np.sin(phase_S + 0.8 * np.sin(14 * phase_S)) * fall(samples, 0.6) if hz < 1500 else 0.0
    wave_S = ((body_S + tine_S) * rise(samples, 0.003)).astype(np.float32)
    sway_S = (0.25 * np.sin(2 * np.pi * 4.2 * time_S)).astype(np.float32)
    return np.stack([wave_S * (1 + sway_S), wave_S * (1 - sway_S)])


def _organ(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """Drawbars 16', 8', 5 1/3', 4', 2 2/3', 2' over half the pitch, through a turning loudspeaker."""
    drawbars = {1: 0.6, 2: 1.0, 3: 0.8, 4: 0.6, 6: 0.2 + 0.4 * brightness, 8: 0.1 + 0.6 * brightness}

    def spectrum(times_R1: Array, frequency_H: Array) -> Array:
        harmonic_H = np.round(frequency_H / (hz / 2)).astype(int)
        return np.array([drawbars.get(int(harmonic), 0.0) for harmonic in harmonic_H])

    phase_S = cycles(hz / 2, samples, vibrato_cents=8, vibrato_hz=6.3)
    wave_S = harmonic_tone(phase_S, hz / 2, spectrum) * rise(samples, 0.008)
    turn_S = (0.2 * np.sin(2 * np.pi * 6.3 * seconds(samples))).astype(np.float32)
    return np.stack([wave_S * (1 + turn_S), wave_S * (1 - turn_S)])


def _saw(
    *, dark_hz: float, bright_hz: float, sweep: float, sweep_s: float, detune_cents: float, attack_s: float
) -> Voice:
    """Two detuned saws (harmonics 1/h) under a low-pass that opens by `sweep` and closes within about `sweep_s`."""

    def voice(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
        resting_hz = dark_hz * (bright_hz / dark_hz) ** brightness

        def spectrum(times_R1: Array, frequency_H: Array) -> Array:
            cutoff_R1 = resting_hz * (1 + sweep * np.exp(-times_R1 / sweep_s))
            return hz / frequency_H * lowpass(frequency_H, cutoff_R1)

        voices = [hz * 2.0 ** (sign * detune_cents / 2400) for sign in (-1, 1)]
        waves = [harmonic_tone(cycles(voice_hz, samples), voice_hz, spectrum) for voice_hz in voices]
        return (waves[0] + waves[1]) * rise(samples, attack_s)

    return voice


def _sub_bass(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """A sine with a little second and third harmonic, and a thump in pitch at its start."""
    time_S = seconds(samples)
    phase_S = 2 * np.pi * (hz * time_S + 0.35 * (1 - np.exp(-time_S / 0.012)))
    colour = 0.1 + 0.35 * brightness
    wave_S = np.sin(phase_S) + colour * np.sin(2 * phase_S) + 0.5 * colour * np.sin(3 * phase_S)
    return (wave_S * rise(samples, 0.006) * fall(samples, 6.0)).astype(np.float32)


def _pad(*, dark_hz: float, bright_hz: float, tilt: float, spread_cents: float, attack_s: float) -> Voice:
    """An ensemble with harmonics h^-tilt below a cutoff, swelling in over `attack_s`."""

    def voice(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
        cutoff_hz = dark_hz * (bright_hz / dark_hz) ** brightness

        def spectrum(times_R1: Array, frequency_H: Array) -> Array:
            return (hz / frequency_H) ** tilt * lowpass(frequency_H, cutoff_hz)

        wave = ensemble(hz, samples, spread_cents=spread_cents, spectrum=spectrum, rng=rng)
        return wave * rise(samples, attack_s)

    return voice


def _flute(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """Few harmonics, vibrato that grows in, and breath."""

    def spectrum(times_R1: Array, frequency_H: Array) -> Array:
        return np.exp(-(frequency_H / hz - 1) * (1.5 - 0.7 * brightness))

    wave_S = harmonic_tone(cycles(hz, samples, vibrato_cents=18, vibrato_hz=5.2), hz, spectrum)
    breath_S = noise(samples, 1500, 6000, rng) * (0.05 + 0.25 * fall(samples, 0.12))
    return (wave_S + (0.3 + 0.4 * brightness) * breath_S) * rise(samples, 0.045)


def _trumpet(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
    """Brass opens up: the upper harmonics follow the fundamental some 50 ms later."""

    def spectrum(times_R1: Array, frequency_H: Array) -> Array:
        opening_R1 = 500 + (900 + 2200 * brightness) * (1 - np.exp(-times_R1 / 0.05))
        return (hz / frequency_H) ** 0.3 * lowpass(frequency_H, opening_R1, 1.6)

    return harmonic_tone(cycles(hz, samples, vibrato_cents=10, vibrato_hz=5.8), hz, spectrum) * rise(samples, 0.025)


def _mallet(*, partials: dict[int, float], decay_s: float, tremolo: float) -> Voice:
    """A struck bar: its fundamental and one or two tuned overtones that fade within a moment."""

    def voice(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
        def spectrum(times_R1: Array, frequency_H: Array) -> Array:
            harmonic_H = np.round(frequency_H / hz)
            level_H = np.array([partials.get(int(harmonic), 0.0) for harmonic in harmonic_H])
            struck_H = np.where(harmonic_H > 1, level_H * (0.5 + brightness), level_H)
            return struck_H * np.exp(-6.91 * times_R1 * harmonic_H**0.8 / decay_s)

        wave_S = harmonic_tone(cycles(hz, samples), hz, spectrum) * rise(samples, 0.001)
        mallet_S = noise(samples, 800, 3000, rng) * fall(samples, 0.02) * 0.15
        sway_S = 1 + tremolo * np.sin(2 * np.pi * 5.0 * seconds(samples))
        return ((wave_S + mallet_S) * sway_S).astype(np.float32)

    return voice


VOWELS = {  # formant frequencies of Peterson and Barney (1952), men, rounded; bandwidths grow with frequency
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


def _singer(*, tract: float) -> Voice:
    """A formant voice: a glottal source under three resonances that glide from one vowel to another.

    `tract` scales the formants: 1 for a man's vocal tract, about 1.17 for a woman's.
    """

    def voice(hz: float, samples: int, brightness: float, rng: np.random.Generator) -> Wave:
        first, second = (VOWELS[str(name)] for name in rng.choice(list(VOWELS), size=2, replace=False))
        tilt = 1.6 - 0.5 * brightness

        def spectrum(times_R1: Array, frequency_H: Array) -> Array:
            glide_R1 = np.clip(times_R1 / 0.35, 0.0, 1.0)
            amplitude = np.full(np.broadcast_shapes(times_R1.shape, frequency_H.shape), 0.02)
            for start_hz, end_hz, gain in zip(first, second, (1.0, 0.6, 0.35), strict=True):
                centre_R1 = tract * (start_hz + (end_hz - start_hz) * glide_R1)
                width_hz = 60 + 0.06 * centre_R1
                amplitude = amplitude + gain / (1 + ((frequency_H - centre_R1) / width_hz) ** 2)
            return amplitude * (hz / frequency_H) ** (tilt - 0.8)

        wave_S = harmonic_tone(cycles(hz, samples, vibrato_cents=35, vibrato_hz=5.4), hz, spectrum)
        breath_S = noise(samples, 2000, 8000, rng) * 0.015
        return (wave_S + breath_S) * rise(samples, 0.05)

    return voice


INSTRUMENTS = {
    "fingered bass": Instrument(
        _string(pluck=0.22, dark_hz=250, bright_hz=900, decay_s=3.5, damping=0.25, body=0.06), 0.06
    ),
    "picked bass": Instrument(
        _string(pluck=0.12, dark_hz=900, bright_hz=3000, decay_s=3.0, damping=0.2), 0.05, drive=1.5, bandwidth_hz=5000
    ),
    "upright bass": Instrument(
        _string(pluck=0.31, dark_hz=180, bright_hz=600, decay_s=1.6, damping=0.35, body=0.15), 0.08
    ),
    "synth bass": Instrument(
        _saw(dark_hz=160, bright_hz=500, sweep=5.0, sweep_s=0.12, detune_cents=8, attack_s=0.004), 0.04
    ),
    "sub bass": Instrument(_sub_bass, 0.08),
    "acoustic guitar": Instrument(
        _string(pluck=0.14, dark_hz=2500, bright_hz=7000, decay_s=3.0, damping=0.25, body=0.1), 0.12
    ),
    "nylon guitar": Instrument(
        _string(pluck=0.27, dark_hz=700, bright_hz=1800, decay_s=2.0, damping=0.4, body=0.12), 0.12
    ),
    "clean guitar": Instrument(
        _string(pluck=0.1, dark_hz=1500, bright_hz=4000, decay_s=4.0, damping=0.15), 0.08, bandwidth_hz=5000
    ),
    "muted guitar": Instrument(
        _string(pluck=0.08, dark_hz=1800, bright_hz=4500, decay_s=0.35, damping=0.3, body=0.05), 0.03, bandwidth_hz=5000
    ),
    "distorted guitar": Instrument(
        _string(pluck=0.1, dark_hz=2500, bright_hz=5000, decay_s=6.0, damping=0.15), 0.06, drive=5.0, bandwidth_hz=4200
    ),
    "piano": Instrument(_piano, 0.15),
    "electric piano": Instrument(_electric_piano, 0.12),
    "organ": Instrument(_organ, 0.03),
    "clavinet": Instrument(_string(pluck=0.06, dark_hz=3000, bright_hz=8000, decay_s=1.2, damping=0.1), 0.02),
    "string ensemble": Instrument(_pad(dark_hz=1500, bright_hz=4500, tilt=1.0, spread_cents=14, attack_s=0.14), 0.25),
    "warm pad": Instrument(_pad(dark_hz=350, bright_hz=1100, tilt=0.9, spread_cents=24, attack_s=0.25), 0.4),
    "glass pad": Instrument(_pad(dark_hz=3500, bright_hz=8000, tilt=0.35, spread_cents=7, attack_s=0.18), 0.4),
    "synth lead": Instrument(
        _saw(dark_hz=1400, bright_hz=5000, sweep=1.0, sweep_s=0.2, detune_cents=14, attack_s=0.012), 0.08
    ),
    "flute": Instrument(_flute, 0.08),
    "trumpet": Instrument(_trumpet, 0.06),
    "vibraphone": Instrument(_mallet(partials={1: 1.0, 4: 0.35, 10: 0.1}, decay_s=3.5, tremolo=0.35), 0.3),
    "marimba": Instrument(_mallet(partials={1: 1.0, 4: 0.45, 9: 0.2}, decay_s=0.7, tremolo=0.0), 0.15),
    "female voice": Instrument(_singer(tract=1.17), 0.12),
    "male voice": Instrument(_singer(tract=1.0), 0.12),
}
"""Every pitched instrument that a style may ask for."""
