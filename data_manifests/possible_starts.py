"""Where the windows of a target may start, and those of its style, in exact arithmetic on its activity per second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.pair_rule import GRID_SAMPLES, PairRule
from data_manifests.schema import RATE_HZ, Track
from data_manifests.start_sets import Intervals, StartSets, concatenated, joined, start_sets, without
from data_manifests.stem_table import StemTable

# Shapes: K stems of a track, P pieces of its timeline, S stems of all tracks, J the stems of a track asked for.
#
# How long a stem is heard in a window that starts at x is a line in x, rising, flat or falling by one sample per
# sample, as long as neither end of the window crosses a second. The timeline is cut there, two pieces per second; a
# piece's starts with enough sound are then its head, its tail, all or none of it, in closed form.


class PossibleStarts(NamedTuple):
    """Target starts in hops of the rule and style starts in steps of the grid, one set per stem of the table.

    `apart_S` says whether the rule's distance between the two can be kept; if so, every target start keeps it with
    some style start, and if not, every target start still has another style start.
    """

    target: StartSets
    style: StartSets
    apart_S: NDArray[np.bool_]


def possible_starts(tracks: Sequence[Track], table: StemTable, rule: PairRule) -> PossibleStarts:
    """The starts of every stem that may be a target; empty sets for the others."""
    targets, styles = [], []
    for index, track in enumerate(tracks):
        if track.frames >= rule.window_samples + GRID_SAMPLES:
            target, style = _track_starts(track, table, slice(*table.first_T[index : index + 2]), rule)
            targets.append(target)
            styles.append(style)
    stems = len(table.kin_S)
    found, style_sets = concatenated(targets), start_sets(concatenated(styles), stems)
    apart = _away_from_style(found, style_sets, rule.style_distance_samples, rule)
    apart_S = np.bincount(apart.owner_I, minlength=stems) > 0
    other = _away_from_style(found, style_sets, 1, rule)
    keeps = [(apart, apart_S[apart.owner_I]), (other, ~apart_S[other.owner_I])]
    kept = concatenated([Intervals(*(column_I[keep_I] for column_I in part)) for part, keep_I in keeps])
    order_I = np.argsort(kept.owner_I, kind="stable")  # both parts are sorted, and no stem is in both
    kept = Intervals(*(column_I[order_I] for column_I in kept))
    return PossibleStarts(target=start_sets(kept, stems), style=style_sets, apart_S=apart_S)


def _away_from_style(found: Intervals, style: StartSets, distance_samples: int, rule: PairRule) -> Intervals:
    """The target starts of `found` with a style start at least so far away."""
    every_S = np.arange(len(style.first_E) - 1)
    size_S = style.size(every_S)
    some_S = np.flatnonzero(size_S)
    low_S, high_S = np.zeros(len(every_S), np.int64), np.full(len(every_S), np.iinfo(np.int64).max)
    last_style_S = style.member(some_S, size_S[some_S] - 1) * GRID_SAMPLES
    first_style_S = style.member(some_S, 0 * some_S) * GRID_SAMPLES
    low_S[some_S] = np.maximum((last_style_S - distance_samples) // rule.hop_samples + 1, 0)
    high_S[some_S] = -(-(first_style_S + distance_samples) // rule.hop_samples)
    return without(found, low_S, high_S)


class _Pieces(NamedTuple):
    """Lines on the pieces of a track: where a piece begins and how long it is; sound at its begin, and the slope."""

    begin_P: NDArray[np.int64]
    length_P: NDArray[np.int64]
    heard_KP: NDArray[np.int64]
    slope_KP: NDArray[np.int64]


class _Parts(NamedTuple):
    """The part of each piece, from `low` to before `high`, counted from the piece's begin."""

    low_KP: NDArray[np.int64]
    high_KP: NDArray[np.int64]


def _track_starts(track: Track, table: StemTable, stems: slice, rule: PairRule) -> tuple[Intervals, Intervals]:
    pieces = _pieces(track, table, stems, rule.window_samples)
    last = track.frames - rule.window_samples
    targets_J = np.flatnonzero(table.may_be_target_S[stems])
    owner_J = targets_J + stems.start
    low_JP, high_JP = _parts(pieces, targets_J, rule.needed_samples(rule.min_style_activity))
    style = _on_grid(pieces, owner_J, low_JP[..., None], high_JP[..., None], last, GRID_SAMPLES)
    low_JP, high_JP = _parts(pieces, targets_J, rule.needed_samples(rule.min_target_activity))
    head_JP, tail_JP = _accompanied(pieces, table, stems, targets_J, rule.needed_samples(rule.min_context_activity))
    low_JP2 = np.stack([low_JP, np.maximum(low_JP, np.maximum(head_JP, tail_JP))], axis=-1)
    high_JP2 = np.stack([np.minimum(high_JP, head_JP), high_JP], axis=-1)
    return _on_grid(pieces, owner_J, low_JP2, high_JP2, last, rule.hop_samples), style


def _pieces(track: Track, table: StemTable, stems: slice, window: int) -> _Pieces:
    """Sound in the window, as lines: in the first piece of a second the window ends `whole` seconds later."""
    whole, rest = divmod(window, RATE_HZ)
    count = (track.frames - window) // RATE_HZ + 1
    first, kinds = int(table.second_S[stems.start]), stems.stop - stems.start
    width = -(-track.frames // RATE_HZ) + 2
    active_KA = table.active_A[first : first + kinds * width].reshape(kinds, width).astype(np.int64)
    before_KA = table.before_A[first : first + kinds * width].reshape(kinds, width).astype(np.int64)
    here_KA, end_KA, after_KA = (active_KA[:, at : at + count] for at in (0, whole, whole + 1))
    counted_KA = before_KA[:, :count]
    heard_KA2 = np.stack(
        [
            RATE_HZ * (before_KA[:, whole : whole + count] - counted_KA) + rest * end_KA,
            RATE_HZ * (before_KA[:, whole + 1 : whole + 1 + count] - counted_KA) - (RATE_HZ - rest) * here_KA,
        ],
        axis=-1,
    )
    slope_KA2 = np.stack([end_KA - here_KA, after_KA - here_KA], axis=-1)
    begin_A = np.arange(count) * RATE_HZ
    return _Pieces(
        begin_P=np.stack([begin_A, begin_A + RATE_HZ - rest], axis=-1).ravel(),
        length_P=np.tile([RATE_HZ - rest, rest], count),
        heard_KP=heard_KA2.reshape(kinds, -1),
        slope_KP=slope_KA2.reshape(kinds, -1),
    )


def _parts(pieces: _Pieces, stems_J: NDArray[np.int64], needed: int) -> _Parts:
    """Where the stems are heard for at least `needed` samples of the window."""
    missing_JP = needed - pieces.heard_KP[stems_J]
    slope_JP, length_P = pieces.slope_KP[stems_J], pieces.length_P
    rising_JP = np.minimum(np.maximum(missing_JP, 0), length_P)
    falling_JP = np.minimum(np.maximum(1 - missing_JP, 0), length_P)
    level_JP = np.where(missing_JP <= 0, length_P, 0)
    return _Parts(
        low_KP=np.where(slope_JP > 0, rising_JP, 0),
        high_KP=np.where(slope_JP > 0, length_P, np.where(slope_JP < 0, falling_JP, level_JP)),
    )


def _accompanied(
    pieces: _Pieces, table: StemTable, stems: slice, targets_J: NDArray[np.int64], needed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Up to where from the piece's begin, and from where to its end, another stem than the target or a copy is heard.

    Every part is a head or a tail of its piece, so the union over the others is the longest head and longest tail.
    """
    others = np.flatnonzero(table.may_be_context_S[stems])
    low_KP, high_KP = _parts(pieces, others, needed)
    head_KP = np.where(low_KP == 0, high_KP, 0)
    tail_KP = np.where(high_KP == pieces.length_P, low_KP, RATE_HZ)
    kin_K = table.kin_S[stems]
    head_JP = np.zeros((len(targets_J), len(pieces.begin_P)), dtype=np.int64)
    tail_JP = np.full_like(head_JP, RATE_HZ)
    for row, target in enumerate(targets_J):
        foreign = np.flatnonzero(kin_K[others] != kin_K[target])
        head_JP[row] = head_KP[foreign].max(axis=0, initial=0)
        tail_JP[row] = tail_KP[foreign].min(axis=0, initial=RATE_HZ)
    return head_JP, tail_JP


def _on_grid(
    pieces: _Pieces, owner_J: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64], last: int, hop: int
) -> Intervals:
    """Parts of pieces as intervals of hops, none after the last start; `low` and `high` are J × P × parts."""
    begin_P1 = pieces.begin_P[:, None]
    row, piece, part = np.nonzero(low < high)
    low_I = begin_P1[piece, 0] + low[row, piece, part]
    high_I = np.minimum(begin_P1[piece, 0] + high[row, piece, part], last + 1)
    low_I, high_I = -(-low_I // hop), -(-high_I // hop)
    some_I = low_I < high_I
    return joined(Intervals(owner_J[row[some_I]], low_I[some_I], high_I[some_I]))
