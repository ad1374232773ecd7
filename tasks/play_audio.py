"""What a musician brings along as audio, and the mixture that is listened to first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from metrics.mixing import integrated_lufs
from tasks.audio import probe, read_rated_blocks, stereo_blocks
from tasks.audio_bytes import LOUDEST, headroom_gain
from tasks.whole_files import file_sha256

# Shapes: N samples; all audio is stereo at 48 kHz.

SHORTEST_S, LONGEST_S = 0.5, 30 * 60.0
"""Loudness and style need half a second; half an hour takes about 2 GB of memory. Both bounds are ours."""

SILENT_PEAK = 1e-5
CLIPPED_SHARE = 1e-4  # of all samples at full scale: a song that was only mastered loud has fewer


@dataclass(frozen=True)
class Music:
    """A file as (2, N) float32 at 48 kHz, with what is to be said of it."""

    audio_2N: NDArray[np.float32]
    told: dict[str, str | float]
    notes: tuple[str, ...]

    @property
    def silent(self) -> bool:
        """Whether nothing can be heard."""
        return headroom_peak(self.audio_2N) < SILENT_PEAK

    @cached_property
    def lufs(self) -> float:
        """Its loudness (BS.1770), measured once for all that is mixed with it: of three minutes in about a second."""
        return loudness_lufs(self.audio_2N)


def read_music(path: Path, what: str) -> Music:
    """Any format, rate and length that `tasks.audio` reads; the sound of a video file is taken.

    Raises ValueError naming the file and the remedy; `what` is its part in the playing.
    """
    info = probe(path)
    seconds = info.frames / info.rate_hz
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ValueError(
            f"{path}: {what} lasts {seconds:.2f} s; it may last from {SHORTEST_S:g} s to {LONGEST_S / 60:g} minutes: "
            f"{'take a longer stretch' if seconds < SHORTEST_S else 'cut it into parts'}"
        )
    audio_2N = np.ascontiguousarray(np.concatenate(list(stereo_blocks(read_rated_blocks(path))), axis=1))
    told: dict[str, str | float] = {"file": path.name, "sha256": file_sha256(path), "seconds": round(seconds, 3)}
    return Music(audio_2N, told, tuple(_notes(audio_2N, what)))


def headroom_peak(audio_2N: NDArray[np.float32]) -> float:
    """The largest magnitude."""
    return float(np.abs(audio_2N).max())


def loudness_lufs(audio_2N: NDArray[np.float32]) -> float:
    """Of both channels together; minus infinity where nothing is heard."""
    return integrated_lufs(audio_2N.mean(axis=0), rate_hz=RATE_HZ)


def mixed(context: Music, stem_2N: NDArray[np.float32]) -> NDArray[np.float32]:
    """The context plus the stem at the context's loudness (BS.1770), scaled down where it would clip.

    A side that is silent is added as it is.
    """
    louder_db = context.lufs - loudness_lufs(stem_2N)
    gain = 10 ** (louder_db / 20) if np.isfinite(louder_db) else 1.0
    sum_2N = context.audio_2N + np.float32(gain) * stem_2N
    return sum_2N * np.float32(headroom_gain(sum_2N))


def _notes(audio_2N: NDArray[np.float32], what: str) -> list[str]:
    """What a musician should know of a file that can be used all the same."""
    notes = []
    if headroom_peak(audio_2N) < SILENT_PEAK:
        notes.append(f"{what} is silent")
    elif (np.abs(audio_2N) >= LOUDEST).mean() > CLIPPED_SHARE:
        notes.append(f"{what} is clipped: the distortion is heard as part of the music")
    return notes
