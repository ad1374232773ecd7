"""Audio files in and out: the only place that knows soundfile and soxr. Everything inside is stereo at 48 kHz."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ

# Shapes: S channels, N samples, F frames of a file at its own rate.

LOUDEST = 32767 / 32768
"""The highest 16-bit sample: audio up to this peak is written without clipping."""

FLAC_LEVEL = 0.25
"""libsndfile's scale 0-1. Measured for a 10.24-s window: 9 ms and 1-2 % more bytes than at the default's 13 ms."""

RESAMPLER_MARGIN_S = 0.05
"""Read around a window before resampling; from 0.02 s on, soxr HQ's window equals the whole file's to 1e-5."""

_WRONG_SIZE = re.compile(r"^ *(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 0x7FFFF000  # streamed WAV files promise this much or more


class UnreadableAudio(ValueError):
    """A file that is no sound audio; the message names the file and what is wrong."""


class AudioInfo(NamedTuple):
    """What a file's header says."""

    frames: int
    channels: int
    rate_hz: int


def probe(path: Path | str) -> AudioInfo:
    """Frames, channels and rate, from the header; a file cut short, where the header tells, is unreadable."""
    with _opened(path) as file:
        return AudioInfo(file.frames, file.channels, file.samplerate)


def read_blocks(path: Path | str, block_frames: int) -> Iterator[NDArray[np.float32]]:
    """The whole file at its own rate in blocks of (F, S) float32; fewer frames than promised is unreadable."""
    with _opened(path) as file:
        found = 0
        while True:
            block_FS = _read(file, path, block_frames)
            found += len(block_FS)
            if not len(block_FS):
                break
            yield block_FS
        _check_length(path, expected=file.frames, found=found)


def read_window(path: Path | str, start_samples: int, samples: int) -> NDArray[np.float32]:
    """(2, `samples`) float32 from `start_samples` on, both counted at 48 kHz; zeros beyond the file's end.

    The file is read only around the window. What comes back equals the same slice of the whole file resampled,
    because the reading starts at a frame that falls on a sample of the 48 kHz timeline.
    """
    if start_samples < 0 or samples < 1:
        raise ValueError(f"{path}: a window of {samples} samples from {start_samples} on; expected >= 1 from >= 0 on")
    with _opened(path) as file:
        step = math.gcd(file.samplerate, RATE_HZ)
        margin = 0 if file.samplerate == RATE_HZ else math.ceil(RESAMPLER_MARGIN_S * RATE_HZ)
        units = max(start_samples - margin, 0) // (RATE_HZ // step)
        first, timeline_first = units * (file.samplerate // step), units * (RATE_HZ // step)
        last = min(file.frames, math.ceil((start_samples + samples + margin) * file.samplerate / RATE_HZ))
        audio_FS = np.zeros((0, file.channels), dtype=np.float32)
        if first < last:
            file.seek(first)
            audio_FS = _read(file, path, last - first)
            _check_length(path, expected=last - first, found=len(audio_FS))
        return _place(_at_48_khz(audio_FS, file.samplerate), start_samples - timeline_first, samples)


def headroom_gain(*audio: NDArray[np.float32]) -> float:
    """The one gain, at most 1, with which none of the arrays clips at 16 bits."""
    peak = max(_peak(audio_SN) for audio_SN in audio)
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
        audio_FS, rate_hz = soundfile.read(BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnreadableAudio(f"{len(data)} bytes are no whole FLAC stream: {error}") from error
    if rate_hz != RATE_HZ:
        raise UnreadableAudio(f"a FLAC stream at {rate_hz} Hz; expected {RATE_HZ}")
    return np.ascontiguousarray(audio_FS.T)


def mp3_bytes(audio_SN: NDArray[np.float32]) -> bytes:
    """MP3 for a page to play; lossy, so never for anything that is measured."""
    buffer = BytesIO()
    soundfile.write(buffer, _sixteen_bit(audio_SN), RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def wav_bytes(audio_SN: NDArray[np.float32]) -> bytes:
    """16-bit WAV, which browsers and MLflow's page play."""
    buffer = BytesIO()
    soundfile.write(buffer, _sixteen_bit(audio_SN), RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def _opened(path: Path | str) -> Iterator[soundfile.SoundFile]:
    if not Path(path).is_file():
        raise UnreadableAudio(f"{path}: there is no such file")
    try:
        with soundfile.SoundFile(str(path)) as file:
            _check_header(path, file)
            yield file
    except soundfile.LibsndfileError as error:
        raise UnreadableAudio(f"{path}: {error.error_string} Expected whole audio: export it again.") from error


def _check_header(path: Path | str, file: soundfile.SoundFile) -> None:
    if file.frames < 1:
        raise UnreadableAudio(f"{path}: holds no audio")
    if file.channels not in (1, 2):
        raise UnreadableAudio(f"{path}: {file.channels} channels; expected mono or stereo, so mix it down first")
    for promised, there in _WRONG_SIZE.findall(file.extra_info):
        # libsndfile quietly shortens such a file to what is there.
        if int(there) < int(promised) < _UNKNOWN_SIZE:
            raise UnreadableAudio(f"{path}: cut short: {promised} bytes promised, {there} there; export it again")
    if file.format == "OGG" and not _ogg_is_whole(path):
        raise UnreadableAudio(f"{path}: cut short: its last Ogg page is not marked as the last; export it again")


def _ogg_is_whole(path: Path | str) -> bool:
    """True if the last page carries the end-of-stream bit (RFC 3533 section 6)."""
    with Path(path).open("rb") as file:
        file.seek(max(Path(path).stat().st_size - 2 * 65_307, 0))  # 65,307 bytes: the longest Ogg page
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and page + 5 < len(tail) and bool(tail[page + 5] & 4)


def _read(file: soundfile.SoundFile, path: Path | str, frames: int) -> NDArray[np.float32]:
    first = file.tell()
    audio_FS: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
    finite_FS = np.isfinite(audio_FS)
    if not finite_FS.all():
        second = (first + int(np.argmin(finite_FS.all(axis=1)))) / file.samplerate
        raise UnreadableAudio(f"{path}: a sample that is not a number at {second:.3f} s; export the stem again")
    return audio_FS


def _check_length(path: Path | str, *, expected: int, found: int) -> None:
    if found != expected:
        raise UnreadableAudio(f"{path}: cut short: {expected} frames promised, {found} there; export it again")


def _at_48_khz(audio_FS: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """(2, N) at 48 kHz; mono is duplicated."""
    if rate_hz != RATE_HZ and len(audio_FS):
        audio_FS = soxr.resample(audio_FS, rate_hz, RATE_HZ, quality="HQ")
    return np.broadcast_to(audio_FS.T, (2, len(audio_FS)))


def _place(audio_SN: NDArray[np.float32], start: int, samples: int) -> NDArray[np.float32]:
    """`samples` samples from `start` on, zeros where there are none."""
    window_SN = np.zeros((2, samples), dtype=np.float32)
    found_SN = audio_SN[:, start : start + samples]
    window_SN[:, : found_SN.shape[1]] = found_SN
    return window_SN


def _peak(audio_SN: NDArray[np.float32]) -> float:
    """The largest magnitude, without a copy of the audio; NaN if a sample is."""
    return max(float(audio_SN.max(initial=0.0)), -float(audio_SN.min(initial=0.0)))


def _sixteen_bit(audio_SN: NDArray[np.float32]) -> NDArray[np.int16]:
    """(N, S) int16, rounded; 16-bit audio that was read as float comes back exactly."""
    if audio_SN.ndim != 2 or audio_SN.shape[0] not in (1, 2):
        raise ValueError(f"audio of shape {audio_SN.shape}; expected (channels, samples) with 1 or 2 channels")
    peak = _peak(audio_SN)
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
