"""Does a corpus teach accompaniment? Two trivial features that tell a stem's own context from that of another song.

Onset-envelope correlation asks for a shared rhythm, chroma similarity for shared harmony. If they cannot tell true
(context, target) pairs from mismatched ones, no model could learn, nor any score show, that context is used.

Legend: S samples at 48 kHz, C channels, F frames of a feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from data_manifests.schema import RATE_HZ

Audio = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

REDUCTION = 3
LOW_RATE_HZ = RATE_HZ // REDUCTION
ONSET_HOP = 256  # 16 ms at 16 kHz: finer than a sixteenth at 200 beats per minute
ONSET_FRAME = 1024
ONSET_BANDS_HZ = (30, 120, 240, 480, 960, 1920, 3840, 7600)
CHROMA_HOP = 4096
CHROMA_FRAME = 8192  # 0.5 s: resolves semitones from about 80 Hz on
CHROMA_RANGE_HZ = (60.0, 2000.0)
ACTIVE_DBFS = -50.0
"""A second whose RMS lies below this is silent."""


class SongAudio(NamedTuple):
    """One song of a corpus: its stems' audio (C, S) at 48 kHz, the role of each, and which of them sing."""

    id: str
    stems: Mapping[str, Audio]
    roles: Mapping[str, str]
    vocals: frozenset[str] = frozenset()


class Features(NamedTuple):
    """Of one window: its onset envelope and its chromagram, flattened; both of zero mean and unit norm, or zero."""

    onsets: Array
    chroma: Array


class PairFeatures(NamedTuple):
    """A target and the sum of the other stems of its song, over the same window."""

    song: str
    role: str
    context: Features
    target: Features


class AdherenceAuc(NamedTuple):
    """How well each score tells true pairs from mismatched ones (0.5: not at all, 1: always), and of how many."""

    onset: float
    chroma: float
    sum: float
    true_pairs: int
    mismatched_pairs: int


class CorpusReport(NamedTuple):
    """What a listener with a ruler finds in a corpus. `activity` is the mean share of active seconds per role."""

    songs: int
    stems: int
    unequal_lengths: tuple[str, ...]
    not_finite: tuple[str, ...]
    silent: tuple[str, ...]
    loudest_sum: float
    activity: Mapping[str, float]
    auc: AdherenceAuc

    @property
    def sound(self) -> bool:
        """Equal lengths, finite samples, no silent stem, no clipping sum."""
        return not (self.unequal_lengths or self.not_finite or self.silent) and self.loudest_sum <= 1.0


def verify(songs: Iterable[SongAudio], *, window_samples: int) -> CorpusReport:
    """Everything `CorpusReport` says, in one pass that holds one song at a time."""
    pairs: list[PairFeatures] = []
    active: dict[str, list[float]] = {}
    unequal, not_finite, silent, peaks, stems = [], [], [], [0.0], 0
    songs_seen = 0
    for song in songs:
        songs_seen += 1
        stems += len(song.stems)
        if len({audio_CS.shape[-1] for audio_CS in song.stems.values()}) != 1:
            unequal.append(song.id)
            continue
        broken = [f"{song.id}/{name}" for name, audio_CS in song.stems.items() if not np.isfinite(audio_CS).all()]
        not_finite += broken
        if broken:
            continue
        for name, audio_CS in song.stems.items():
            share = float(np.mean(active_seconds(audio_CS)))
            active.setdefault(song.roles[name], []).append(share)
            silent += [f"{song.id}/{name}"] if share == 0.0 else []
        peaks.append(float(np.abs(_total(song.stems.values())).max()))
        pairs += song_pairs(song, window_samples=window_samples)
    activity = {role: float(np.mean(shares)) for role, shares in sorted(active.items())}
    return CorpusReport(
        songs_seen, stems, tuple(unequal), tuple(not_finite), tuple(silent), max(peaks), activity, pairs_auc(pairs)
    )


def hard_negatives_auc(songs: Iterable[tuple[SongAudio, SongAudio]], *, window_samples: int) -> AdherenceAuc:
    """True pairs against hard negatives alone: each song comes with another one of its style, key and tempo."""
    pairs: list[PairFeatures] = []
    partner: dict[str, str] = {}
    for song, other in songs:
        partner |= {song.id: other.id, other.id: song.id}
        pairs += song_pairs(song, window_samples=window_samples) + song_pairs(other, window_samples=window_samples)
    return pairs_auc(pairs, partner)


def pairs_auc(pairs: list[PairFeatures], partner: Mapping[str, str] | None = None) -> AdherenceAuc:
    """The ROC AUC of each score: true pairs against their contexts with same-role targets of other songs.

    These are all other songs, or the song's `partner` alone.
    """
    true: list[tuple[float, float]] = []
    false: list[tuple[float, float]] = []
    for left in pairs:
        for right in pairs:
            if left is right:
                true.append(scores(left.context, right.target))
            elif left.role == right.role and _mismatched(left.song, right.song, partner):
                false.append(scores(left.context, right.target))
    if not true or not false:
        raise ValueError(
            f"{len(true)} true and {len(false)} mismatched pairs: expected some of both; "
            "give at least two songs that share a role, with a stem that is active in a whole window"
        )
    positive, negative = np.array(true), np.array(false)
    columns = [(positive[:, 0], negative[:, 0]), (positive[:, 1], negative[:, 1]), (positive.sum(1), negative.sum(1))]
    onset, chroma, total = (roc_auc(high, low) for high, low in columns)
    return AdherenceAuc(onset, chroma, total, len(true), len(false))


def _mismatched(song: str, other: str, partner: Mapping[str, str] | None) -> bool:
    return other == partner[song] if partner else other != song


def roc_auc(positive: Array, negative: Array) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann and Whitney 1947)."""
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def scores(context: Features, target: Features) -> tuple[float, float]:
    """Onset correlation and chroma similarity, each in [-1, 1]."""
    return float(context.onsets @ target.onsets), float(context.chroma @ target.chroma)


def song_pairs(song: SongAudio, *, window_samples: int) -> list[PairFeatures]:
    """Each non-vocal stem with the sum of all others, over the first window in which it is active the longest.

    A stem that is silent in half of the seconds of its best window, or whose song is shorter than a window, gives
    no pair; nor does one that nobody accompanies.
    """
    pairs = []
    for name, audio_CS in song.stems.items():
        others = [other_CS for other, other_CS in song.stems.items() if other != name]
        if name in song.vocals or not others or audio_CS.shape[-1] < window_samples:
            continue
        start = _most_active(audio_CS, window_samples)
        window = slice(start, start + window_samples)
        if np.mean(active_seconds(audio_CS[:, window])) < 0.5:
            continue
        context, target = features(_total(other[:, window] for other in others)), features(audio_CS[:, window])
        pairs.append(PairFeatures(song.id, song.roles[name], context, target))
    return pairs


def active_seconds(audio_CS: Audio) -> npt.NDArray[np.bool_]:
    """One truth value per whole second (at least one): is its RMS above `ACTIVE_DBFS`?"""
    whole = max(1, audio_CS.shape[-1] // RATE_HZ)
    blocks = np.array_split(audio_CS[:, : whole * RATE_HZ], whole, axis=1)
    power = np.array([np.mean(np.square(block, dtype=np.float64)) for block in blocks])
    return power > 10.0 ** (ACTIVE_DBFS / 10)


def _most_active(audio_CS: Audio, window_samples: int) -> int:
    """Start of the first window, on whole seconds, with the most active seconds."""
    active = active_seconds(audio_CS)
    starts = range((audio_CS.shape[-1] - window_samples) // RATE_HZ + 1)
    length = max(1, window_samples // RATE_HZ)
    return RATE_HZ * max(starts, key=lambda start: (int(active[start : start + length].sum()), -start))


def _total(stems: Iterable[Audio]) -> Audio:
    return np.sum(list(stems), axis=0, dtype=np.float32)


def features(audio_CS: Audio) -> Features:
    """The onset envelope and the chromagram of one window, from its mono mix at 16 kHz."""
    mono_S = audio_CS.mean(axis=0)
    low_S = scipy.signal.resample_poly(mono_S, 1, REDUCTION).astype(np.float32)
    return Features(_unit(onset_envelope(low_S)), _unit(chromagram(low_S)))


def onset_envelope(low_S: Audio) -> Array:
    """Half-wave rectified growth of log band energies, summed over bands (F,): where something begins."""
    power_FK = np.abs(_frames(low_S, ONSET_FRAME, ONSET_HOP)) ** 2
    frequency_K = np.fft.rfftfreq(ONSET_FRAME, 1 / LOW_RATE_HZ)
    edges = np.searchsorted(frequency_K, ONSET_BANDS_HZ)
    bands_FB = np.add.reduceat(power_FK, edges[:-1], axis=1)
    level_FB = np.log10(bands_FB / (bands_FB.max() + 1e-12) + 1e-4)
    growth_F = np.maximum(np.diff(level_FB, axis=0), 0.0).sum(axis=1)
    smooth: Array = np.convolve(growth_F, np.hanning(7) / 3.0, mode="same")
    return smooth


def chromagram(low_S: Audio) -> Array:
    """Energy per pitch class and half second (F, 12), compressed, with each frame's mean taken out."""
    magnitude_FK = np.abs(_frames(low_S, CHROMA_FRAME, CHROMA_HOP))
    frequency_K = np.fft.rfftfreq(CHROMA_FRAME, 1 / LOW_RATE_HZ)
    chosen = (frequency_K > CHROMA_RANGE_HZ[0]) & (frequency_K < CHROMA_RANGE_HZ[1])
    pitch_K = 69 + 12 * np.log2(frequency_K[chosen] / 440.0)
    classes_KP = np.exp(-0.5 * (((pitch_K[:, None] - np.arange(12) + 6) % 12 - 6) / 0.35) ** 2)
    chroma_FP = np.sqrt(magnitude_FK[:, chosen] @ classes_KP)
    centred: Array = chroma_FP - chroma_FP.mean(axis=1, keepdims=True)
    return centred


def _frames(low_S: Audio, length: int, hop: int) -> npt.NDArray[np.complex64]:
    """Windowed spectra (F, K) of overlapping frames."""
    padded = np.pad(low_S, (0, max(0, length - len(low_S))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    return scipy.fft.rfft(frames * np.hanning(length).astype(np.float32), axis=1)


def _unit(feature: Array) -> Array:
    """The feature flattened to zero mean and unit norm; a constant one becomes zero and agrees with nothing."""
    centred = (feature - feature.mean()).ravel().astype(np.float64)
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 1e-9 else np.zeros_like(centred)
