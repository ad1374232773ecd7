"""The renderer of the embedded corpus: a written song becomes one stereo waveform per stem, from equations alone.

Legend: S samples at 48 kHz, C channels (2), F frequency bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from data_manifests.drum_kit import PAN, VARIANTS, drum_strokes
from data_manifests.instruments import INSTRUMENTS, Instrument
from data_manifests.notation import Note, Part, Room, Song
from data_manifests.schema import RATE_HZ
from data_manifests.streams import stream
from data_manifests.tones import Wave, lowpass, noise, pitch_hz

PREDELAY_S = 0.012
END_FADE_S = 0.02
CREST = 5.0
"""A stem is limited at this multiple of its loudness, so that no pick or stick stands far out of the mix."""
AUDIBLE = 0.03
"""Blocks below this share of a stem's loudest block (-30 dB) are its rests."""


class _Space(NamedTuple):
    """The room of one song, ready to multiply: its response as a spectrum (C, F), of a transform too long to wrap."""

    response: npt.NDArray[np.complex64]
    length: int


def render(song: Song) -> dict[str, Wave]:
    """Every stem of a song by id: float32 (2, S), S = round(seconds x 48000), on the grid of 16-bit samples.

    Each stem is a function of its own part and of the room, and as loud as its part's level: whoever else plays
    changes nothing. Equal bytes on one machine and build; across processors the last bit may differ.
    """
    samples = round(song.plan.seconds * RATE_HZ)
    space = _open_room(song.plan.room, samples, stream(song.plan.seed, song.plan.index, "room"))
    return {part.id: _render_part(song, part, samples, space) for part in song.parts}


def _render_part(song: Song, part: Part, samples: int, space: _Space) -> Wave:
    rng = stream(song.plan.seed, song.plan.index, "sound", part.id)
    dry = _drums(part, samples, rng) if part.role == "drums" else _pitched(part, samples, rng)
    wet = _place(dry, part, space, samples)
    wet[:, -round(END_FADE_S * RATE_HZ) :] *= np.linspace(1, 0, round(END_FADE_S * RATE_HZ), dtype=np.float32)
    levelled = _level(wet, part.level)
    stem: Wave = np.rint(levelled * np.float32(32768)) / np.float32(32768)
    return stem


def _level(wave_CS: Wave, level: float) -> Wave:
    """The stem at RMS `level` where it plays, softly limited to `CREST` times that: y = L tanh(x / L)."""
    blocks = wave_CS[:, : wave_CS.shape[1] // 4800 * 4800].reshape(2, -1, 4800)
    power = np.mean(blocks**2, axis=(0, 2))
    if not power.any():
        return wave_CS
    playing = np.sqrt(np.mean(power[power > AUDIBLE**2 * power.max()]))
    ceiling = np.float32(CREST * level)
    limited: Wave = np.tanh(wave_CS * np.float32(level / playing) / ceiling) * ceiling
    return limited


def _drums(part: Part, samples: int, rng: np.random.Generator) -> Wave:
    """The kit in stereo: strokes in turn, scaled by velocity, each piece at its own place."""
    keys = frozenset(note.pitch for note in part.notes)
    strokes = drum_strokes(part.instrument, keys, part.timbre.brightness, rng)
    dry = np.zeros((2, samples), np.float32)
    for place, note in enumerate(part.notes):
        stroke = strokes[note.pitch][place % VARIANTS]
        start = round(note.start_s * RATE_HZ)
        stop = min(start + len(stroke), samples)
        for channel, gain in enumerate(_pan_gains(PAN[note.pitch])):
            dry[channel, start:stop] += np.float32(gain * note.velocity) * stroke[: stop - start]
    return dry


def _pitched(part: Part, samples: int, rng: np.random.Generator) -> Wave:
    """A pitched part, mono (S,) or stereo (2, S): each pitch is played once, at its longest, and used for all notes."""
    instrument = INSTRUMENTS[part.instrument]
    release = round(instrument.release_s * RATE_HZ)
    fade = np.linspace(1, 0, release, dtype=np.float32) ** 2
    bank = _bank(part.notes, instrument, release, part.timbre.brightness, rng)
    channels = () if not bank or next(iter(bank.values())).ndim == 1 else (2,)
    dry = np.zeros((*channels, samples), np.float32)
    for note in part.notes:
        held = round(note.duration_s * RATE_HZ)
        sound = bank[note.pitch][..., : held + release] * np.float32(note.velocity)
        sound[..., held:] *= fade
        start = round(note.start_s * RATE_HZ)
        stop = min(start + sound.shape[-1], samples)
        dry[..., start:stop] += sound[..., : stop - start]
    return _amplify(dry, instrument)


def _bank(
    notes: tuple[Note, ...], instrument: Instrument, release: int, brightness: float, rng: np.random.Generator
) -> dict[int, Wave]:
    """One wave per pitch, as long as its longest note with release."""
    longest: dict[int, int] = {}
    for note in notes:
        longest[note.pitch] = max(longest.get(note.pitch, 0), round(note.duration_s * RATE_HZ) + release)
    return {
        pitch: instrument.voice(pitch_hz(pitch), length, brightness, rng) for pitch, length in sorted(longest.items())
    }


def _amplify(dry: Wave, instrument: Instrument) -> Wave:
    """Overdrive of the whole part, so that the notes of a chord distort each other as in an amplifier."""
    if instrument.drive > 0.0:
        peak = np.abs(dry).max() + np.float32(1e-9)
        dry = np.tanh(dry * np.float32(instrument.drive / peak))
    return dry


def _open_room(room: Room, samples: int, rng: np.random.Generator) -> _Space:
    """A room as exponentially decaying noise, of unit energy per channel; the walls absorb above `damping_hz`."""
    tail = round(room.decay_s * RATE_HZ)
    envelope = np.exp(-6.91 * np.arange(tail) / tail)
    impulse = np.stack([noise(tail, 150, room.damping_hz, rng) * envelope for _ in range(2)])
    impulse /= np.sqrt(np.sum(impulse**2, axis=1, keepdims=True))
    delayed = np.pad(impulse, ((0, 0), (round(PREDELAY_S * RATE_HZ), 0))).astype(np.float32)
    length = scipy.fft.next_fast_len(samples + delayed.shape[1], real=True)
    return _Space(scipy.fft.rfft(delayed, length), length)


def _place(dry: Wave, part: Part, space: _Space, samples: int) -> Wave:
    """The part in stereo with its share of the room: panned, band-limited by its amplifier, and reverberated."""
    instrument = INSTRUMENTS.get(part.instrument)
    gains = np.array(_pan_gains(part.timbre.pan), np.float32)[:, None]
    spectrum_CF = np.atleast_2d(scipy.fft.rfft(dry, space.length))
    if instrument is not None and instrument.bandwidth_hz > 0.0:
        frequency_F = np.fft.rfftfreq(space.length, 1 / RATE_HZ)
        spectrum_CF *= lowpass(frequency_F, instrument.bandwidth_hz).astype(np.float32)
    blend_CF = np.complex64(gains) * (1 - 0.5 * part.timbre.wet) + space.response * np.float32(part.timbre.wet)
    wave: Wave = scipy.fft.irfft(spectrum_CF * blend_CF, space.length)[:, :samples]
    return np.ascontiguousarray(wave, dtype=np.float32)


def _pan_gains(pan: float) -> tuple[float, float]:
    """Constant-power gains of the left and right channel for a place between -1 and 1."""
    angle = (pan + 1) * np.pi / 4
    return float(np.cos(angle)) * 2**0.5, float(np.sin(angle)) * 2**0.5
