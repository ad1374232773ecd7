"""The files of a blind listening test: every sound at one loudness, under names that tell nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.audio_bytes import LOUDEST, write_flac
from tasks.blind_key import REAL, AskedWindow, Trial
from tasks.loudness import Loudness

# Shapes: S channels (2), N samples at 48 kHz.

Audio = NDArray[np.float32]

LUFS = -23.0  # EBU R 128
FADE_SAMPLES = 960  # 20 ms: a window is cut where it falls, which would click
_HEADROOM = 0.999


class Sounds(Protocol):
    """Where the sounds come from: `tasks.blind_material.Material`, or `tasks.blind_folders.Folders`."""

    def context(self, window: AskedWindow) -> Audio: ...

    def stem(self, system: str, window: AskedWindow) -> Audio: ...


class Sound(NamedTuple):
    """One file of a trial, before it is levelled."""

    name: str
    audio_SN: Audio


def trial_sounds(sounds: Sounds, trial: Trial) -> Iterator[Sound]:
    """The music alone, then for each letter the stem with the music, and the stem alone.

    In the music every stem is as loud as the real one is, whatever level a model gave it: balance is not asked for.
    """
    context_SN = sounds.context(trial.window)
    real_lufs = lufs_of(sounds.stem(REAL, trial.window))
    yield Sound(f"{trial.name}-music", _faded(context_SN))
    for letter, system in trial.stimuli.items():
        stem_SN = sounds.stem(system, trial.window)
        lufs = lufs_of(stem_SN)
        if lufs is not None and real_lufs is not None:
            stem_SN = stem_SN * np.float32(_gain(real_lufs - lufs))
        yield Sound(f"{trial.name}-{letter}", _faded(context_SN + stem_SN))
        yield Sound(f"{trial.name}-{letter}-alone", _faded(stem_SN))


def write_sounds(folder: Path, make: Callable[[], Iterable[Sound]]) -> float:
    """Write every sound as FLAC at one loudness, which comes back: -23 LUFS, or what the most peaked of them can have.

    `make` is asked twice, first to find that loudness: all sounds at once would not fit into memory. Silence stays.
    """
    lufs = min([LUFS, *(highest for sound in make() if (highest := _highest_lufs(sound.audio_SN)) is not None)])
    folder.mkdir(parents=True)
    for sound in make():
        own = lufs_of(sound.audio_SN)
        levelled_SN = sound.audio_SN if own is None else sound.audio_SN * np.float32(_gain(lufs - own))
        write_flac(folder / f"{sound.name}.flac", levelled_SN)
    return lufs


def lufs_of(audio_SN: Audio) -> float | None:
    """Integrated loudness; None for silence."""
    if _measured(audio_SN) is None:
        return None
    peak = float(np.abs(audio_SN).max())
    # Measured at full scale: rests of a quiet sound that the gate would pass over count once it is levelled.
    at_full_scale = _measured(audio_SN / np.float32(peak))
    return None if at_full_scale is None else at_full_scale + 20.0 * math.log10(peak)


def _measured(audio_SN: Audio) -> float | None:
    loudness = Loudness()
    loudness.add(audio_SN)
    return loudness.lufs()


def _highest_lufs(audio_SN: Audio) -> float | None:
    """The loudness at which the highest peak just does not clip; None for silence."""
    lufs = lufs_of(audio_SN)
    return None if lufs is None else lufs + 20.0 * math.log10(_HEADROOM * LOUDEST / float(np.abs(audio_SN).max()))


def _faded(audio_SN: Audio) -> Audio:
    ramp_N = np.linspace(0.0, 1.0, min(FADE_SAMPLES, audio_SN.shape[1]), dtype=np.float32)
    faded_SN = audio_SN.copy()
    faded_SN[:, : len(ramp_N)] *= ramp_N
    faded_SN[:, faded_SN.shape[1] - len(ramp_N) :] *= ramp_N[::-1]
    return faded_SN


def _gain(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))
