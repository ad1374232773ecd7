"""What one pass over a stem finds: activity, peak, loudness, band limit, and a sketch that tells copies apart.

A stem is heard as windows will hold it: the sum of its files, each placed, levelled and on its side, at 48 kHz
stereo. It passes in blocks of one second, so that two hours take no more memory than two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from data_manifests.schema import RATE_HZ, ListedFile
from tasks.audio import UnreadableAudio, read_rated_blocks, stereo_blocks
from tasks.loudness import Loudness

# Shapes: F frames of a file at its own rate, S channels (2 from here on), N samples at 48 kHz, K numbers of a sketch,
# W frames and B bins of a spectrum.

CLIPPED_RUN = 3
"""So many samples in a row at full scale, in a file as it is stored, are taken as clipping."""

SPECTRUM_SAMPLES = 4096
ROLL_OFF = 0.999
DULL_ABOVE_HZ, DULL_POWER = 14_000, 1e-8
"""A stem with less than this share of its power above 14 kHz is band-limited: lossy, or of a low sample rate."""

SKETCH_SIZE = 512
DECIMATION = 6  # 48 to 8 kHz; a mean of six samples will do, as copies alias alike


class BrokenFile(UnreadableAudio):
    """File number `index` of a stem is no sound audio; `reason` does not name it."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"file {index}: {reason}")
        self.index, self.reason = index, reason


@dataclass
class HeardFile:
    """A file as it was found on the way through it."""

    channels: int = 0
    rate_hz: int = 0
    frames: int = 0
    is_clipped: bool = False


@dataclass
class Heard:
    """A stem as it was heard; levels are those of whole or part seconds of the track's 48 kHz timeline."""

    files: tuple[HeardFile, ...]
    levels_db: list[float] = field(default_factory=list)
    peak: float = 0.0
    is_mono: bool = True
    spectrum_B: NDArray[np.float64] = field(default_factory=lambda: np.zeros(SPECTRUM_SAMPLES // 2 + 1))
    sketch_K: NDArray[np.float64] = field(default_factory=lambda: np.zeros(SKETCH_SIZE))
    loudness: Loudness = field(default_factory=Loudness)

    def add(self, second: int, audio_SN: NDArray[np.float32]) -> None:
        left_N, right_N = audio_SN
        highest = max(float(audio_SN.max()), -float(audio_SN.min()))
        self.peak = max(self.peak, highest)
        if highest == 0.0:
            self.levels_db.append(-200.0)
            self.loudness.add(audio_SN)
            return
        power = float(np.vdot(left_N, left_N) + np.vdot(right_N, right_N)) / audio_SN.size
        self.levels_db.append(10.0 * np.log10(max(power, 1e-20)))
        is_mono = np.array_equal(left_N, right_N)
        self.is_mono = self.is_mono and is_mono
        self.spectrum_B += _spectrum(audio_SN[:1] if is_mono else audio_SN) * (2 if is_mono else 1)
        self.sketch_K += _sketch(second, audio_SN)
        self.loudness.add(audio_SN)

    @property
    def is_clipped(self) -> bool:
        return any(file.is_clipped for file in self.files)

    @property
    def band_limit_hz(self) -> int | None:
        """Below it lie 99.9 % of the power; None for digital silence."""
        below_B = np.cumsum(self.spectrum_B)
        if below_B[-1] <= 0.0:
            return None
        return round(int(np.searchsorted(below_B, ROLL_OFF * below_B[-1])) * RATE_HZ / SPECTRUM_SAMPLES)

    @property
    def is_dull(self) -> bool:
        above = self.spectrum_B[DULL_ABOVE_HZ * SPECTRUM_SAMPLES // RATE_HZ :].sum()
        return bool(above < DULL_POWER * self.spectrum_B.sum())

    @property
    def unit_sketch(self) -> NDArray[np.float16]:
        """The sketch at length 1: the product of two is the stems' correlation at lag 0. Zeros for silence.

        Near 0.98 within 0.002 (standard deviation).
        """
        length = float(np.linalg.norm(self.sketch_K))
        return (self.sketch_K / length if length > 0.0 else self.sketch_K).astype(np.float16)


def hear(root: Path, files: tuple[ListedFile, ...]) -> Heard:
    """All of a stem, from beginning to end. Raises BrokenFile, which says which of the files is no sound audio."""
    found = tuple(HeardFile() for _ in files)
    heard = Heard(files=found)
    streams = [_seconds(root, files, index, into) for index, into in enumerate(found)]
    for second, blocks in enumerate(zip_longest(*streams)):
        heard.add(second, _sum([block_SN for block_SN in blocks if block_SN is not None]))
    return heard


def _sum(blocks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len(blocks) == 1:
        return np.ascontiguousarray(blocks[0])
    sum_SN = np.zeros((2, max(block_SN.shape[1] for block_SN in blocks)), dtype=np.float32)
    for block_SN in blocks:
        sum_SN[:, : block_SN.shape[1]] += block_SN
    return sum_SN


def _seconds(root: Path, files: tuple[ListedFile, ...], index: int, found: HeardFile) -> Iterator[NDArray[np.float32]]:
    """The file as (2, 48000) blocks of the track's timeline, the last one shorter."""
    file = files[index]
    try:
        yield from _levelled(root, file, found)
    except UnreadableAudio as error:
        raise BrokenFile(index, str(error).removeprefix(f"{root / file.path}: ")) from error


def _levelled(root: Path, file: ListedFile, found: HeardFile) -> Iterator[NDArray[np.float32]]:
    gain = np.float32(10.0 ** (file.gain_db / 20.0))
    silent_side = {"left": 1, "right": 0}.get(file.side)
    for block_SN in _on_timeline(root, file, found):
        if not file.gain_db and silent_side is None:
            yield block_SN
            continue
        levelled_SN = block_SN * gain
        if silent_side is not None:
            levelled_SN[silent_side] = 0.0
        yield levelled_SN


def _on_timeline(root: Path, file: ListedFile, found: HeardFile) -> Iterator[NDArray[np.float32]]:
    skip = -round(file.start_s * RATE_HZ)
    waiting = [np.zeros((2, -skip), dtype=np.float32)] if skip < 0 else []
    length = max(-skip, 0)
    blocks = _noted(read_rated_blocks(root / file.path, None, file.stream), found)
    for block_SN in stereo_blocks(blocks):
        skipped, skip = max(skip, 0), skip - block_SN.shape[1]
        waiting.append(block_SN[:, skipped:])
        length += waiting[-1].shape[1]
        while length >= RATE_HZ:
            joined_SN = waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1)
            yield joined_SN[:, :RATE_HZ]
            length -= RATE_HZ
            waiting = [joined_SN[:, RATE_HZ:]] if length else []
    if length:
        yield np.concatenate(waiting, axis=1)


def _noted(
    blocks: Iterator[tuple[NDArray[np.float32], int]], found: HeardFile
) -> Iterator[tuple[NDArray[np.float32], int]]:
    for block_FS, rate_hz in blocks:
        found.rate_hz, found.channels = rate_hz, block_FS.shape[1]
        found.frames += len(block_FS)
        found.is_clipped = found.is_clipped or _is_clipped(block_FS)
        yield block_FS, rate_hz


def _is_clipped(block_FS: NDArray[np.float32]) -> bool:
    if max(float(block_FS.max()), -float(block_FS.min())) < 32767 / 32768:
        return False
    full_FS = np.abs(block_FS) >= 32767 / 32768
    runs_FS = full_FS[CLIPPED_RUN - 1 :].copy()
    for shift in range(CLIPPED_RUN - 1):
        runs_FS &= full_FS[shift : shift + len(runs_FS)]
    return bool(runs_FS.any())


def _spectrum(audio_SN: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of each bin, summed over channels and Hann windows side by side; a remainder is passed over."""
    windows = max(audio_SN.shape[1] // SPECTRUM_SAMPLES, 1)
    samples = windows * SPECTRUM_SAMPLES
    if audio_SN.shape[1] < samples:
        audio_SN = np.pad(audio_SN, ((0, 0), (0, samples - audio_SN.shape[1])))
    framed_WN = audio_SN[:, :samples].reshape(-1, SPECTRUM_SAMPLES) * _HANN_N
    bins_WB = rfft(framed_WN)
    return (bins_WB.real**2 + bins_WB.imag**2).sum(axis=0, dtype=np.float64)


_HANN_N = np.hanning(SPECTRUM_SAMPLES).astype(np.float32)


def _sketch(second: int, audio_SN: NDArray[np.float32]) -> NDArray[np.float64]:
    """The second's mono waveform at 8 kHz without its mean, under random signs, folded to K numbers.

    Products of such sketches are, on average, those of the waveforms (count sketch, Charikar et al. 2002); the signs
    of a second are the same for every stem and differ from second to second.
    """
    whole = audio_SN.shape[1] - audio_SN.shape[1] % DECIMATION
    mono_N = (audio_SN[0, :whole] + audio_SN[1, :whole]).reshape(-1, DECIMATION).sum(axis=1)
    if not len(mono_N):
        return np.zeros(SKETCH_SIZE)
    folded = np.zeros(-(-len(mono_N) // SKETCH_SIZE) * SKETCH_SIZE)
    folded[: len(mono_N)] = mono_N - mono_N.mean()
    folded *= np.random.default_rng((8, second)).integers(0, 2, len(folded), dtype=np.int8) * 2.0 - 1.0
    return folded.reshape(-1, SKETCH_SIZE).sum(axis=0)
