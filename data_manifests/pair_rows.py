"""Rows of the pair plan as columns, many worked out at once, each from its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.contexts import Windows, context_stems
from data_manifests.draws import below, unit
from data_manifests.pair_rule import GRID_SAMPLES, Hop, PairRule, RandomStarts
from data_manifests.possible_starts import PossibleStarts, possible_starts
from data_manifests.schema import Track
from data_manifests.stem_table import StemTable, stem_table
from data_manifests.target_turns import Chosen, TargetTurns, target_turns
from data_manifests.turns import Pool, golden_step, pools, turns

# Shapes: N rows, K style segments of a row, M context stems of all rows together, S stems of all tracks.


class PairRows(NamedTuple):
    """Many rows as columns. `track_N` counts the plan's tracks; `target_N` and `context_M` the stems of that track.

    The contexts of row n are `context_M[context_first[n]:context_first[n + 1]]`. `style_shared_N` is the greatest
    fraction of the target window that a style window shares, and 0 where all are disjoint; `style_may_be_apart_N`
    says whether the stem allows the distance that the rule asks for.
    """

    index_N: NDArray[np.int64]
    track_N: NDArray[np.int64]
    target_N: NDArray[np.int64]
    start_samples_N: NDArray[np.int64]
    style_starts_samples_NK: NDArray[np.int64]
    style_shared_N: NDArray[np.float64]
    style_may_be_apart_N: NDArray[np.bool_]
    context_gain_db_N: NDArray[np.float64]
    context_first: NDArray[np.int64]
    context_M: NDArray[np.int64]


class RowTable(NamedTuple):
    """All that rows are worked out from."""

    rule: PairRule
    stems: StemTable
    starts: PossibleStarts
    targets: TargetTurns
    pools: tuple[Pool, ...]

    def rows(self, first: int, stop: int) -> PairRows:
        """Rows `first` to `stop - 1`."""
        index_N = np.arange(first, stop, dtype=np.int64)
        track_N, round_N = turns(self.pools, index_N, self.rule.seed)
        chosen = self.targets.chosen(track_N, round_N, self.rule.seed)
        start_N = self._target_starts(chosen, index_N)
        windows = Windows(index_N, track_N, chosen.stem_N, start_N)
        style_NK = self._style_starts(windows)
        row_M, context_M = context_stems(windows, self.stems, self.rule)
        distance_N = np.abs(style_NK - start_N[:, None]).min(axis=1)
        low_db, high_db = self.rule.context_gain_db
        first_stem_N = self.stems.first_T[track_N]
        return PairRows(
            index_N=index_N,
            track_N=track_N,
            target_N=chosen.stem_N - first_stem_N,
            start_samples_N=start_N,
            style_starts_samples_NK=style_NK,
            style_shared_N=np.maximum(1.0 - distance_N / self.rule.window_samples, 0.0),
            style_may_be_apart_N=self.starts.apart_S[chosen.stem_N],
            context_gain_db_N=low_db + (high_db - low_db) * unit(self.rule.seed, "context gain", index_N),
            context_first=np.searchsorted(row_M, np.arange(len(index_N) + 1)),
            context_M=context_M - first_stem_N[row_M],
        )

    def _target_starts(self, chosen: Chosen, index_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the target windows start."""
        starts, seed = self.starts.target, self.rule.seed
        size_N = starts.size(chosen.stem_N)
        match self.rule.start_rule:
            case Hop():
                offset_N = below(size_N, seed, "start", self.stems.key_S[chosen.stem_N])
                place_N = (offset_N + chosen.visit_N % size_N * golden_step(size_N)) % size_N
            case RandomStarts():
                place_N = below(size_N, seed, "start", index_N)
        return starts.member(chosen.stem_N, place_N) * self.rule.hop_samples

    def _style_starts(self, windows: Windows) -> NDArray[np.int64]:
        """Starts of the style segments: far enough from the target where possible, else as far as possible.

        One is drawn from each of K equal parts of the possible starts, so that they rarely overlap one another.
        """
        stem_N, start_N = windows.target_N, windows.start_samples_N
        styles, distance, parts = self.starts.style, self.rule.style_distance_samples, self.rule.style_segments
        before_N = styles.below(stem_N, (start_N - distance) // GRID_SAMPLES + 1)
        after_N = styles.below(stem_N, -(-(start_N + distance) // GRID_SAMPLES))
        far_N = np.maximum(before_N + styles.size(stem_N) - after_N, 1)
        apart_N, farthest_N = self.starts.apart_S[stem_N], self._farthest(stem_N, start_N)
        style_NK = np.empty((len(stem_N), parts), dtype=np.int64)
        for part in range(parts):
            low_N, high_N = part * far_N // parts, (part + 1) * far_N // parts
            part_N = np.full_like(stem_N, part)
            drawn_N = below(np.maximum(high_N - low_N, 1), self.rule.seed, "style", windows.index_N, part_N)
            place_N = np.minimum(low_N + drawn_N, far_N - 1)
            place_N += np.where(place_N < before_N, 0, after_N - before_N)
            far_start_N = styles.member(stem_N, np.where(apart_N, place_N, 0)) * GRID_SAMPLES
            style_NK[:, part] = np.where(apart_N, far_start_N, farthest_N)
        return style_NK

    def _farthest(self, stem_N: NDArray[np.int64], start_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The style start farthest from the target: the first or the last."""
        styles = self.starts.style
        first_N = styles.member(stem_N, np.zeros_like(stem_N)) * GRID_SAMPLES
        last_N = styles.member(stem_N, styles.size(stem_N) - 1) * GRID_SAMPLES
        return np.where(last_N - start_N > start_N - first_N, last_N, first_N)


def row_table(tracks: Sequence[Track], rule: PairRule) -> RowTable:
    """The table of the tracks. Raises ValueError for a weight of a corpus that has no usable track."""
    stems = stem_table(tracks)
    starts = possible_starts(tracks, stems, rule)
    targets = target_turns(tracks, stems, starts.target.size(np.arange(len(stems.kin_S))) > 0)
    usable = targets.usable_tracks
    corpora = np.array([tracks[index].corpus for index in usable], dtype=object)
    tracks_of = {name: usable[corpora == name] for name in sorted(set(corpora))}
    weights = rule.weights if len(usable) else ()  # without any track the plan says why, corpus or not
    return RowTable(rule, stems, starts, targets, pools(tracks_of, weights))


def concatenated_rows(blocks: Sequence[PairRows]) -> PairRows:
    """The blocks in one."""
    columns = PairRows(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
    sizes = np.concatenate([np.diff(block.context_first) for block in blocks])
    return columns._replace(context_first=np.concatenate(([0], np.cumsum(sizes))))
