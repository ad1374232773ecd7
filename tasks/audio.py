"""Audio files of any kind, read as stereo at 48 kHz.

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
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from tasks.audio_bytes import peak_of
from tasks.audio_info import AudioInfo, UnreadableAudio, check_channels, check_finite, check_length, check_rate
from tasks.containers import CONTAINER_SUFFIXES, decoded_blocks, probe_container
from tasks.kept_files import KeptFiles, default_kept_files

# Shapes: S channels, N samples, F frames of a file at its own rate.

RESAMPLER_MARGIN_S = 0.05
"""Read around a window before resampling; from 0.02 s on, soxr HQ's window equals the whole file's to 1e-5."""

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
            peak = peak_of(block_FS)
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
