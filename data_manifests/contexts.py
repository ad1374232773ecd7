"""Which other stems make the context of a row: a subset, by the rule, of those that are heard in its window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.draws import below, unit
from data_manifests.pair_rule import AllHeard, EachWithProbability, PairRule, UniformSize
from data_manifests.stem_table import StemTable

# Shapes: N rows, M stems of all rows together.


class Members(NamedTuple):
    """Stems of rows, ordered by row, then stem: rows are counted from 0, stems are those of the table."""

    row_M: NDArray[np.int64]
    stem_M: NDArray[np.int64]

    def where(self, keeps_M: NDArray[np.bool_]) -> Members:
        return Members(self.row_M[keeps_M], self.stem_M[keeps_M])


class Windows(NamedTuple):
    """Per row: its number in the plan, its track, its target as a row of the stem table, and where it starts."""

    index_N: NDArray[np.int64]
    track_N: NDArray[np.int64]
    target_N: NDArray[np.int64]
    start_samples_N: NDArray[np.int64]


def context_stems(windows: Windows, stems: StemTable, rule: PairRule) -> Members:
    """The context of every row, never empty where any other stem is heard."""
    heard = _heard_others(windows, stems, rule)
    match rule.context_rule:
        case AllHeard():
            return heard
        case EachWithProbability(probability=probability):
            return heard.where(
                (_draws(windows, heard, stems, rule) < probability) | (_ranks(windows, heard, stems, rule) == 0)
            )
        case UniformSize():
            size_N = 1 + below(
                np.maximum(np.bincount(heard.row_M, minlength=len(windows.index_N)), 1),
                rule.seed,
                "context size",
                windows.index_N,
            )
            return heard.where(_ranks(windows, heard, stems, rule) < size_N[heard.row_M])


def _heard_others(windows: Windows, stems: StemTable, rule: PairRule) -> Members:
    """Every other stem that is heard in the window: no copy of the target, and one of those that are copies."""
    everyone = _stems_of(windows.track_N, stems)
    foreign_M = stems.kin_S[everyone.stem_M] != stems.kin_S[windows.target_N[everyone.row_M]]
    others = everyone.where(foreign_M & stems.may_be_context_S[everyone.stem_M])
    heard_M = stems.heard_samples(others.stem_M, windows.start_samples_N[others.row_M], rule.window_samples)
    return _one_of_each(others.where(heard_M >= rule.needed_samples(rule.min_context_activity)), stems)


def _stems_of(track_N: NDArray[np.int64], stems: StemTable) -> Members:
    """All stems of every row's track."""
    count_N = stems.first_T[track_N + 1] - stems.first_T[track_N]
    earlier_N = np.cumsum(count_N) - count_N
    row_M = np.repeat(np.arange(len(track_N)), count_N)
    return Members(row_M, np.arange(len(row_M)) + np.repeat(stems.first_T[track_N] - earlier_N, count_N))


def _one_of_each(heard: Members, stems: StemTable) -> Members:
    """Of copies the first: two would double their level, or cancel where one is inverted."""
    kin_M = stems.kin_S[heard.stem_M]
    if (kin_M == heard.stem_M).all():
        return heard
    _, firsts = np.unique(heard.row_M * np.int64(len(stems.kin_S)) + kin_M, return_index=True)
    return heard.where(np.isin(np.arange(len(kin_M)), firsts))


def _draws(windows: Windows, members: Members, stems: StemTable, rule: PairRule) -> NDArray[np.float64]:
    """One number a row and stem, whatever other stems there are."""
    return unit(rule.seed, "context", windows.index_N[members.row_M], stems.key_S[members.stem_M])


def _ranks(windows: Windows, members: Members, stems: StemTable, rule: PairRule) -> NDArray[np.int64]:
    """The place of each stem, from 0, in a random order of its row's."""
    order_M = np.lexsort((_draws(windows, members, stems, rule), members.row_M))
    begin_M = np.searchsorted(members.row_M, members.row_M)
    rank_M = np.empty_like(order_M)
    rank_M[order_M] = np.arange(len(order_M))
    return rank_M - begin_M
