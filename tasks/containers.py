"""Audio in containers that libsndfile does not read (m4a, mp4, stem.mp4, aac, webm, odd mp3): the only home of PyAV.

Its wheels carry their decoders. A decode from the beginning is the only exact one: AAC's noise substitution and
Opus' prediction depend on all that came before. `tasks.audio` therefore keeps a whole decode for windows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from tasks.audio_info import AudioInfo, UnreadableAudio, check_channels, check_finite, check_rate

# Shapes: F frames at the stream's own rate, S channels.

CONTAINER_SUFFIXES = frozenset((".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov"))

_TIMED = ("mov", "matroska")
"""Formats whose timestamps say where the sound begins and ends, once priming is taken off (edit list, codec delay);
those of a bare AAC or MP3 stream say nothing of it."""

_SHORT_S = 0.1  # a decode may miss this much of what the header promises: rounding, and the last packet's padding


def probe_container(path: Path | str, stream: int = 0) -> AudioInfo:
    """Frames, channels and rate of one audio stream; its frames are counted by decoding it, as headers only guess."""
    blocks = decoded_blocks(path, stream)
    first_FS, rate_hz = next(blocks)
    frames = len(first_FS) + sum(len(block_FS) for block_FS, _ in blocks)
    return AudioInfo(frames, first_FS.shape[1], rate_hz)


def decoded_blocks(path: Path | str, stream: int = 0) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The whole stream at its own rate as blocks of (F, S) with that rate; `stream` counts audio streams only.

    The first frame is the first of the track's timeline: priming is taken off, a later start is filled with zeros.
    A file that decodes to less than it promises is unreadable.
    """
    with _opened(path, stream) as (container, source):
        is_timed = container.format.name.startswith(_TIMED)
        found, rate_hz, limit = 0, 0, None
        for frame in container.decode(source):
            if not rate_hz:
                rate_hz = frame.sample_rate
                check_channels(path, frame.layout.nb_channels)
                check_rate(path, rate_hz)
                limit = _promised_frames(container, source, rate_hz) if is_timed else None
                late = _late_frames(frame, rate_hz) if is_timed else 0
                if late:
                    found = late
                    yield np.zeros((late, frame.layout.nb_channels), dtype=np.float32), rate_hz
            if frame.sample_rate != rate_hz:
                raise UnreadableAudio(f"{path}: its rate changes from {rate_hz} to {frame.sample_rate} Hz on the way")
            block_FS = _samples(path, frame)
            block_FS = block_FS if limit is None else block_FS[: max(limit - found, 0)]
            check_finite(path, block_FS, first_frame=found, rate_hz=rate_hz)
            found += len(block_FS)
            if len(block_FS):
                yield block_FS, rate_hz
        if not found:
            raise UnreadableAudio(f"{path}: holds no audio")
        if limit is not None and found < limit - _SHORT_S * rate_hz:
            raise UnreadableAudio(f"{path}: cut short: {limit} frames promised, {found} there; export it again")


@contextmanager
def _opened(path: Path | str, stream: int) -> Iterator[tuple[Any, Any]]:
    if not Path(path).is_file():
        raise UnreadableAudio(f"{path}: there is no such file")
    with _quiet(path), av.open(str(path)) as container:
        found = container.streams.audio
        if not found:
            others = ", ".join(source.type for source in container.streams) or "nothing"
            raise UnreadableAudio(f"{path}: holds no audio stream (only {others}); export the sound as FLAC or WAV")
        if not 0 <= stream < len(found):
            raise UnreadableAudio(f"{path}: has {len(found)} audio stream(s), no number {stream} (counted from 0)")
        yield container, found[stream]


@contextmanager
def _quiet(path: Path | str) -> Iterator[None]:
    """FFmpeg's complaints as ours: they name the file, and nothing is printed."""
    logging.getLogger("libav").setLevel(logging.CRITICAL)
    try:
        yield
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableAudio(f"{path}: {reason}. Expected whole audio: export it again.") from error


def _promised_frames(container: Any, source: Any, rate_hz: int) -> int | None:
    """How many frames the stream has by its header, padding of the last packet taken off; None where it is silent."""
    if source.duration is not None:
        return round(source.duration * source.time_base * rate_hz)
    if "DURATION" in source.metadata:  # Matroska, "00:00:01.845000000"
        hours, minutes, seconds = source.metadata["DURATION"].split(":")
        return None if not seconds else _whole_frames(hours, minutes, seconds, rate_hz)
    return None


def _whole_frames(hours: str, minutes: str, seconds: str, rate_hz: int) -> int:
    """Rounded up to whole milliseconds and one more, as Matroska counts in these: nothing is lost at the end."""
    return int((int(hours) * 3600 + int(minutes) * 60 + float(seconds) + 0.002) * rate_hz)


def _late_frames(frame: Any, rate_hz: int) -> int:
    """Frames of silence before the first one, where the container starts its sound later than its timeline."""
    return max(round(frame.pts * frame.time_base * rate_hz), 0) if frame.pts is not None else 0


def _samples(path: Path | str, frame: Any) -> NDArray[np.float32]:
    """(F, S) float32 of a decoded frame, whole numbers scaled to ±1."""
    raw = frame.to_ndarray()
    samples = raw.T if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels)
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, dtype=np.float32)
    if samples.dtype.kind != "i":
        raise UnreadableAudio(f"{path}: samples of the format {frame.format.name}; export it as 16- or 24-bit audio")
    return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))
