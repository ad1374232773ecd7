"""Audio as the bytes of a file: FLAC that keeps every 16-bit sample, WAV for browsers, MP3 for pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from tasks.audio_info import UnreadableAudio

# Shapes: S channels, N samples.

LOUDEST = 32767 / 32768
"""The highest 16-bit sample: audio up to this peak is written without clipping."""

FLAC_LEVEL = 0.25
"""libsndfile's scale 0-1. Measured for a 10.24-s window: 9 ms and 1-2 % more bytes than at the default's 13 ms."""

LONGEST_CLIP_SAMPLES = 2**26
"""23 minutes: more than a window, or a window's style segments in a row. A header may promise 1,000 times as much."""


def headroom_gain(*audio: NDArray[np.float32]) -> float:
    """The one gain, at most 1, with which none of the arrays clips at 16 bits."""
    peak = max(peak_of(audio_SN) for audio_SN in audio)
    return min(1.0, LOUDEST / peak) if peak > 0 else 1.0


def write_flac(target: Path | str | BinaryIO, audio_SN: NDArray[np.float32]) -> None:
    """16-bit FLAC of (S, N) audio at 48 kHz: the same bytes for the same audio, as FLAC holds no date.

    Audio that would clip is refused: scale it by `headroom_gain`, and record the gain.
    """
    with _destination(target) as file:
        soundfile.write(
            file, _sixteen_bit(audio_SN), RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=FLAC_LEVEL
        )


def flac_bytes(audio_SN: NDArray[np.float32]) -> bytes:
    """16-bit FLAC; see `write_flac`."""
    buffer = BytesIO()
    write_flac(buffer, audio_SN)
    return buffer.getvalue()


def decode_flac(data: bytes) -> NDArray[np.float32]:
    """(S, N) float32 of FLAC bytes at 48 kHz."""
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            if file.samplerate != RATE_HZ or file.frames > LONGEST_CLIP_SAMPLES:
                raise UnreadableAudio(
                    f"a FLAC stream of {file.frames} samples at {file.samplerate} Hz; "
                    f"expected at most {LONGEST_CLIP_SAMPLES} samples at {RATE_HZ} Hz"
                )
            audio_FS = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnreadableAudio(f"{len(data)} bytes are no whole FLAC stream: {error}") from error
    return np.ascontiguousarray(audio_FS.T)


def mp3_bytes(audio_SN: NDArray[np.float32]) -> bytes:
    """MP3 for a page to play; lossy, so never for anything that is measured."""
    buffer = BytesIO()
    soundfile.write(
        buffer,
        _sixteen_bit(audio_SN) / np.float32(32768),  # libsndfile writes 320 kbit/s from integers, whatever is asked
        RATE_HZ,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE",
        compression_level=0.5,  # about 140 kbit/s
    )
    return buffer.getvalue()


def wav_bytes(audio_SN: NDArray[np.float32]) -> bytes:
    """16-bit WAV, which browsers and MLflow's page play."""
    buffer = BytesIO()
    soundfile.write(buffer, _sixteen_bit(audio_SN), RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def peak_of(audio_SN: NDArray[np.float32]) -> float:
    """The largest magnitude, without a copy of the audio; NaN if a sample is."""
    return max(float(audio_SN.max(initial=0.0)), -float(audio_SN.min(initial=0.0)))


def _sixteen_bit(audio_SN: NDArray[np.float32]) -> NDArray[np.int16]:
    """(N, S) int16, rounded; 16-bit audio that was read as float comes back exactly."""
    if audio_SN.ndim != 2 or audio_SN.shape[0] not in (1, 2):
        raise ValueError(f"audio of shape {audio_SN.shape}; expected (channels, samples) with 1 or 2 channels")
    peak = peak_of(audio_SN)
    if not peak <= 1.0:
        raise ValueError(f"audio with a peak of {peak:.4g} would clip at 16 bits; scale it by headroom_gain first")
    scaled_SN = np.minimum(np.rint(audio_SN * audio_SN.dtype.type(32768.0)), 32767.0)
    frames_NS = np.empty(audio_SN.shape[::-1], dtype=np.int16)
    for channel, scaled_N in enumerate(scaled_SN):  # numpy transposes narrow arrays several times slower
        frames_NS[:, channel] = scaled_N
    return frames_NS


@contextmanager
def _destination(target: Path | str | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(target, (str, Path)):
        with Path(target).open("wb") as file:
            yield file
    else:
        yield target
