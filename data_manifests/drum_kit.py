"""The drum kits: a few pre-rendered strokes of every piece, by General MIDI percussion key.

Modes of a skin or a plate are decaying sines, rattle and sizzle are bands of noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_manifests.schema import RATE_HZ
from data_manifests.tones import Wave, fall, noise, rise, seconds

VARIANTS = 3
"""Strokes rendered per piece and taken in turn, so that repeated hits are not copies."""


class Kit(NamedTuple):
    """What tells one kit from another: kick pitch and lengths in seconds, snare rattle, and how metal sounds."""

    kick_hz: float
    kick_sweep_hz: float
    kick_s: float
    snare_hz: float
    snare_s: float
    rattle: float
    stroke_s: float
    metal: float


KITS = {
    "acoustic kit": Kit(58, 95, 0.32, 190, 0.24, 1.0, 0.001, 0.35),
    "brush kit": Kit(66, 50, 0.26, 210, 0.30, 1.6, 0.018, 0.2),
    "drum machine": Kit(46, 170, 0.6, 175, 0.28, 0.8, 0.0005, 1.0),
}

PAN = {36: 0.0, 37: 0.1, 38: 0.05, 39: -0.05, 42: 0.35, 45: -0.4, 46: 0.35, 47: 0.0, 49: 0.45, 50: 0.3, 51: -0.4,
       63: -0.45, 82: 0.5}  # fmt: skip
"""Where each piece stands, from the listener's side: -1 left, 1 right."""


def drum_strokes(
    kit_name: str, keys: frozenset[int], brightness: float, rng: np.random.Generator
) -> dict[int, list[Wave]]:
    """`VARIANTS` mono strokes of each asked percussion key, for one drummer's own tuning of the kit."""
    tuning = rng.uniform(0.9, 1.12)
    kit = KITS[kit_name]._replace(
        kick_hz=KITS[kit_name].kick_hz * tuning,
        snare_hz=KITS[kit_name].snare_hz * tuning,
        snare_s=KITS[kit_name].snare_s * rng.uniform(0.8, 1.3),
    )
    return {key: [_stroke(key, kit, brightness, rng) for _ in range(VARIANTS)] for key in sorted(keys)}


def _stroke(key: int, kit: Kit, brightness: float, rng: np.random.Generator) -> Wave:
    bright = 0.75 + 0.5 * brightness
    match key:
        case 36:
            wave = _kick(kit, bright, rng)
        case 38:
            wave = _snare(kit, bright, rng)
        case 39:
            wave = _clap(bright, rng)
        case 37:
            wave = 0.5 * _modes((1710, 2390), 0.06, 0.001, rng)
        case 45 | 47 | 50:
            wave = 0.8 * _skin({45: 85, 47: 120, 50: 165}[key] * kit.snare_hz / 190, 0.5, 0.4, rng)
        case 63:
            wave = 0.7 * _skin(270, 0.3, 0.2, rng)
        case 42 | 46:
            wave = 0.4 * _metal(6500 * bright, {42: 0.09, 46: 0.5}[key], kit.metal, kit.stroke_s, rng)
        case 51:
            wave = 0.4 * _metal(4200 * bright, 1.1, 0.5 + kit.metal / 2, 0.001, rng)
        case 49:
            wave = 0.55 * _metal(2800 * bright, 1.8, 0.3 * kit.metal, 0.003, rng)
        case 82:
            wave = 0.3 * noise(4800, 5000 * bright, 12_000, rng) * rise(4800, 0.02) * fall(4800, 0.09)
        case _:
            raise ValueError(f"percussion key {key}: no piece of the kit answers to it; expected one of {sorted(PAN)}")
    return wave


def _kick(kit: Kit, bright: float, rng: np.random.Generator) -> Wave:
    """A sine that falls from kick_hz + kick_sweep_hz to kick_hz, and the click of the beater."""
    samples = int(RATE_HZ * kit.kick_s)
    time_S = seconds(samples)
    settle_s = 0.035 * rng.uniform(0.9, 1.1)
    turns_S = kit.kick_hz * time_S + kit.kick_sweep_hz * settle_s * (1 - np.exp(-time_S / settle_s))
    body_S = np.sin(2 * np.pi * turns_S) * fall(samples, kit.kick_s) * rise(samples, 0.001)
    click_S = 0.25 * bright * noise(samples, 1500, 6000, rng) * fall(samples, 0.015)
    return (1.3 * body_S + click_S).astype(np.float32)


def _snare(kit: Kit, bright: float, rng: np.random.Generator) -> Wave:
    """Two modes of the head under the rattle of the wires."""
    samples = int(RATE_HZ * kit.snare_s * 1.3)
    head_S = _modes((kit.snare_hz, kit.snare_hz * 1.78), 0.13, 0.001, rng, samples=samples)
    wires_S = noise(samples, 1300 * bright, 9000, rng) * fall(samples, kit.snare_s) * rise(samples, kit.stroke_s)
    return 0.5 * head_S / max(kit.rattle, 0.5) + 0.3 * kit.rattle * wires_S


def _clap(bright: float, rng: np.random.Generator) -> Wave:
    """Three hands within 25 ms, then the room."""
    samples = 14_400
    wave_S = noise(samples, 900, 2600 * bright, rng)
    envelope_S = 0.6 * np.roll(fall(samples, 0.22), 1200)
    envelope_S[:1200] = 0.0
    for onset in (0, 480, 900):
        envelope_S[onset:] += fall(samples - onset, 0.03)
    return 0.5 * wave_S * envelope_S


def _skin(hz: float, decay_s: float, bend: float, rng: np.random.Generator) -> Wave:
    """A tom or conga: a sine that bends down as the skin relaxes."""
    samples = int(RATE_HZ * decay_s)
    time_S = seconds(samples)
    turns_S = hz * rng.uniform(0.98, 1.02) * (time_S + bend * 0.04 * (1 - np.exp(-time_S / 0.04)))
    slap_S = 0.1 * noise(samples, 600, 3000, rng) * fall(samples, 0.04)
    return (np.sin(2 * np.pi * turns_S) * fall(samples, decay_s) + slap_S).astype(np.float32)


def _modes(
    frequencies: tuple[float, ...], decay_s: float, attack_s: float, rng: np.random.Generator, *, samples: int = 4800
) -> Wave:
    time_S = seconds(samples)
    wave_S = sum(np.sin(2 * np.pi * hz * rng.uniform(0.99, 1.01) * time_S) for hz in frequencies)
    return (wave_S * fall(samples, decay_s) * rise(samples, attack_s)).astype(np.float32)


def _metal(low_hz: float, decay_s: float, tonal: float, attack_s: float, rng: np.random.Generator) -> Wave:
    """A cymbal: noise above `low_hz`, and by the share `tonal` a cluster of inharmonic partials, as of a machine."""
    samples = int(RATE_HZ * decay_s)
    sizzle_S = noise(samples, low_hz, 14_000, rng) * fall(samples, decay_s)
    partials = low_hz * np.array([1.0, 1.34, 1.62, 1.93]) * rng.uniform(0.98, 1.02, size=4)
    cluster_S = _modes(tuple(float(hz) for hz in partials), decay_s * 0.8, 0.0005, rng, samples=samples)
    return ((1 - 0.5 * tonal) * 0.6 * sizzle_S + 0.25 * tonal * cluster_S) * rise(samples, attack_s)
