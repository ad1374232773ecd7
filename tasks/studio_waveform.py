"""What the page hears and sees of a clip however long it is: a piece at a time, and peaks to draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_manifests.schema import RATE_HZ
from tasks.audio import probe, read_window
from tasks.audio_bytes import wav_bytes

POINTS = 2_000  # more than a waveform is wide on a large screen, in CSS pixels
POINTS_AT_ONCE = 100
LONGEST_PIECE_S = 60.0


def waveform(path: Path) -> dict[str, Any]:
    """The duration of a 48 kHz clip in seconds, and of both channels the largest magnitudes along it."""
    frames = probe(path).frames
    step = -(-frames // POINTS)
    peaks = []
    for begin in range(0, frames, step * POINTS_AT_ONCE):
        audio_2N = np.abs(read_window(path, begin, min(step * POINTS_AT_ONCE, frames - begin)))
        peaks.append(np.maximum.reduceat(audio_2N, range(0, audio_2N.shape[1], step), axis=1))
    return {"duration": frames / RATE_HZ, "peaks": np.concatenate(peaks, axis=1).round(4).tolist()}


def piece(path: Path, start_s: float, seconds: float) -> bytes:
    """A piece of a 48 kHz clip as WAV; it ends with the clip. Raises ValueError for none and for a long one."""
    frames, start = probe(path).frames, round(start_s * RATE_HZ)
    if not (0 <= start < frames and 0 < seconds <= LONGEST_PIECE_S):
        raise ValueError(f"{seconds} s from {start_s} s on are no piece of {frames / RATE_HZ} s; load the page again")
    return wav_bytes(read_window(path, start, min(round(seconds * RATE_HZ), frames - start)))
