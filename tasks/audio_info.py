"""What every reader of audio says of a file, and the refusals that all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Shapes: F frames of a file at its own rate, S channels.

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000


class UnreadableAudio(ValueError):
    """A file that is no sound audio; the message names the file and what is wrong."""


class AudioInfo(NamedTuple):
    """What a file's header says."""

    frames: int
    channels: int
    rate_hz: int


def check_channels(path: Path | str, channels: int) -> None:
    """Refuses what is neither mono nor stereo: which of six channels is the front left, no header says for sure."""
    if channels not in (1, 2):
        raise UnreadableAudio(f"{path}: {channels} channels; expected mono or stereo, so mix it down first")


def check_rate(path: Path | str, rate_hz: int) -> None:
    """Refuses a rate that no sound has: blocks are of seconds, so that one of 2 GHz would take all memory."""
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise UnreadableAudio(
            f"{path}: a rate of {rate_hz} Hz; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}: export the stem again"
        )


def check_finite(path: Path | str, audio_FS: NDArray[np.float32], *, first_frame: int, rate_hz: int) -> None:
    """Refuses a sample that is no number, and says at which second of the file it stands."""
    if np.isfinite(audio_FS.sum(dtype=np.float32)):  # one pass; the sum of numbers is one, short of an overflow
        return
    finite_FS = np.isfinite(audio_FS)
    if not finite_FS.all():
        second = (first_frame + int(np.argmin(finite_FS.all(axis=1)))) / rate_hz
        raise UnreadableAudio(f"{path}: a sample that is not a number at {second:.3f} s; export the stem again")


def check_length(path: Path | str, *, expected: int, found: int) -> None:
    """Refuses a file that holds fewer or more frames than its header promised."""
    if found != expected:
        raise UnreadableAudio(f"{path}: cut short: {expected} frames promised, {found} there; export it again")
