"""Audio files in and out: the only place that knows soundfile and soxr. Everything inside is stereo at 48 kHz.

What libsndfile reads is read by seeking, which finds the same samples to 1e-6 in MP3, Vorbis and Opus too (measured).
The containers that PyAV reads are decoded once from the beginning and kept as FLAC (`tasks.kept_files`), which all
processes of a run then read by seeking: windows come from all songs in turn, so memory would hold none for long.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from tasks.audio_info import AudioInfo, UnreadableAudio, check_channels, check_finite, check_length, check_rate
from tasks.containers import CONTAINER_SUFFIXES, decoded_blocks, probe_container
from tasks.kept_files import KeptFiles, default_kept_files

# Shapes: S channels, N samples, F frames of a file at its own rate.

LOUDEST = 32767 / 32768
"""The highest 16-bit sample: audio up to this peak is written without clipping."""

FLAC_LEVEL = 0.25
"""libsndfile's scale 0-1. Measured for a 10.24-s window: 9 ms and 1-2 % more bytes than at the default's 13 ms."""

RESAMPLER_MARGIN_S = 0.05
"""Read around a window before resampling; from 0.02 s on, soxr HQ's window equals the whole file's to 1e-5."""

LONGEST_CLIP_SAMPLES = 2**26
"""23 minutes: more than a window, or a window's style segments in a row. A header may promise 1,000 times as much."""

_KEPT_HEADROOM = 8.0  # a power of two, so that scaling is exact; 24 bits below it lie 120 dB under full scale

_WRONG_SIZE = re.compile(r"^ *(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 0x7FFFF000  # streamed WAV files promise this much or more


def probe(path: Path | str, stream: int = 0) -> AudioInfo:
    """Frames, channels and rate; a file cut short, where the header tells, is unreadable.

    `stream` counts the audio streams of a container from 0. A container is decoded to count its frames.
    """
    if _needs_pyav(path, stream):
        return probe_container(path, stream)
    with _opened(path) as file:
        return AudioInfo(file.frames, file.channels, file.samplerate)


def read_blocks(path: Path | str, block_frames: int, stream: int = 0) -> Iterator[NDArray[np.float32]]:
    """The whole stream at its own rate in blocks of (F, S) float32, for a file that `probe` found readable.

    Every block but the last has `block_frames`; fewer frames than promised is unreadable.
    """
    for block_FS, _ in read_rated_blocks(path, block_frames, stream):
        yield block_FS


def read_rated_blocks(
    path: Path | str, block_frames: int | None = None, stream: int = 0
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """As `read_blocks`, each with the rate in Hz; blocks are of one second where `block_frames` is None."""
    if _needs_pyav(path, stream):
        yield from _even_blocks(decoded_blocks(path, stream), block_frames)
        return
    with _opened(path) as file:
        found = 0
        while True:
            block_FS = _read(file, path, block_frames or file.samplerate)
            found += len(block_FS)
            if not len(block_FS):
                break
            yield block_FS, file.samplerate
        check_length(path, expected=file.frames, found=found)


def read_window(
    path: Path | str, start_samples: int, samples: int, stream: int = 0, kept: KeptFiles | None = None
) -> NDArray[np.float32]:
    """(2, `samples`) float32 from `start_samples` on, both counted at 48 kHz; zeros before and beyond the file.

    The file is read only around the window. What comes back equals the same slice of the whole file resampled,
    because the reading starts at a frame that falls on a sample of the 48 kHz timeline. Where a seek is not exact,
    the whole decode lies in `kept`: by default in the system's folder for temporary files.
    """
    if samples < 1:
        raise ValueError(f"{path}: a window of {samples} samples; expected >= 1")
    if start_samples + samples <= 0:
        return np.zeros((2, samples), dtype=np.float32)
    if _needs_pyav(path, stream):
        return _kept_window(Path(path), start_samples, samples, stream, kept or default_kept_files())
    return _seek_window(path, start_samples, samples)


def stereo_blocks(blocks: Iterator[tuple[NDArray[np.float32], int]]) -> Iterator[NDArray[np.float32]]:
    """Blocks of a file as (2, N) at 48 kHz, mono duplicated: the whole file resampled, without holding it."""
    resampler: soxr.ResampleStream | None = None
    length = 0
    for block_FS, rate_hz in blocks:
        if rate_hz == RATE_HZ:
            yield np.broadcast_to(block_FS.T, (2, len(block_FS)))
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(rate_hz, RATE_HZ, block_FS.shape[1], dtype="float32", quality="HQ")
        length += len(block_FS)
        audio_FS = resampler.resample_chunk(block_FS)
        yield np.broadcast_to(audio_FS.T, (2, len(audio_FS)))
    if resampler is not None:
        audio_FS = resampler.resample_chunk(np.zeros((0, block_FS.shape[1]), dtype=np.float32), last=True)
        yield np.broadcast_to(audio_FS.T, (2, len(audio_FS)))


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


def _needs_pyav(path: Path | str, stream: int) -> bool:
    """Containers, and an MP3 that libsndfile refuses."""
    suffix = Path(path).suffix.lower()
    if suffix in CONTAINER_SUFFIXES or stream > 0:
        return True
    if suffix != ".mp3" or not Path(path).is_file():
        return False
    try:
        return soundfile.info(str(path)).frames < 1
    except soundfile.LibsndfileError:
        return True


def _even_blocks(
    blocks: Iterator[tuple[NDArray[np.float32], int]], block_frames: int | None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Blocks of the wished length (None: a second) from blocks of any."""
    waiting: list[NDArray[np.float32]] = []
    frames = rate_hz = 0
    for block_FS, rate_hz in blocks:
        waiting.append(block_FS)
        frames += len(block_FS)
        size = block_frames or rate_hz
        if frames < size:
            continue
        joined_FS = np.concatenate(waiting)
        whole = frames - frames % size
        for first in range(0, whole, size):
            yield joined_FS[first : first + size], rate_hz
        waiting, frames = [joined_FS[whole:]], frames - whole
    if frames:
        yield np.concatenate(waiting), rate_hz


def _seek_window(path: Path | str, start_samples: int, samples: int, scale: float = 1.0) -> NDArray[np.float32]:
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
            check_length(path, expected=last - first, found=len(audio_FS))
        if scale != 1.0:
            audio_FS *= np.float32(scale)
        return _place(_at_48_khz(audio_FS, file.samplerate), start_samples - timeline_first, samples)


def _kept_window(path: Path, start_samples: int, samples: int, stream: int, kept: KeptFiles) -> NDArray[np.float32]:
    if not path.is_file():
        raise UnreadableAudio(f"{path}: there is no such file")
    whole = kept.of(path, stream, lambda target: _keep(path, stream, target))
    try:
        return _seek_window(whole, start_samples, samples, scale=_KEPT_HEADROOM)
    except UnreadableAudio:
        whole.unlink(missing_ok=True)  # damaged, or another process made room: once more
        whole = kept.of(path, stream, lambda target: _keep(path, stream, target))
        return _seek_window(whole, start_samples, samples, scale=_KEPT_HEADROOM)


def _keep(path: Path, stream: int, target: Path) -> None:
    """The whole decode as 24-bit FLAC with headroom, since a decode may exceed full scale."""
    blocks = read_rated_blocks(path, None, stream)
    first_FS, rate_hz = next(blocks)
    with soundfile.SoundFile(
        str(target),
        "w",
        rate_hz,
        first_FS.shape[1],
        subtype="PCM_24",
        format="FLAC",
        compression_level=0.0,  # 15 % larger than the default, in half the time
    ) as file:
        for block_FS, _ in itertools.chain([(first_FS, rate_hz)], blocks):
            peak = _peak(block_FS)
            if peak >= _KEPT_HEADROOM:
                raise UnreadableAudio(f"{path}: a peak of {peak:.3g}, where 1 is full scale; export the stem again")
            file.write(block_FS / np.float32(_KEPT_HEADROOM))


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
    check_channels(path, file.channels)
    check_rate(path, file.samplerate)
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
    check_finite(path, audio_FS, first_frame=first, rate_hz=file.samplerate)
    return audio_FS


def _at_48_khz(audio_FS: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """(2, N) at 48 kHz; mono is duplicated."""
    if rate_hz != RATE_HZ and len(audio_FS):
        audio_FS = soxr.resample(audio_FS, rate_hz, RATE_HZ, quality="HQ")
    return np.broadcast_to(audio_FS.T, (2, len(audio_FS)))


def _place(audio_SN: NDArray[np.float32], start: int, samples: int) -> NDArray[np.float32]:
    """`samples` samples from `start` on, zeros where there are none."""
    if start >= 0 and start + samples <= audio_SN.shape[1]:
        return np.array(audio_SN[:, start : start + samples])
    window_SN = np.zeros((2, samples), dtype=np.float32)
    found_SN = audio_SN[:, max(start, 0) : max(start + samples, 0)]
    offset = max(-start, 0)
    window_SN[:, offset : offset + found_SN.shape[1]] = found_SN
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
