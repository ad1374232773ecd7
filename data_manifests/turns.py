"""Whose turn row i is: which corpus by its weight, which of its tracks, and how often that one had its turn before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.draws import below

# Shapes: N rows, P tracks of a pool.

SHARES = 1_000_000
"""Weights are kept as parts per million: exact integers, so that the row of a corpus can be counted at any distance."""

MAX_ROWS = 10**12
"""Rows are numbered below this, so that no product of a row number and a share leaves 64 bits."""


class Pool(NamedTuple):
    """Tracks that take turns among themselves, and how many of the plan's shares they have."""

    name: str
    share: int
    tracks_P: NDArray[np.int64]


class Turns(NamedTuple):
    """Per row: the track, and its number of earlier turns."""

    track_N: NDArray[np.int64]
    visit_N: NDArray[np.int64]


def pools(tracks_of: Mapping[str, NDArray[np.int64]], weights: tuple[tuple[str, float], ...]) -> tuple[Pool, ...]:
    """One pool per weighted corpus; without weights one of all tracks. Raises ValueError for an unknown corpus.

    `tracks_of` names the usable tracks of each corpus.
    """
    if not weights:
        everyone = np.sort(np.concatenate([np.empty(0, np.int64), *tracks_of.values()]))
        return (Pool("", 1, everyone),)
    unknown = sorted({name for name, _ in weights} - set(tracks_of))
    if unknown:
        raise ValueError(
            f"weights name {', '.join(map(repr, unknown))}, but the corpora with usable tracks are "
            f"{', '.join(map(repr, sorted(tracks_of))) or 'none'}; name one of these"
        )
    total = sum(weight for _, weight in weights)
    return tuple(
        Pool(name, max(round(weight / total * SHARES), 1), tracks_of[name]) for name, weight in sorted(weights)
    )


def turns(plan: tuple[Pool, ...], row_N: NDArray[np.int64], seed: int) -> Turns:
    """Whose turns the rows are.

    The rows of a pool are spread evenly: after any number of rows, each has had its share to within a row per pool.
    Each round of a pool's rows visits all its tracks once, in an order of the round's own.
    """
    track_N, visit_N = np.zeros_like(row_N), np.zeros_like(row_N)
    waiting = np.arange(len(row_N))
    place = row_N  # among the rows of the pools that are left
    left = sum(pool.share for pool in plan)
    for number, pool in enumerate(plan):
        earlier = place * pool.share // left
        mine = (place + 1) * pool.share // left > earlier
        track_N[waiting[mine]], visit_N[waiting[mine]] = _pool_turns(pool, number, earlier[mine], seed)
        waiting, place = waiting[~mine], (place - earlier)[~mine]
        left -= pool.share
    return Turns(track_N, visit_N)


def golden_step(size_S: NDArray[np.int64]) -> NDArray[np.int64]:
    """The step nearest above the golden section of each size that visits every place before one comes again."""
    step_S = np.maximum(np.rint(0.6180339887498949 * size_S).astype(np.int64), 1)
    while (shared := np.gcd(step_S, size_S) > 1).any():
        step_S[shared] += 1
    return step_S


def _pool_turns(pool: Pool, number: int, turn_N: NDArray[np.int64], seed: int) -> Turns:
    """An affine permutation per round: every step that shares no factor with the number of tracks visits them all."""
    count = len(pool.tracks_P)
    round_N, place_N = np.divmod(turn_N, count)
    steps = np.flatnonzero(np.gcd(np.arange(count + 1), count) == 1)
    number_N = np.full_like(round_N, number)
    step_N = steps[below(np.full_like(round_N, len(steps)), seed, "step", number_N, round_N)]
    offset_N = below(np.full_like(round_N, count), seed, "offset", number_N, round_N)
    return Turns(pool.tracks_P[(place_N * step_N + offset_N) % count], round_N)
