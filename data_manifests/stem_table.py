"""All stems of all tracks as columns: what they may be, whose copies they are, and when they are heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.draws import text_bits
from data_manifests.schema import RATE_HZ, Stem, Track

# Shapes: T tracks, S stems of all tracks, N questions. Activity lies flat, stem after stem, each track's stems with
# equally many seconds: A seconds of all stems together.

COPY_FLAGS = ("duplicate_of:", "same_as:")
"""Flags that name another stem of the same track with the same sound."""

PADDING_S = 2
"""Silent seconds after each stem, so that a question about a window's end needs no care at the track's."""


class StemTable(NamedTuple):
    """The stems of track t are rows first_T[t] to first_T[t + 1] - 1.

    `kin_S` is equal for the stems of a track that are copies of one another, in whatever direction and over however
    many steps the flags say so. `before_A` counts the active seconds of all rows before each second.
    """

    first_T: NDArray[np.int64]
    key_S: NDArray[np.uint64]
    kin_S: NDArray[np.int64]
    may_be_target_S: NDArray[np.bool_]
    may_be_context_S: NDArray[np.bool_]
    second_S: NDArray[np.int64]
    active_A: NDArray[np.uint8]
    before_A: NDArray[np.int32]

    def heard_samples(
        self, stem_N: NDArray[np.int64], start_N: NDArray[np.int64], window_samples: int
    ) -> NDArray[np.int64]:
        """For how many samples of the window each stem is heard, exactly."""
        return self._heard_before(stem_N, start_N + window_samples) - self._heard_before(stem_N, start_N)

    def _heard_before(self, stem_N: NDArray[np.int64], sample_N: NDArray[np.int64]) -> NDArray[np.int64]:
        whole_N, rest_N = np.divmod(sample_N, RATE_HZ)
        second_N = self.second_S[stem_N] + whole_N
        return self.before_A[second_N] * np.int64(RATE_HZ) + self.active_A[second_N] * rest_N


def stem_table(tracks: Sequence[Track]) -> StemTable:
    """The stems of the tracks, in their order."""
    counts_T = [len(track.stems) for track in tracks]
    first_T = np.concatenate(([0], np.cumsum(counts_T, dtype=np.int64)))
    seconds_S = np.repeat([-(-track.frames // RATE_HZ) + PADDING_S for track in tracks], counts_T).astype(np.int64)
    rows = [_row(track, stem) for track in tracks for stem in track.stems]
    kin_S = np.array([first + kin for first, track in zip(first_T, tracks, strict=False) for kin in _kin(track.stems)])
    vocal_kin = kin_S[[row.is_vocal for row in rows]] if rows else kin_S
    target_S = np.array([row.may_be_target for row in rows], dtype=bool) & ~np.isin(kin_S, vocal_kin)
    active_A = np.frombuffer(b"".join(row.active for row in rows), dtype=np.uint8)
    before_A = np.zeros(len(active_A) + 1, dtype=np.int32)  # in place: these are the table's largest columns
    np.cumsum(active_A, out=before_A[1:])
    return StemTable(
        first_T=first_T,
        key_S=np.array([row.key for row in rows], dtype=np.uint64),
        kin_S=kin_S.astype(np.int64),
        may_be_target_S=target_S,
        may_be_context_S=np.array([row.may_be_context for row in rows], dtype=bool),
        second_S=np.concatenate(([0], np.cumsum(seconds_S)))[:-1],
        active_A=active_A,
        before_A=before_A,
    )


class _Row(NamedTuple):
    key: int
    is_vocal: bool
    may_be_target: bool
    may_be_context: bool
    active: bytes


def _row(track: Track, stem: Stem) -> _Row:
    seconds = -(-track.frames // RATE_HZ)
    return _Row(
        key=text_bits(f"{track.id}\n{stem.id}"),
        is_vocal=stem.is_vocal,
        may_be_target=stem.usable_as_target,
        may_be_context=stem.usable_in_context,
        active=bytes(stem.activity[:seconds]).ljust(seconds + PADDING_S, b"\0"),
    )


def _kin(stems: Sequence[Stem]) -> list[int]:
    """For each stem the place of the first of its copies: itself, where it has none before it."""
    kin = list(range(len(stems)))
    if not any(stem.flags for stem in stems):
        return kin
    place = {stem.id: index for index, stem in enumerate(stems)}
    for index, stem in enumerate(stems):
        for original in _originals(stem):
            if original in place:
                one, other = sorted((kin[index], kin[place[original]]))
                kin = [one if value == other else value for value in kin]
    return kin


def _originals(stem: Stem) -> list[str]:
    return [flag.removeprefix(prefix) for flag in stem.flags for prefix in COPY_FLAGS if flag.startswith(prefix)]
