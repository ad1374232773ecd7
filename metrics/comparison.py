"""Two arms on the same items: is one better, or would any pair of equal arms differ as much?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metrics.intervals import Interval, combined, estimate
from metrics.set_statistics import SetStatistic

# Shapes: M items, T tracks.

SWAPS = 999  # the smallest p is 0.001
ROUNDING = 1e-9  # of a score


class Comparison(NamedTuple):
    """The second arm's score less the first's, with its interval, and the two-sided p of equal arms."""

    difference: Interval
    p_value: float


def paired_comparison(
    statistic: SetStatistic, track_ids: Sequence[str], *, seed: int, swaps: int = SWAPS, level: float = 0.95
) -> Comparison:
    """How two arms differ on the same M items; rows i and M + i of the statistic's pool are item i of either arm.

    The interval leaves tracks out of both arms at once. p is the share of random exchanges of the arms' items, whole
    tracks at a time, that differ at least as much (the observed one counted): if the arms are equal no exchange can
    matter, so p is at most 0.05 in at most 5 % of cases whatever the metric. It asks `swaps` times two evaluations.
    """
    if swaps < 1:
        raise ValueError(f"{swaps} swaps: at least one is needed, and {SWAPS} for a p of 0.001")
    if statistic.pool_size != 2 * len(track_ids):
        raise ValueError(f"{statistic.pool_size} rows of two arms for {len(track_ids)} items; stack both arms' items")
    track_M = np.unique(np.asarray(track_ids, dtype=str), return_inverse=True)[1]
    first_M = np.arange(len(track_M))
    second_M = first_M + len(track_M)
    before = estimate(SetStatistic(statistic, len(track_M)), track_ids)
    after = estimate(SetStatistic(lambda chosen_M: statistic(chosen_M + len(track_M)), len(track_M)), track_ids)
    difference = combined(lambda earlier, later: later - earlier, before, after)
    # An exchange of all tracks, or of equal items, is as large as what was seen but for rounding.
    least = abs(difference.value) - ROUNDING * max(abs(before.value), abs(after.value))
    rng = np.random.default_rng(seed)
    as_large = 1
    for _ in range(swaps):
        swapped_M = rng.integers(2, size=track_M.max() + 1, dtype=bool)[track_M]
        mixed = statistic(np.where(swapped_M, first_M, second_M)) - statistic(np.where(swapped_M, second_M, first_M))
        as_large += abs(mixed) >= least
    return Comparison(difference.interval(level), as_large / (swaps + 1))
